"""``FanOut``: many processes of one machine that begin to read the same file at once."""

from __future__ import annotations

import contextlib
import copy
import shutil
from typing import cast

from benchmarks import scratch
from benchmarks.contender import Contender, Sink
from benchmarks.copies import Cold
from benchmarks.origin import Door
from benchmarks.worker import Ran, Worker, working


class FanOut(Contender):
    """Some readers of one kind, each a process of its own that takes the checksum of all it reads, as a job looks at its bytes.

    Args:
        reader: What each of them does.
        readers: How many.
        isolated: Without, they are threads, which measures nothing of worth.
    """

    group = "fan-out"
    in_children = True

    def __init__(self, reader: Cold, readers: int, *, isolated: bool) -> None:
        self.name = reader.name
        self.settings = reader.settings
        self._reader = reader
        self._readers = readers
        self._isolated = isolated

    def open(self, door: Door) -> None:
        self._running = contextlib.ExitStack()
        self._workers: list[Worker] = []
        self._runs = 0
        self._folder = scratch.new_folder()
        self._running.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._reader.shared = str(self._folder)
        for _ in range(self._readers):
            # A copy: as threads they would otherwise be one.
            reading = working(copy.copy(self._reader), door, isolated=self._isolated)
            self._workers.append(self._running.enter_context(reading))

    def prepare(self) -> None:
        for worker in self._workers:
            worker.begin("prepare")
        for worker in self._workers:
            worker.answer("prepare")
        self._runs += 1
        shutil.rmtree(self._folder / str(self._runs - 1), ignore_errors=True)

    def run(self, sink: Sink) -> None:
        for worker in self._workers:
            worker.begin("run", True, ())
        self.children_cpu = sum(cast("Ran", worker.answer("run")).sample.cpu for worker in self._workers)

    def check(self, sink: Sink) -> None:
        for worker in self._workers:
            sink.take(repr(worker.check()).encode())

    def close(self) -> None:
        self._running.close()
