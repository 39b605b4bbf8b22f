"""The process that is the cluster: in namespaces of its own it starts the components, and with it they all end.

Started as ``python -m tests.services.kubernetes.node enter NUMBER``. However it ends, the kernel ends every process of its
process namespace, and removes its mounts, its network, its bridge and its packet filter rules.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from tests.services.kubernetes.certificates import write_certificates
from tests.services.kubernetes.components import Component, components
from tests.services.kubernetes.configuration import write_configuration
from tests.services.kubernetes.machine import HIDDEN, make_room
from tests.services.kubernetes.programs import programs
from tests.services.kubernetes.site import NODE, Site

_MODULE = "tests.services.kubernetes.node"


def enter(site: Site) -> NoReturn:
    """Take the site's lock, clear the site, and become the first process of new namespaces; exit where the lock is taken."""
    lock = os.open(site.lock, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + 2
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # Whoever only asks whether a cluster runs holds it for a moment.
            if time.monotonic() > deadline:
                sys.exit("a cluster runs already")
            time.sleep(0.01)
    os.ftruncate(lock, 0)
    node_log(site).unlink(missing_ok=True)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    make_room(site)
    log = os.open(node_log(site), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    for kept in (lock, host):
        os.set_inheritable(kept, True)
    namespaces = ["--mount", "--pid", "--mount-proc", "--net", "--fork", "--kill-child=KILL"]
    first = ["tini", "--", sys.executable, "-m", _MODULE, "run", str(site.number), str(host)]
    os.execvp("unshare", ["unshare", *namespaces, "--", *first])


def node_log(site: Site) -> Path:
    """Where the process that starts the components says what it does."""
    return site.folder / "log" / "node"


def run(site: Site, host: int) -> None:
    """Start everything, and return when one of the components has ended.

    Args:
        site: Where the cluster is.
        host: An open file that is the machine's network.
    """
    start, owner = time.monotonic(), site.lock.read_text()

    def say(what: str) -> None:
        sys.stdout.write(f"{time.monotonic() - start:5.1f} s  {what}\n")
        sys.stdout.flush()

    built = programs()
    _hide_folders()
    _link(site, host)
    write_certificates(site)
    write_configuration(site, f"/{site.name}")
    site.kubectl.write_text(f'#!/bin/sh\nexec {built.hyperkube} kubectl "$@"\n')
    site.kubectl.chmod(0o755)
    say("network, certificates and configuration")
    running: dict[str, subprocess.Popen[bytes]] = {}

    def serve(group: list[Component]) -> None:
        for component in group:
            running[component.name] = _start(site, component)
        for component in group:
            _wait(component, running[component.name])
            say(f"{component.name} serves")

    below, apiserver, rest = components(site, built)
    serve(below)
    import_image(site, built.pause)
    serve(apiserver)
    _kubectl(site, "apply", "-f", site.folder / "conf" / "dns-rights.yaml")
    serve(rest)
    _kubectl(site, "wait", "--for=create", f"node/{NODE}", "--timeout=120s")
    _kubectl(site, "wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=120s")
    # Without it no pod is let in.
    _kubectl(site, "wait", "--for=create", "serviceaccount/default", "--timeout=120s")
    # Whoever finds this number here and in the lock knows that it is not the note of an earlier cluster.
    site.ready.write_text(owner)
    say("ready")
    pid, status = os.wait()
    names = {process.pid: name for name, process in running.items()}
    say(f"{names.get(pid, pid)} ended with {os.waitstatus_to_exitcode(status)}, and so does the cluster")


def import_image(site: Site, archive: Path) -> None:
    """Load an archive with images. Called inside the namespaces."""
    subprocess.run(
        ["ctr", "--address", site.socket, "--namespace", "k8s.io", "images", "import", archive],
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _hide_folders() -> None:
    """Put empty folders where the machine has its own, and let containers show mounts to each other."""
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    for folder in HIDDEN:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    Path("/run/lock").mkdir()


def _link(site: Site, host: int) -> None:
    """Connect the node with the machine. Packets find no other way out."""
    on_host = ["nsenter", f"--net=/proc/self/fd/{host}", "ip"]
    via = ["via", site.node_address]
    for command in (
        ["ip", "link", "set", "lo", "up"],
        # The number 1 is that of our own first process: the other end comes here.
        [*on_host, "link", "add", site.host_link, "type", "veth", "peer", "name", site.node_link, "netns", "1"],
        [*on_host, "address", "add", f"{site.host_address}/24", "dev", site.host_link],
        [*on_host, "link", "set", site.host_link, "up"],
        ["ip", "address", "add", f"{site.node_address}/24", "dev", site.node_link],
        ["ip", "link", "set", site.node_link, "up"],
        [*on_host, "route", "add", site.pods, *via],
        [*on_host, "route", "add", site.services, *via],
        # A service that kube-proxy knows nothing of: refused at once, not asked for on the link.
        ["ip", "route", "add", "unreachable", site.services, "metric", "4096"],
        ["ip", "route", "add", "default", "via", site.host_address],
    ):
        subprocess.run(command, pass_fds=(host,), check=True)
    bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not bridged.exists():
        subprocess.run(["modprobe", "br_netfilter"], check=True)
    for setting in (bridged, Path("/proc/sys/net/ipv4/ip_forward")):
        setting.write_text("1")


def _start(site: Site, component: Component) -> subprocess.Popen[bytes]:
    with (site.folder / "log" / component.name).open("ab") as log:
        return subprocess.Popen(
            component.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _wait(component: Component, process: subprocess.Popen[bytes], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if component.serves():
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{component.name} did not get ready; see its log")
        time.sleep(0.05)


def _kubectl(site: Site, *words: str | Path) -> None:
    command = [site.kubectl, "--kubeconfig", site.kubeconfig, *words]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    # Like a program that has no wish of its own to live longer.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    verb, number, *rest = sys.argv[1:]
    if verb == "enter":
        enter(Site(int(number)))
    else:
        run(Site(int(number)), int(rest[0]))
