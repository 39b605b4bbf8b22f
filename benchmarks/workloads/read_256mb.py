"""256 MB read whole.

Ours: a verified stream, in order and in bounded memory; and the file object's ``read()``, which gives one buffer. Rivals of the stream: obstore
with 8 ranges at once, held apart in memory, and as a stream; pyarrow's S3FileSystem in both ways. Rivals of the one buffer: those of the two that
give one. Goal: at least 0.95 times as fast as the best rival. Ceiling: 1.0 where the server or the network is the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender
from benchmarks.origin import Door
from benchmarks.reading import (
    ArrowRead,
    ArrowStream,
    ArrowWhole,
    Large,
    ObstoreRanges,
    ObstoreStream,
    ObstoreWhole,
    OpenFile,
    Stream,
    publish_large,
)
from benchmarks.results import Figure, Timing, fastest, speed_against
from benchmarks.workload import Workload

_RIVALS: dict[type[Large], tuple[type[Large], ...]] = {
    Stream: (ObstoreRanges, ObstoreStream, ArrowRead, ArrowStream),
    OpenFile: (ObstoreWhole, ArrowWhole),
}


class Read256MB(Workload):
    """One large file through us and directly."""

    name = "read-256mb"
    only_full = True
    measures = "256 MB read whole, warm page cache at the server"

    def prepare(self, door: Door) -> None:
        self.size = self.scale.pick(full=256_000_000, bench=256_000_000, quick=256_000_000, tiny=10_000_000)
        self.key = publish_large(door, "large", self.size)

    def contenders(self) -> Sequence[Contender]:
        kinds: list[type[Large]] = [*_RIVALS, *(rival for rivals in _RIVALS.values() for rival in rivals)]
        return [kind(self.key, self.size) for kind in kinds]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        found = []
        for ours, rivals in _RIVALS.items():
            best = fastest(timings, [rival.name for rival in rivals])
            found.append(
                Figure(
                    name=f"{ours.name}: speed against the best ({best.name})",
                    value=speed_against(timings[ours.name], best),
                    unit="×",
                    at_least=0.95,
                    ceiling="1.0",
                )
            )
        return found
