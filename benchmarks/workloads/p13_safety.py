"""P13: the price of safety.

Extra requests of a task over a bare get and put of the same bytes; what verifying costs a read of 256 MB, against the same store's stream without
it; and how fast one core takes the checksum. Goals: at most 2 extra requests, at most 3 % on reads, at least 2 GB/s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.contender import Contender, Sink
from benchmarks.front import STD
from benchmarks.origin import Door, some_bytes
from benchmarks.reading import NAME, Stream, Unverified, publish_large
from benchmarks.results import Figure, Spread, Timing, paired, same
from benchmarks.small_task import Bare, PinnedTask, Task, publish_upstream
from benchmarks.workload import Workload
from datalayer import TaskKey
from datalayer.stores.checksum import Crc32c

_CHUNK = 8 << 20


class Checksum(Contender):
    """The checksum of chunks as a stream has them."""

    name = "checksum"
    settings = "CRC-32C of chunks of 8 MiB, one thread"
    group = "checksum"
    times = 32

    def open(self, door: Door) -> None:
        self.chunks = [some_bytes(_CHUNK, seed) for seed in range(4)]

    def run(self, sink: Sink) -> None:
        self.crc = Crc32c()
        for number in range(self.times):
            self.crc.update(self.chunks[number % 4])

    def check(self, sink: Sink) -> None:
        sink.take(self.crc.text().encode())


class InTurns(Stream):
    """Reads with and without verifying, in turns within one process: what one of the two meets, the other meets too."""

    name = "verified and not, in turns"
    group = "in turns"
    settings = "layer.resolve(key)['default'].stream(name), and the same store's stream without a checksum, in turns in one process; medians of pairs"

    def __init__(self, key: TaskKey, size: int, turns: int) -> None:
        super().__init__(key, size)
        self.turns = turns

    def run(self, sink: Sink) -> None:
        output = self.layer.resolve(TaskKey.parse(self.key))["default"]
        store, path = output.store_path(NAME)
        added = []
        for turn in range(self.turns):
            took = {}
            # Who comes first changes from turn to turn.
            for verified in (True, False) if turn % 2 else (False, True):
                wall, cpu = time.perf_counter(), time.process_time()
                for chunk in output.stream(NAME) if verified else store.stream(path):
                    sink.take(chunk)
                took[verified] = time.perf_counter() - wall, time.process_time() - cpu
            added.append([100 * (ours / plain - 1) for ours, plain in zip(took[True], took[False], strict=True)])
        self.seen = {name: median(pair) for name, pair in zip(("wall", "cpu"), zip(*added, strict=True), strict=True)}


class Safety(Workload):
    """What the same work would cost without it."""

    name = "p13"
    row = "P13"
    measures = "requests, time and CPU that safety adds"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=21, bench=11, quick=5, tiny=1)

    def prepare(self, door: Door) -> None:
        publish_upstream(door)
        self.size = self.scale.pick(full=256_000_000, bench=64_000_000, quick=64_000_000, tiny=10_000_000)
        self.large = publish_large(door, "safety", self.size)

    def contenders(self) -> Sequence[Contender]:
        turns = self.scale.pick(full=21, bench=11, quick=5, tiny=2)
        reads = [
            Stream(self.large, self.size),
            Unverified(self.large, self.size),
            InTurns(self.large, self.size, turns),
        ]
        return [Task(), PinnedTask(), Bare(), *reads, Checksum()]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        bare = timings[Bare.name].request_count
        plain = timings[Unverified.name]
        return [
            Figure(
                name="extra requests of a task, its input resolved at the store",
                value=same(timings[Task.name].request_count - bare),
                unit="requests",
                at_most=2,
                note="one each for the head of the input, the claim and the commit: the goal is that of a pinned input, as tasks of a run get "
                "it; 2 without a pin would take the fence away from retries (claim), or let readers see half an output (commit)",
            ),
            Figure(
                name="extra requests of a task, its input pinned and remembered",
                value=same(timings[PinnedTask.name].request_count - bare),
                unit="requests",
                at_most=2,
                ceiling="1",
            ),
            Figure(
                name="time that verifying adds to a read",
                value=_seen(timings[InTurns.name], "wall"),
                unit="%",
                at_most=3,
                ceiling="0",
                note="on loopback, where the bytes come many times as fast as from any S3: the checksum is a larger part of a read here than there",
            ),
            Figure(
                name=f"a model: the checksum alone, of the time of a read at {STD.total / 1e6:g} MB/s",
                value=paired(timings[Checksum.name], plain, lambda mine, _: 100 * mine.cpu / _CHUNK * STD.total),
                unit="%",
                note="no measurement of a read, and so without a goal: the checksum's measured seconds of one core a byte, at the bandwidth of the "
                "emulated S3",
            ),
            Figure(name="CPU that verifying adds to a read", value=_seen(timings[InTurns.name], "cpu"), unit="%"),
            Figure(
                name="checksum, one core",
                value=paired(timings[Checksum.name], plain, lambda mine, _: _CHUNK / mine.cpu / 1e9),
                unit="GB/s",
                at_least=2,
                ceiling="memory bandwidth",
            ),
        ]


def _seen(timing: Timing, name: str) -> Spread:
    """Return what the process has measured itself, over the rounds."""
    return paired(timing, timing, lambda sample, _: sample.seen[name])
