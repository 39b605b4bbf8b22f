"""Where the servers of one Alluxio live: their folders, ports, settings and command lines."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tests.services.alluxio_jars import IMAGE, alluxio_jars
from tests.services.process import steady_ports
from tests.services.s3server import S3Server

# Waits until its owner is gone, and leaves nothing: not the mount point of a FUSE that was killed, no memory, no files.
_SWEEP = """
cat
fusermount3 -quz "$1/mnt"
rmdir "$1/mnt"
for again in 1 2 3 4 5 6 7 8 9; do
    rm -rf --one-file-system "$@" && break
    sleep 0.2
done
"""


class Ports(NamedTuple):
    """One for each of Alluxio's listening sockets."""

    master: int
    master_web: int
    worker: int
    worker_web: int
    proxy: int


@dataclass(frozen=True)
class AlluxioHome:
    """What all servers of one Alluxio share."""

    folder: Path
    memory: Path
    """A folder in memory, for what is cached; on disk where this machine has too little of it."""
    ports: Ports
    jars: Path
    compiler: str
    host: str
    """The address of this machine on which all of them are reached."""

    @property
    def root(self) -> Path:
        """The folder of this machine that Alluxio shows as its root."""
        return self.folder / "root"

    @property
    def mnt(self) -> Path:
        """An empty folder, for FUSE."""
        return self.folder / "mnt"

    def log(self, name: str) -> Path:
        """The file for what a server prints."""
        return self.folder / "logs" / f"{name}.log"

    def java(
        self, main: str, *arguments: str, settings: Mapping[str, str] = MappingProxyType({}), heap: int = 384
    ) -> list[str | Path]:
        """The command line of one of Alluxio's programs.

        Args:
            main: Its class.
            arguments: What its main method gets.
            settings: Those for it alone.
            heap: MB of memory for Java's objects.
        """
        folders = {"home": "", "conf.dir": "conf", "site.conf.dir": "conf", "logs.dir": "logs"}
        given = {
            "java.io.tmpdir": self.folder / "tmp",
            "java.net.preferIPv4Stack": "true",
            "log4j.configuration": f"file:{self.folder}/conf/log4j.properties",
            **{f"alluxio.{name}": self.folder / folder for name, folder in folders.items()},
            **settings,
        }
        memory = (f"-Xmx{heap}m", "-XX:MaxDirectMemorySize=256m", "-XX:+UseSerialGC", "-XX:-UsePerfData")
        words = [f"-D{name}={value}" for name, value in given.items()]
        return ["java", *memory, self.compiler, *words, "-cp", f"{self.folder}/conf:{self.jars}/*", main, *arguments]


@contextlib.contextmanager
def alluxio_home(s3: S3Server, *, memory: int, measured: bool, host: str) -> Iterator[AlluxioHome]:
    """Folders that are removed when the block ends or this process is killed, with settings and an empty journal in them.

    Args:
        s3: The server whose buckets will be mounted.
        memory: Bytes of cache.
        measured: Whether speed matters, and not how soon all runs.
        host: The address of this machine on which they are reached.

    Raises:
        RuntimeError: Alluxio's programs do not run.
        datalayer.errors.ConfigError: its jars could not be fetched.
    """
    # Thoroughly compiled code is of use to who measures; for others it doubles the CPU time of a start.
    compiler = "-XX:TieredStopAtLevel=4" if measured else "-XX:TieredStopAtLevel=1"
    jars = alluxio_jars()
    with _folders(memory) as (folder, in_memory):
        for part in ("conf", "root", "logs", "mnt", "tmp"):
            (folder / part).mkdir()
        home = AlluxioHome(folder, in_memory, Ports(*steady_ports(len(Ports._fields))), jars, compiler, host)
        shutil.copy(IMAGE / "log4j.properties", folder / "conf")
        site = folder / "conf" / "alluxio-site.properties"
        site.touch(mode=0o600)  # it holds the keys of the S3 server
        own = "".join(f"{name}={value}\n" for name, value in _settings(home, s3, memory).items())
        site.write_text(f"{(IMAGE / site.name).read_text()}\n{own}")
        command = home.java("alluxio.cli.Format", "master", heap=64)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"Alluxio's journal could not be made:\n{done.stdout}{done.stderr}")
        yield home


def _settings(home: AlluxioHome, s3: S3Server, memory: int) -> dict[str, object]:
    hosts = ("master", "worker", "user", "proxy")
    binds = ("master.bind", "master.web.bind", "worker.bind", "worker.web.bind", "proxy.web.bind")
    return {
        **{f"alluxio.{server}.hostname": home.host for server in hosts},
        **{f"alluxio.{socket}.host": home.host for socket in binds},
        "alluxio.locality.node": home.host,
        "alluxio.master.rpc.port": home.ports.master,
        "alluxio.master.web.port": home.ports.master_web,
        "alluxio.worker.rpc.port": home.ports.worker,
        "alluxio.worker.web.port": home.ports.worker_web,
        "alluxio.proxy.web.port": home.ports.proxy,
        "alluxio.master.journal.folder": home.folder / "journal",
        "alluxio.master.backup.directory": home.folder / "backup",
        "alluxio.master.mount.table.root.ufs": home.root,
        "alluxio.worker.ramdisk.size": memory,
        "alluxio.worker.tieredstore.level0.dirs.path": home.memory,
        "alluxio.worker.tieredstore.level0.dirs.quota": memory,
        "alluxio.underfs.s3.endpoint": s3.endpoint,
        "alluxio.underfs.s3.endpoint.region": s3.region,
        "alluxio.underfs.s3.secure.http.enabled": "false",
        "s3a.accessKeyId": s3.root.access_key,
        "s3a.secretKey": s3.root.secret_key,
        # What takes seconds on a cluster is not waited for on one machine.
        "alluxio.master.journal.tailer.shutdown.quiet.wait.time": "100ms",
        "alluxio.master.journal.tailer.sleep.time": "50ms",
        "alluxio.master.worker.connect.wait.time": "500ms",
        "alluxio.master.worker.timeout": "3s",
        "alluxio.master.lost.worker.detection.interval": "500ms",
        "alluxio.worker.block.heartbeat.interval": "200ms",
        "alluxio.exit.collect.info": "false",
    }


@contextlib.contextmanager
def _folders(memory: int) -> Iterator[tuple[Path, Path]]:
    shared = Path("/dev/shm")
    space = os.statvfs(shared) if shared.is_dir() else None
    roomy = space is not None and space.f_bavail * space.f_frsize > 2 * memory
    folder = tempfile.mkdtemp(prefix="alluxio-")
    in_memory = tempfile.mkdtemp(prefix="alluxio-", dir=shared if roomy else None)
    sweeper = subprocess.Popen(
        ["sh", "-c", _SWEEP, "sh", folder, in_memory],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield Path(folder), Path(in_memory)
    finally:
        sweeper.communicate()  # ends what it reads, as our own end would
