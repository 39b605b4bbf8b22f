"""``FuseMount``: the folder under which Alluxio's FUSE shows the hot folder, and whether it answers now."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_REMEMBERED_SECONDS = 3.0


class FuseMount:
    """A mounted folder that may be gone, or never answer again. Nothing here waits for it longer than it was told.

    Args:
        folder: The folder.
        seconds: How long it may take to answer.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self._seconds = seconds
        self._known: tuple[float, bool] = (0.0, False)
        self._looking: threading.Thread | None = None

    def answers(self) -> bool:
        """Whether the folder is there, below a FUSE mount, and answers; remembered for a few seconds."""
        until, known = self._known
        if time.monotonic() >= until:
            real = self._look()
            known = real is not None and _kind_of_mount(real).startswith("fuse")
            self._known = (time.monotonic() + _REMEMBERED_SECONDS, known)
        return known

    def _look(self) -> Path | None:
        if self._looking and self._looking.is_alive():
            return None
        found: list[Path] = []

        def look() -> None:
            if self.folder.is_dir():
                found.append(Path(os.path.realpath(self.folder)))

        # A daemon, because nothing can end it while the mount keeps it.
        self._looking = threading.Thread(target=look, name="datalayer-alluxio-mount", daemon=True)
        self._looking.start()
        self._looking.join(self._seconds)
        return found[0] if found else None


def _kind_of_mount(folder: Path) -> str:
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    kinds = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        point = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), before.split(" ")[4])
        kinds[point] = after.split(" ", 1)[0]
    return next((kinds[str(one)] for one in (folder, *folder.parents) if str(one) in kinds), "")
