"""Folders of one process for a while: their names tell whose they are, so that those of a run that was killed can be removed by the next one."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108  # only a place for folders of one's own
_NAME = re.compile(r"datalayer-bench-(\d+)-(\d+)-.")


def prefix() -> str:
    """Return what the names of this process's folders begin with."""
    # A process number means nothing to another container, whose folders may lie here too.
    return f"datalayer-bench-{_namespace()}-{os.getpid()}-"


def new_folder(place: Path | None = None) -> Path:
    """Make an empty folder, by default where temporary files are."""
    return Path(tempfile.mkdtemp(prefix=prefix(), dir=place))


def remove_stale(*places: Path) -> list[Path]:
    """Remove the folders whose process has ended, and return them.

    Args:
        places: Where to look; by default where temporary files are, and in memory.
    """
    found = []
    for place in places or (Path(tempfile.gettempdir()), MEMORY):
        for path in sorted(place.glob("datalayer-bench-*")):
            named = _NAME.match(path.name)
            # Those of a running process are in use, whichever run it belongs to; a number that was given again only keeps a folder for longer.
            if named and int(named[1]) == _namespace() and not Path("/proc", named[2]).exists():
                shutil.rmtree(path, ignore_errors=True)
                found.append(path)
    return found


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino
