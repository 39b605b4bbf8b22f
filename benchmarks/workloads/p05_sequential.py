"""P5: 4 GiB read from the first byte to the last, in bounded memory.

Ours: the verified stream. Rivals deliver in order and in bounded memory too: obstore's stream, obstore with 4 and 8 ranges of 8 MiB in flight,
pyarrow's stream, s3fs and boto3. Ours alone verifies. Goal: at least 0.97 times as fast as the best, with at most 0.8 times its CPU seconds.
Ceiling: 1.0. ``p5-std`` is the workload before an *emulated* S3; ``p5`` is it on bare loopback, where only processors tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender
from benchmarks.front import STD
from benchmarks.origin import Door
from benchmarks.reading import ArrowStream, Boto3Stream, ObstoreStream, ObstoreWindow, S3fsStream, Stream, publish_large
from benchmarks.results import Figure, Timing, fastest, paired, speed_against
from benchmarks.workload import Scale, Workload

_NEAR = (
    "on loopback, where one connection carries gigabytes a second, Python's own HTTP client reads from the socket into the reader's bytes, and every "
    "client in Rust or C++ copies once more. One connection to S3 carries 85 MB/s: see the figure before the emulated one"
)
_CPU = (
    "ours takes a checksum of all, 0.07 CPU seconds a GB, where the rivals take none, and has obstore's own costs, which are the same with its bare "
    "stream. Where Python's HTTP client is the best, the goal is out of reach: it only reads from the socket, 0.17 CPU seconds a GB, which with a "
    "checksum are 1.4 times that. Next step: long streams by such a client, where one connection is fast"
)
_FAR = (
    "250 MB/s are the limit of both, and as many ranges are in flight. Ours asks for the head first, one wait of 30 ms (p99 200 ms) that the rivals "
    "do not have, as they are told the object's name: over 64 MiB, which take 0.27 s, it alone leaves 0.87, over 256 MiB 0.96, over the goal's 4 GiB "
    "0.997. A pinned resolve that is remembered has none"
)
_FAR_CPU = (
    "both wait for the same many small packets, which is most of it; ours then takes a checksum of all, 0.07 CPU seconds a GB, and hands out bytes "
    "of Python's own, one copy, where the rivals hand out their buffers and verify nothing. Next step: a client that reads into our buffers"
)


class Sequential(Workload):
    """A file far larger than what a reader should hold."""

    name = "p5"
    row = "P5"
    measures = "4 GiB read in order, in bounded memory (quick: 512 MiB)"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=5, bench=3, quick=1, tiny=1)

    def prepare(self, door: Door) -> None:
        self.size = self.scale.pick(full=4 << 30, bench=512 << 20, quick=512 << 20, tiny=10 << 20)
        self.key = publish_large(door, "sequential", self.size)

    def contenders(self) -> Sequence[Contender]:
        return [Stream(self.key, self.size), *self._rivals()]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        ours = timings[Stream.name]
        best = fastest(timings, [rival.name for rival in self._rivals()])
        emulated = self.limits is not None
        return [
            Figure(
                name=f"speed against the best ({best.name})",
                value=speed_against(ours, best),
                unit="×",
                at_least=0.97,
                ceiling="1.0",
                emulated=emulated,
                note=_FAR if emulated else _NEAR,
            ),
            Figure(
                name=f"CPU seconds against the same ({best.name})",
                value=paired(ours, best, lambda mine, theirs: mine.cpu / theirs.cpu),
                unit="×",
                at_most=0.8,
                emulated=emulated,
                note=_FAR_CPU if emulated else _CPU,
            ),
        ]

    def _rivals(self) -> list[Contender]:
        obstore: list[Contender] = [ObstoreStream(self.key, self.size), ObstoreWindow(self.key, self.size, 8)]
        if self.scale is Scale.QUICK:
            return obstore
        more = [kind(self.key, self.size) for kind in (ArrowStream, S3fsStream, Boto3Stream)]
        return [*obstore, ObstoreWindow(self.key, self.size, 4), *more]


class SequentialStd(Sequential):
    """The same, with S3 as far away as it is."""

    name = "p5-std"
    measures = "4 GiB read in order, in bounded memory, before an emulated S3 (bench: 256 MiB; quick: 64 MiB)"
    limits = STD
    counted_apart = False

    @property
    def rounds(self) -> int:
        # The head's first byte, which only ours waits for, is another in each round.
        return self.scale.pick(full=5, bench=3, quick=3, tiny=1)

    def prepare(self, door: Door) -> None:
        self.size = self.scale.pick(full=4 << 30, bench=256 << 20, quick=64 << 20, tiny=1 << 20)
        self.key = publish_large(door, "sequential", self.size)
