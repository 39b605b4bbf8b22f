"""Seeing how much memory the jobs of a process take together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from types import TracebackType

_EVERY_SECONDS = 0.1


class MemoryWatch:
    """Context manager: looks, while the block runs, at what a process has started.

    Args:
        pid: The process; it does not count itself.
    """

    def __init__(self, pid: int) -> None:
        self.peak = 0
        """The largest sum, in bytes, of the resident sizes of all its descendants at one time, looked at ten times a second."""
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        total = 0
        try:
            family = psutil.Process(self._pid).children(recursive=True)
        except psutil.Error:
            return 0
        for process in family:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue  # It has just ended.
        return total
