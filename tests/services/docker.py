"""A Docker engine for one test: Debian's dockerd in namespaces of its own, which leaves nothing behind however it ends.

Its processes die with the test run, since the kernel ends a process namespace with its first process; its mounts, its bridges
and its packet filter rules are nobody else's. Another Docker of this machine is not touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from spark_env.cache import cache_dir
from tests.services.debian import installed
from tests.services.process import ServerProcess

PROGRAMS = {
    "debootstrap": "debootstrap",
    "docker": "docker.io",
    "docker-compose": "docker-compose",
    "dockerd": "docker.io",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "tini": "tini",
}
# A build needs this machine's own network, and gets nothing else of it: no bridge, no rule.
_NO_NETWORK = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
# Folders that every dockerd uses, whatever it is told, are hidden: this machine may have a Docker with a configuration.
# And mounts are shared, as they are on a machine that was booted: a container may show one to its host.
_START = """
set -e
mount --make-rshared /
for folder in /etc/docker /opt/containerd /run/containerd /run/docker; do
    mkdir -p $folder
    mount -t tmpfs tmpfs $folder
done
ip link set lo up
exec tini -- "$@"
"""


def docker_programs() -> str:
    """What there is to run Docker with, installed where it was missing.

    Raises:
        RuntimeError: Something is missing and cannot be installed; names the packages.
    """
    if reason := why_no_docker():
        return f"left out, {reason}"
    installed(PROGRAMS)
    return shutil.which("dockerd") or ""


def why_no_docker() -> str | None:
    """What this machine lacks to run containers at all, which no package can bring; None where it lacks nothing."""
    if not os.access("/sys/fs/cgroup", os.W_OK):
        return "control groups cannot be written: Docker needs root's rights"
    probe = ["unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"no namespaces can be made: {done.stderr.strip()}" if done.returncode else None


@dataclass(frozen=True)
class Engine:
    """A running dockerd."""

    folder: Path
    pid: int
    """A process inside the engine's namespaces."""

    @property
    def environment(self) -> dict[str, str]:
        """What tells a Docker client, testcontainers included, to use this engine and no configuration of a user's."""
        return {
            "DOCKER_HOST": f"unix://{self.folder}/socket",
            "DOCKER_CONFIG": str(self.folder / "config"),
            # Its reaper is an image that could not be had here; nothing outlives the engine anyway.
            "TESTCONTAINERS_RYUK_DISABLED": "true",
        }

    def docker(self, *arguments: str | Path) -> str:
        """Run a command of the Docker client and return what it printed.

        Raises:
            RuntimeError: it failed; with its own words.
        """
        done = subprocess.run(
            ["docker", *map(str, arguments)],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def inside(self, *command: str | Path) -> list[str]:
        """A command line that runs where the engine does: with its network, where the published ports are, and its mounts."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--net", "--pid", "--", *map(str, command)]


@contextlib.contextmanager
def docker_engine(*, own_network: bool, data: Path | None = None) -> Iterator[Engine]:
    """A dockerd.

    Args:
        own_network: Whether it has a network of its own, from which nothing outside can be reached and whose ports nobody
            outside can reach. Otherwise it has none, and builds must ask for the one of the host.
        data: A folder that keeps its images from run to run, which one engine at a time may use. By default it has none, and keeps none.
    """
    installed(PROGRAMS)
    with _folder() as folder:
        own = ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{folder.name}"]
        places = ["--data-root", data or folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
        start = ["dockerd", "--host", f"unix://{folder}/socket", *places, *own, *(() if own_network else _NO_NETWORK)]
        namespaces = ["--mount", "--pid", "--mount-proc", *(("--net",) if own_network else ())]
        command = ["unshare", *namespaces, "--fork", "--kill-child=KILL", "--", "sh", "-c", _START, "sh", *start]
        server = ServerProcess(lambda _: command, lambda _: _answers(folder))
        first: list[psutil.Process] = []
        try:
            with server:
                first = psutil.Process(server.pid).children()
                yield Engine(folder, first[0].pid)
        finally:
            # Killed with its parent; the kernel reports its end when the last of its namespace has gone.
            psutil.wait_procs(first, timeout=30)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder of this run in the cache, where there is room, after those of runs that were killed are removed."""
    runs = cache_dir() / "docker" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(runs):
        for old in runs.iterdir():
            with (old / "lock").open("a") as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(old)
        folder = Path(tempfile.mkdtemp(prefix="datalayer-", dir=runs))
        lock = (folder / "lock").open("a")
        # The kernel drops it when this process ends, however it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        (folder / "config").mkdir()
        yield folder
    finally:
        with _one_at_a_time(runs), lock:
            _remove(folder)


@contextlib.contextmanager
def _one_at_a_time(runs: Path) -> Iterator[None]:
    with runs.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _answers(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{folder}/socket")
        client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in client.recv(64)


def _remove(folder: Path) -> None:
    """Remove a run's folder and its control groups."""
    groups = Path("/sys/fs/cgroup")
    for top in (*groups.glob(folder.name), *groups.glob(f"*/{folder.name}")):
        for group in sorted((path for path in (top, *top.rglob("*")) if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):  # what cannot be removed is empty and takes nothing
                group.rmdir()
    shutil.rmtree(folder)
