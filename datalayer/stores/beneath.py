"""Opening paths below a folder without following a symbolic link on the way.

Whoever may write into one folder of a shared volume could otherwise point a link at another team's data, and have a process with more rights
read, overwrite or delete it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# The same on every architecture that Linux got after 2019 system calls on; glibc has no wrapper for it.
_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_AT_FDCWD = -100
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(root: int, path: str, flags: int) -> int:
    """Open an existing path relative to the folder ``root`` (a file descriptor) and return its file descriptor.

    Args:
        root: Links on the way to the root itself are the administrator's and were followed when it was opened.
        path: Without ``.`` and ``..`` components; ``""`` is the root itself.
        flags: As for ``os.open``, without ``O_CREAT``.

    Raises:
        OSError: As for ``os.open``; ``ELOOP`` where a component of the path is a symbolic link.
    """
    openat2 = _openat2()
    if not path:
        return os.open(".", flags | os.O_CLOEXEC, dir_fd=root)
    return openat2(root, path, flags | os.O_CLOEXEC) if openat2 else open_step_by_step(root, path, flags | os.O_CLOEXEC)


@cache
def _openat2() -> Callable[[int, str, int], int] | None:
    """Return the system call as a function, or None where the kernel (before 5.6) or the container's filter has none."""
    try:
        syscall = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return None

    def openat2(root: int, path: str, flags: int) -> int:
        how = _OpenHow(flags, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
        while True:
            descriptor = syscall(_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
            if descriptor >= 0:
                return int(descriptor)
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code), path)

    try:
        os.close(openat2(_AT_FDCWD, "/", _FOLDER))
    except OSError:
        return None
    return openat2


def open_step_by_step(root: int, path: str, flags: int) -> int:
    """Do what :func:`open_beneath` does with one ``openat`` a component, for kernels without ``openat2``."""
    *folders, name = path.split("/")
    opened: list[int] = []
    at = root
    try:
        for folder in folders:
            at = _open_here(at, folder, _FOLDER)
            opened.append(at)
        return _open_here(at, name, flags)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _open_here(folder: int, name: str, flags: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except NotADirectoryError:
        # With O_DIRECTORY the kernel gives the same answer for a link as for a file.
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
        raise
