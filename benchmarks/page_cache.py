"""Dropping files from the kernel's page cache, so that what is called cold is read from the disk."""

from __future__ import annotations

import os
from pathlib import Path


def drop_page_cache(folder: Path) -> None:
    """Have the kernel forget the contents of all files below a folder.

    Only theirs: ``/proc/sys/vm/drop_caches`` takes root, and would also drop what the emulated origin holds and the interpreter's own modules. Files
    of a folder in memory stay there.
    """
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        file = os.open(path, os.O_RDONLY)
        try:
            # What is not written yet cannot be dropped.
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)
