"""P13: the price of safety.

Extra requests of a task over a bare get and put of the same bytes; what verifying costs a read of 256 MB, against the same store's stream without
it; and how fast one core takes the checksum. Goals: at most 2 extra requests, at most 3 % on reads, at least 2 GB/s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender, Sink
from benchmarks.origin import Door, some_bytes
from benchmarks.reading import Stream, Unverified, publish_large
from benchmarks.results import Figure, Timing, paired, same
from benchmarks.small_task import Bare, PinnedTask, Task, publish_upstream
from benchmarks.workload import Workload
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


class Safety(Workload):
    """What the same work would cost without it."""

    name = "p13"
    row = "P13"
    measures = "requests, time and CPU that safety adds"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=21, bench=7, quick=7, tiny=1)

    def prepare(self, door: Door) -> None:
        publish_upstream(door)
        self.size = self.scale.pick(full=256_000_000, bench=64_000_000, quick=64_000_000, tiny=10_000_000)
        self.large = publish_large(door, "safety", self.size)

    def contenders(self) -> Sequence[Contender]:
        reads = [kind(self.large, self.size) for kind in (Stream, Unverified)]
        return [Task(), PinnedTask(), Bare(), *reads, Checksum()]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        bare = timings[Bare.name].request_count
        verified, plain = timings[Stream.name], timings[Unverified.name]
        return [
            Figure(
                name="extra requests of a task, its input resolved at the store",
                value=same(timings[Task.name].request_count - bare),
                unit="requests",
                at_most=2,
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
                value=paired(verified, plain, lambda mine, theirs: (mine.wall / theirs.wall - 1) * 100),
                unit="%",
                at_most=3,
                ceiling="0",
            ),
            Figure(
                name="CPU that verifying adds to a read",
                value=paired(verified, plain, lambda mine, theirs: (mine.cpu / theirs.cpu - 1) * 100),
                unit="%",
            ),
            Figure(
                name="checksum, one core",
                value=paired(timings[Checksum.name], plain, lambda mine, _: _CHUNK / mine.cpu / 1e9),
                unit="GB/s",
                at_least=2,
                ceiling="memory bandwidth",
            ),
        ]
