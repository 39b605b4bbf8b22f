"""Dropping files from the kernel's page cache, so that what is called cold is read from the disk or over the network.

Only some files' pages: ``/proc/sys/vm/drop_caches`` takes root, and would also drop what the emulated origin holds and the interpreter's own modules.
Files of a folder in memory stay there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def drop_folder(folder: Path, *, written: bool = False) -> None:
    """Have the kernel forget the contents of all files below a folder.

    Args:
        folder: The folder.
        written: Whether they may have been written lately: what is not on the disk yet cannot be dropped, and is waited for.
    """
    drop_files((path for path in folder.rglob("*") if path.is_file()), written=written)


def drop_files(paths: Iterable[Path], *, written: bool = False) -> None:
    """Have the kernel forget the contents of some files; arguments as for :func:`drop_folder`."""
    for path in paths:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if written:
                os.fsync(file)
            drop_open(file)
        finally:
            os.close(file)


def drop_open(file: int) -> None:
    """Have the kernel forget the contents of an open file, by its descriptor."""
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
