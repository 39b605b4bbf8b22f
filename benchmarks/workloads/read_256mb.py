"""256 MB read whole.

Ours: a verified stream in bounded memory, and the file object. Rivals: obstore with 8 ranges at once and as a stream, pyarrow's S3FileSystem with
8 ranges and as a stream. Goal: at least 0.95 times as fast as the best rival. Ceiling: 1.0 where the server or the network is the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender
from benchmarks.origin import Door
from benchmarks.reading import ArrowRead, ArrowStream, ObstoreRanges, ObstoreStream, OpenFile, Stream, publish_large
from benchmarks.results import Figure, Timing, fastest, speed_against
from benchmarks.workload import Workload

_RIVALS = (ObstoreRanges, ObstoreStream, ArrowRead, ArrowStream)


class Read256MB(Workload):
    """One large file through us and directly."""

    name = "read-256mb"
    measures = "256 MB read whole, warm page cache at the server"

    def prepare(self, door: Door) -> None:
        self.size = self.scale.pick(256_000_000, 256_000_000, 20_000_000)
        self.key = publish_large(door, "large", self.size)

    def contenders(self) -> Sequence[Contender]:
        return [kind(self.key, self.size) for kind in (Stream, OpenFile, *_RIVALS)]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        best = fastest(timings, [rival.name for rival in _RIVALS])
        return [
            Figure(
                name=f"{ours.name}: speed against the best ({best.name})",
                value=speed_against(timings[ours.name], best),
                unit="×",
                at_least=0.95,
                ceiling="1.0",
            )
            for ours in (Stream, OpenFile)
        ]
