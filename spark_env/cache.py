"""The folder outside the checkout for what is fetched or built once per version, safe for runs beside each other."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_dir() -> Path:
    """The absolute cache folder: ``DATALAYER_CACHE``, by default ``~/.cache/datalayer``. It may not exist yet."""
    return Path(os.environ.get("DATALAYER_CACHE") or Path.home() / ".cache" / "datalayer").absolute()


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder ``name`` of the cache, made by ``make`` where no earlier run has.

    Args:
        name: Relative path in the cache. It has to hold the version, or a hash, of all that ``make`` depends on.
        make: Fills the empty folder that it gets. The folder takes its name when ``make`` returns, so that nobody
            sees half of it; if ``make`` raises, nothing is left behind. Of processes that ask at once, one makes and
            the rest wait.
    """
    folder = cache_dir() / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel drops it when the process ends, however it ends
        if folder.is_dir():
            return folder
        fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            make(fresh)
            fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder
