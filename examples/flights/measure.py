"""Running one task's process, and seeing how much memory it and its children take together."""

from __future__ import annotations

import subprocess
import threading
from typing import TYPE_CHECKING

import psutil

from examples.flights.source import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_EVERY_SECONDS = 0.1
_GRACE_SECONDS = 10


def run_measured(command: Sequence[str], environment: Mapping[str, str], log: Path) -> tuple[int, int]:
    """Run a command to its end and return its exit code and its peak memory.

    The memory is the largest sum, in bytes, of the resident sizes of all its processes at one time, looked at ten times a second. Whatever
    ends this function, the command has ended too.

    Args:
        command: Program and arguments.
        environment: Its whole environment.
        log: Where its standard output and error go.
    """
    with log.open("wb") as words:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
        )
        watch = _MemoryWatch(process.pid)
        try:
            watch.start()
            code = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except BaseException:
                process.kill()
                process.wait()
                raise
            raise
        finally:
            watch.stop()
    return code, watch.peak


class _MemoryWatch:
    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        total = 0
        try:
            parent = psutil.Process(self._pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.Error:
            return 0
        for process in family:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue  # It has just ended.
        return total
