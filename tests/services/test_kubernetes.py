"""The cluster of a machine: one for all who ask, and nothing is left of it, however it and they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.services.kubernetes import machine
from tests.services.kubernetes.cluster import ROOT, down, end, inside, is_ready, running, stay, up, used
from tests.services.kubernetes.node import node_log
from tests.services.kubernetes.programs import programs, why_no_cluster
from tests.services.kubernetes.site import Site

# Not the one of the other tests.
SITE = Site(7)
UP = "from tests.services.kubernetes.cluster import up; from tests.services.kubernetes.site import Site; up(Site(7))"

pytestmark = pytest.mark.timeout(3600)

if reason := why_no_cluster():
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture
def site() -> Iterator[Site]:
    programs()
    down(SITE)
    yield SITE
    SITE.users.unlink(missing_ok=True)
    down(SITE)


def left(site: Site) -> dict[str, object]:
    """What of this machine a cluster could change."""
    groups = Path("/sys/fs/cgroup")
    settings = (
        "kernel/panic",
        "kernel/panic_on_oops",
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "net/ipv4/ip_forward",
    )
    links = sorted(path.name for path in Path("/sys/class/net").iterdir())
    rules = [said("iptables", "--table", table, "--list-rules") for table in ("filter", "nat", "mangle")]
    return {
        "folders": [
            path for path in ("/var/lib/cni", "/var/lib/kubelet", "/var/log/containers") if Path(path).exists()
        ],
        "groups": [*groups.glob(site.name), *groups.glob(f"*/{site.name}")],
        "links": [name for name in links if name.startswith("dl-") and name != Site().host_link],
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if "docker" not in line],
        "names of networks": [path.name for path in Path("/run/netns").glob("*")],
        "processes": [process.pid for process in psutil.process_iter() if belongs(process, site)],
        "routes": [line for line in said("ip", "route").splitlines() if site.node_address in line],
        "rules": rules,
        "settings": {name: (Path("/proc/sys") / name).read_text() for name in settings},
        "site": site.folder.exists(),
    }


def belongs(process: psutil.Process, site: Site) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return any(f"{site.folder}/" in word for word in words)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def kubectl(site: Site, *words: str) -> str:
    return said(str(site.kubectl), "--kubeconfig", str(site.kubeconfig), *words)


def start() -> subprocess.Popen[bytes]:
    """Ask for the cluster, in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", UP], cwd=ROOT)


def owner(site: Site) -> int:
    return int(site.lock.read_text())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def starts(site: Site, component: str) -> bool:
    """Whether the start of a cluster has come so far."""
    return running(site) and node_log(site).exists() and component in node_log(site).read_text()


def test_two_ask_at_once_and_share_it_and_nothing_is_left(site: Site) -> None:
    before = left(site)
    asking = [start(), start()]
    assert [process.wait() for process in asking] == [0, 0]
    assert kubectl(site, "get", "nodes", "-o", "name") == "node/node\n"
    assert (site.folder / "log" / "node").read_text().count("kubelet serves") == 1
    first = owner(site)
    up(site)
    assert owner(site) == first
    addresses = said(*inside(site, "ip", "-brief", "address"))
    assert site.node_address in addresses
    assert site.host_address not in addresses
    # A pod that is there when all ends.
    image = said("ctr", "--address", str(site.socket), "--namespace", "k8s.io", "images", "list", "--quiet").split()[0]
    kubectl(site, "run", "stays", f"--image={image}", "--image-pull-policy=Never")
    kubectl(site, "wait", "--for=condition=Ready", "pod/stays", "--timeout=60s")
    during = left(site)
    for what in ("groups", "links", "processes", "routes", "site"):
        assert during[what] != before[what], what
    # Nothing of it is on the machine's own network but the link.
    for what in ("mounts", "names of networks", "rules"):
        assert during[what] == before[what], what
    assert down(site)
    assert left(site) == before
    assert not down(site)
    with pytest.raises(RuntimeError, match="no cluster runs: make cluster"):
        inside(site, "true")


@pytest.mark.kills
def test_a_start_whose_asker_is_killed_goes_on(site: Site) -> None:
    asker = start()
    until(lambda: starts(site, "network"))
    asker.kill()
    asker.wait()
    first = owner(site)
    up(site)
    assert (owner(site), is_ready(site)) == (first, True)


@pytest.mark.kills
@pytest.mark.parametrize("component", ["network", "containerd", "kube-apiserver", "ready"])
def test_after_a_cluster_that_was_killed_the_next_one_starts(site: Site, component: str) -> None:
    before = left(site)
    asker = start()
    until(lambda: starts(site, component))
    # Or it would ask again.
    asker.kill()
    asker.wait()
    os.kill(owner(site), signal.SIGKILL)
    until(lambda: not running(site))
    assert left(site)["processes"] == []
    if component == "kube-apiserver":
        up(site)
        assert kubectl(site, "get", "nodes", "-o", "name") == "node/node\n"
    down(site)
    assert left(site) == before


def test_a_component_that_ends_takes_the_cluster_with_it(site: Site) -> None:
    up(site)
    (kubelet,) = [one for one in psutil.process_iter(["cmdline"]) if is_kubelet(one, site)]
    kubelet.kill()
    until(lambda: not running(site))
    assert left(site)["processes"] == []
    assert "kubelet ended with -9" in node_log(site).read_text()


def is_kubelet(process: psutil.Process, site: Site) -> bool:
    words = process.info["cmdline"] or []
    return words[1:2] == ["kubelet"] and f"{site.folder}/conf/kubelet.yaml" in words


def test_the_last_who_leaves_ends_it_unless_it_is_to_stay(site: Site) -> None:
    with used(site):
        with used(site):
            first = owner(site)
        assert (is_ready(site), owner(site)) == (True, first)
        stay(site)
    assert (is_ready(site), owner(site)) == (True, first)
    heard: list[str] = []
    assert end(site, heard.append)
    assert (heard, running(site)) == ([], False)
    with used(site):
        pass
    assert not running(site)


def test_what_it_changed_of_the_machine_is_changed_back(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, kept = tmp_path / "made", tmp_path / "kept"
    monkeypatch.setattr(machine, "HIDDEN", (str(tmp_path), str(made), str(kept)))
    setting = Path("/proc/sys/kernel/panic")
    before = setting.read_text()
    machine.make_room(site)
    try:
        # As a kubelet does.
        setting.write_text("17")
        (kept / "file").write_text("somebody else's")
        machine.remove(site)
        assert setting.read_text() == before
    finally:
        setting.write_text(before)
    assert (tmp_path.exists(), made.exists(), kept.exists()) == (True, False, True)
    assert not site.folder.exists()


def test_who_is_not_root_is_told(site: Site) -> None:
    ask = "from tests.services.kubernetes.programs import why_no_cluster; print(why_no_cluster())"
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    told = subprocess.run([*nobody, sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip("nobody may read this checkout or its interpreter")
    assert told.stdout == "a cluster needs root's rights\n"
