"""An emulated shared file system of the cloud: a folder in which every operation waits as one over the network does."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import scratch
from benchmarks.front import built

_SOURCES = Path(__file__).parent / "efs"
_FUSE = Path("/dev/fuse")
_LEFT = 8 << 30
"""Bytes of memory that must remain: the workloads need some, too."""


@dataclass(frozen=True)
class Efs:
    """How slow an emulated shared file system is."""

    read: float = 0.0003
    """Seconds of an operation that changes nothing: a lookup, an open, a read of at most 1 MiB."""
    write: float = 0.0027
    """Seconds of one that does. A client of NFS writes behind: a write returns at once, and a close or an fsync waits for all of the file's."""
    total: float = 500 * 2**20
    """Bytes a second, reads and writes together."""

    def __str__(self) -> str:
        waits = f"{self.read * 1e3:g} ms for a read operation, {self.write * 1e3:g} ms for a write"
        return f"{waits}, {self.total / 2**20:g} MiB/s in all"


EFS = Efs()
"""Amazon EFS as one client sees it."""


def why_not() -> str:
    """Return why no emulated EFS can be mounted on this machine, or nothing if one can."""
    if os.access(_FUSE, os.R_OK | os.W_OK):
        return ""
    return f"the emulated EFS needs {_FUSE}, which this machine or container does not give: run with --device {_FUSE}"


@contextlib.contextmanager
def running_efs(profile: Efs = EFS) -> Iterator[Path]:
    """A folder that is as slow as the profile says, empty, and gone at the end.

    Files lie in memory where it has room. What was read stays in the page cache until that is dropped, as with NFS.

    Raises:
        RuntimeError: This machine cannot mount a FUSE file system, has no Go toolchain, or the program failed.
    """
    if reason := why_not():
        raise RuntimeError(reason)
    file = program()
    with (
        tempfile.TemporaryDirectory(prefix=scratch.prefix(), dir=memory_folder()) as files,
        tempfile.TemporaryDirectory(prefix=scratch.prefix()) as seen,
    ):
        command: list[str | Path] = [
            *(file, f"-folder={files}", f"-mount={seen}"),
            *(f"-read={profile.read}s", f"-write={profile.write}s", f"-total={profile.total}"),
        ]
        # It ends with its standard input: whatever becomes of this process, no mount is left behind.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            said = process.stdout.readline() if process.stdout else ""
            if said.strip() != "mounted":
                rest = process.stdout.read() if process.stdout else ""
                raise RuntimeError(f"the emulated EFS could not be mounted: {said}{rest}".strip())
            yield Path(seen)
        finally:
            _end(process, seen)


def _end(process: subprocess.Popen[str], seen: str) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        # Somebody has a file open. It is gone from the folder at once, and for that process at its end.
        unmount = ["umount", "-l", seen] if os.getuid() == 0 else ["fusermount3", "-uz", seen]
        subprocess.run(unmount, check=False)
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def program() -> Path:
    """Return the program that mounts it, built the first time.

    Raises:
        RuntimeError: There is no Go toolchain, or the build failed.
    """
    return built("efs", _SOURCES)


def memory_folder() -> Path | None:
    """Return a folder in memory, or None where it has little room.

    There, dropping the page cache makes clients cold and leaves the server as it is; and no disk's speed is measured.
    """
    try:
        room = shutil.disk_usage(scratch.MEMORY).free
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    available = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 0)
    return scratch.MEMORY if min(room, available) >= _LEFT else None
