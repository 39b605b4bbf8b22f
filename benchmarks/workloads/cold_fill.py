"""The first read through a cache folder, against the same read straight from S3.

Both verify what they read; ours also writes it into the folder. Before an *emulated* S3 (``cold-fill-std``) the goal is at most 1.03 times the time;
on bare loopback (``cold-fill``), where nothing hides the writing, it is shown what it costs. Ceiling: 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender
from benchmarks.copies import Direct, NodeCached
from benchmarks.front import STD
from benchmarks.origin import Door
from benchmarks.reading import publish_large
from benchmarks.results import Figure, Timing, paired, same
from benchmarks.workload import Workload


class ColdFill(Workload):
    """Filling the cache, the server next to it."""

    name = "cold-fill"
    only_full = True
    measures = "1 GiB read for the first time, on loopback (quick: 256 MiB)"
    at_most: float | None = None

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=7, bench=3, quick=3, tiny=1)

    def prepare(self, door: Door) -> None:
        self.size = self.scale.pick(full=1 << 30, bench=256 << 20, quick=256 << 20, tiny=10 << 20)
        self.key = publish_large(door, "cold-fill", self.size)

    def contenders(self) -> Sequence[Contender]:
        return [kind(self.key, self.size) for kind in (NodeCached, Direct)]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        ours, direct = timings[NodeCached.name], timings[Direct.name]
        emulated = self.limits is not None
        return [
            Figure(
                name="time against straight from S3",
                value=paired(ours, direct, lambda mine, theirs: mine.wall / theirs.wall),
                unit="×",
                at_most=self.at_most,
                ceiling="1.0",
                emulated=emulated,
            ),
            Figure(
                name="CPU seconds against the same",
                value=paired(ours, direct, lambda mine, theirs: mine.cpu / theirs.cpu),
                unit="×",
                emulated=emulated,
            ),
            Figure(
                name="bytes from the origin over the data",
                value=same(ours.bytes_down / self.size),
                unit="×",
                at_most=1.01,
                ceiling="1.0",
                emulated=emulated,
            ),
        ]


class ColdFillStd(ColdFill):
    """The same, with S3 as far away as it is."""

    name = "cold-fill-std"
    only_full = True
    measures = "1 GiB read for the first time, from an emulated S3 (quick: 256 MiB)"
    limits = STD
    at_most = 1.03

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=3, bench=2, quick=2, tiny=1)
