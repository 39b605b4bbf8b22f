"""``MemoryCgroup``: a real memory limit around this process, as a container has one. Version 1 and 2; making one takes root."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


class MemoryCgroup:
    """A group of processes with a limit of their own: what they hold, their page cache included.

    Args:
        name: Names the group on this machine.
        limit: Bytes.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._unified = (_ROOT / "cgroup.controllers").exists()
        self._parent = _ROOT if self._unified else _ROOT / "memory"
        self._folder = self._parent / name
        self._limit = limit
        self._before: Path | None = None

    def make(self) -> None:
        """Make the group.

        Raises:
            OSError: There is no such controller, or this process may not.
        """
        self._folder.mkdir()
        try:
            self._write("memory.max" if self._unified else "memory.limit_in_bytes", self._limit)
        except OSError:
            self.remove()
            raise
        # Not there on a kernel that does not count swap.
        with contextlib.suppress(OSError):
            if self._unified:
                self._write("memory.swap.max", 0)
            else:
                self._write("memory.memsw.limit_in_bytes", self._limit)

    def enter(self) -> None:
        """Move this process into it."""
        before = self._own()
        self._write("cgroup.procs", os.getpid())
        self._before = before

    def leave(self) -> None:
        """Move this process back, if it is in it."""
        if self._before is not None:
            (self._before / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
            self._before = None

    def remove(self) -> None:
        """Remove the group; nobody may be in it."""
        self._folder.rmdir()

    def _write(self, file: str, value: int) -> None:
        (self._folder / file).write_text(str(value), encoding="ascii")

    def _own(self) -> Path:
        for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            if (not controllers) if self._unified else "memory" in controllers.split(","):
                return self._parent / path.lstrip("/")
        return self._parent


def why_not() -> str:
    """Return why no such group can be made here, or nothing if one can."""
    group = MemoryCgroup(f"datalayer-bench-try-{os.getpid()}", 1 << 30)
    try:
        group.make()
    except OSError as error:
        return f"no memory cgroup can be made here ({error.strerror}): run it as root, where cgroups can be written"
    group.remove()
    return ""
