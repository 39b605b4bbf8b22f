"""2,000 files of 64 KB, all read.

Ours: ``read_many``, every file verified. Rivals, with as many requests in flight: obstore from asyncio and from threads, pyarrow's S3FileSystem
from threads. They are given the list of objects; we read it from the manifest. Goal: at least 0.95 times as fast as the best. Ceiling: 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender
from benchmarks.many import ArrowThreads, Many, ObstoreAsync, ObstoreThreads, ReadMany, publish_files
from benchmarks.origin import Door
from benchmarks.results import Figure, Timing, fastest, speed_against
from benchmarks.workload import Workload

_SIZE = 64_000
_PARALLEL = 32
_KINDS: tuple[type[Many], ...] = (ReadMany, ObstoreAsync, ObstoreThreads, ArrowThreads)


class Read2000x64K(Workload):
    """Many small files through us and directly."""

    name = "read-2000x64k"
    only_full = True
    measures = "2,000 files of 64 KB, all read, warm page cache at the server"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=9, bench=5, quick=3, tiny=1)

    def prepare(self, door: Door) -> None:
        self.count = self.scale.pick(full=2000, bench=2000, quick=2000, tiny=20)
        size = self.scale.pick(full=_SIZE, bench=_SIZE, quick=_SIZE, tiny=100)
        self.key = publish_files(door, "many", self.count, size)

    def contenders(self) -> Sequence[Contender]:
        return [kind(self.key, self.count, _PARALLEL) for kind in _KINDS]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        best = fastest(timings, [name for name in timings if name != ReadMany.name])
        value = speed_against(timings[ReadMany.name], best)
        return [
            Figure(name=f"speed against the best ({best.name})", value=value, unit="×", at_least=0.95, ceiling="1.0")
        ]
