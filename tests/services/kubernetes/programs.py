"""The programs of a cluster: Kubernetes and CoreDNS built from their Go modules, the rest from Debian's packages."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from spark_env.cache import made_once
from tests.services.debian import installed
from tests.services.docker import PROGRAMS as DOCKER
from tests.services.docker import docker_engine, why_no_docker

COREDNS = "v1.13.1"
PAUSE = "datalayer.test/pause:1"
"""The image of every pod's first process."""
CNI = Path("/usr/lib/cni")
"""Where Debian puts the network plugins."""
PROGRAMS = {
    **DOCKER,
    "conntrack": "conntrack",
    "containerd": "containerd",
    str(CNI / "bridge"): "containernetworking-plugins",
    "modprobe": "kmod",
    "runc": "runc",
    "setsid": "util-linux",
}
_SOURCES = Path(__file__).parent


@dataclass(frozen=True)
class Programs:
    """What was built."""

    hyperkube: Path
    coredns: Path
    pause: Path
    """An archive with the image, for ``ctr images import``."""


def why_no_cluster() -> str | None:
    """What this machine lacks to run a cluster, which no package can bring; None where it lacks nothing."""
    if os.geteuid() != 0:
        return "a cluster needs root's rights"
    if not Path("/dev/kmsg").exists():
        return "there is no /dev/kmsg, which a kubelet reads"
    return why_no_docker()


def programs() -> Programs:
    """All programs, built the first time (20 minutes on two cores) and kept in the cache by version.

    Raises:
        RuntimeError: something is missing and cannot be installed, or a build failed; with its last words.
    """
    installed(PROGRAMS)
    return Programs(_hyperkube(), _coredns(), _pause())


def _hyperkube() -> Path:
    source = _SOURCES / "hyperkube"
    module = (source / "go.mod").read_text()
    found = re.search(r"k8s\.io/kubernetes (v\d+\.(\d+)\.\d+)", module)
    if found is None:
        raise RuntimeError(f"{source}/go.mod requires no k8s.io/kubernetes")
    version, minor = found.groups()
    stamps = {"gitVersion": version, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"}
    linked = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamps.items())
    sources = "".join(path.read_text() for path in sorted(source.iterdir()))
    place = f"kubernetes/{version}-{hashlib.sha256(sources.encode()).hexdigest()[:16]}"

    def build(folder: Path) -> None:
        # Without the code of cloud providers, which is most of what could be left out.
        _go("build", "-tags", "providerless", "-ldflags", f"-s -w {linked}", "-o", folder / "hyperkube", cwd=source)

    return made_once(place, build) / "hyperkube"


def _coredns() -> Path:
    def build(folder: Path) -> None:
        _go("install", "-ldflags", "-s -w", f"github.com/coredns/coredns@{COREDNS}", cwd=folder, GOBIN=str(folder))

    return made_once(f"coredns/{COREDNS}", build) / "coredns"


def _pause() -> Path:
    source = _SOURCES / "pause"

    def build(folder: Path) -> None:
        root = folder / "root"
        root.mkdir()
        _go("build", "-ldflags", "-s -w", "-o", root / "pause", cwd=source)
        with docker_engine(own_network=False) as engine:
            subprocess.run(["tar", "-C", root, "-cf", folder / "root.tar", "pause"], check=True)
            engine.docker("import", "--change", 'ENTRYPOINT ["/pause"]', folder / "root.tar", PAUSE)
            engine.docker("save", "--output", folder / "pause.tar", PAUSE)
        shutil.rmtree(root)

    digest = hashlib.sha256((source / "main.go").read_bytes() + PAUSE.encode()).hexdigest()[:16]
    return made_once(f"pause/{digest}", build) / "pause.tar"


def _go(*arguments: str | Path, cwd: Path, **environment: str) -> None:
    if shutil.which("go") is None:
        raise RuntimeError("go is missing: apt-get install golang-go (1.25 or newer is needed)")
    command = ["go", str(arguments[0]), "-trimpath", "-buildvcs=false", *map(str, arguments[1:])]
    settings = {**os.environ, "CGO_ENABLED": "0", **environment}
    done = subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stderr[-4000:]}")
