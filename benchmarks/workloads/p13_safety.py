"""P13: the price of safety.

Extra requests of a task over a bare get and put of the same bytes; what verifying costs a read of 256 MB, against the same store's stream without
it; and how fast one core takes the checksum. Goals: at most 2 extra requests, at most 3 % on reads, at least 2 GB/s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.contender import Contender, Sink
from benchmarks.front import STD
from benchmarks.origin import Door, some_bytes
from benchmarks.reading import Stream, Unverified, publish_large
from benchmarks.results import Figure, Sample, Spread, Timing, paired, same
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
        return self.scale.pick(full=21, bench=11, quick=7, tiny=1)

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
                name="time that verifying adds to a read, the fastest round of each",
                value=_added(verified, plain, lambda sample: sample.wall),
                unit="%",
                at_most=3,
                ceiling="0",
                note="noise only ever adds, and is many times what is looked for: so the fastest rounds are compared; min–max is over pairs",
            ),
            Figure(
                name=f"a model: the checksum alone, of the time of a read at {STD.total / 1e6:g} MB/s",
                value=paired(timings[Checksum.name], plain, lambda mine, _: 100 * mine.cpu / _CHUNK * STD.total),
                unit="%",
                note="no measurement of a read, and so without a goal: the checksum's measured seconds of one core a byte, at the bandwidth of the "
                "emulated S3",
            ),
            Figure(
                name="CPU that verifying adds to a read, the least of each",
                value=_added(verified, plain, lambda sample: sample.cpu),
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


def _added(mine: Timing, theirs: Timing, of: Callable[[Sample], float]) -> Spread:
    """Return how many percent more one takes than the other, by the least that each has taken."""
    value = (min(map(of, mine.samples)) / min(map(of, theirs.samples)) - 1) * 100
    pairs = paired(mine, theirs, lambda one, other: (of(one) / of(other) - 1) * 100)
    return Spread(value, min(pairs.low, value), max(pairs.high, value))
