"""Locks on byte ranges of a file that belong to an open file description, and end with it.

Unlike a process's own locks they also tell threads apart, and closing another descriptor of the file does not lose them. The kernel drops them
when the last process that holds the description ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# struct flock: type, whence, start, length, pid; padded as C pads it.
_FLOCK = struct.Struct("hhqqi0q")
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})
_PAUSE_SECONDS = 0.001


def take(file: int, start: int, length: int = 1) -> bool:
    """Lock a range if nobody else holds a part of it, and say whether that is so. Without ``length`` zero it is that long, else endless."""
    return _set(file, fcntl.F_WRLCK, start, length)


def share(file: int, start: int) -> bool:
    """Lock one byte beside others who share it, if nobody has taken it, and say whether that is so."""
    return _set(file, fcntl.F_RDLCK, start, 1)


def release(file: int, start: int = 0, length: int = 0) -> None:
    """Give a range back, held or not; by default everything."""
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, 0, start, length, 0))


def taken_from(file: int, start: int, length: int = 1) -> int | None:
    """Return where in a range a lock of somebody else begins (``start`` if it began before); None where there is none."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK, 0, start, length, 0)
    kind, _, begin, _, _ = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_OFD_GETLK, wanted))
    return None if kind == fcntl.F_UNLCK else max(start, begin)


@contextlib.contextmanager
def held(file: int, start: int, seconds: float) -> Iterator[bool]:
    """Hold one byte while the block runs; the block learns whether it was got within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (got := take(file, start)) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    try:
        yield got
    finally:
        if got:
            release(file, start, 1)


def _set(file: int, kind: int, start: int, length: int) -> bool:
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, 0, start, length, 0))
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True
