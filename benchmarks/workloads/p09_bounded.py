"""P9: 32 GiB scanned in a container of 512 MiB.

A real memory cgroup around the process that reads, in which its page cache counts too. Ours: the verified stream, and the same through a cache folder
of the machine, which is empty at first, so that all is also written there. Against: the same stream in a process without a limit; and, in the same
cgroup, obstore's stream, pyarrow's, and the POC, which downloads the file before it reads it. The file is smaller than what is scanned, so that the
server can hold it in memory, and is read several times: it does not fit the cgroup, in which nothing of one time is left for the next. Where no such
cgroup can be made there are no figures. Goals: resident memory at most 128 MiB over the idle process, at 0.95 of the throughput without a limit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender, Sink
from benchmarks.copies import Cold, DownloadedInParallel, NodeCached
from benchmarks.memory_cgroup import MemoryCgroup, why_not
from benchmarks.origin import Door
from benchmarks.reading import ArrowStream, Large, ObstoreStream, Stream, publish_large
from benchmarks.results import Figure, Spread, Timing, speed_against
from benchmarks.workload import Scale, Workload

LIMIT = 512 << 20


class Scan(Contender):
    """A reader that reads the file several times, within a limit.

    Args:
        reader: Reads it once.
        passes: How often.
        limit: Bytes of memory that its process may hold; by default it has no limit.
    """

    group = "scan"

    def __init__(self, reader: Large, passes: int, limit: int | None) -> None:
        where = "" if limit is None else f", {limit >> 20} MiB"
        self.name = f"{reader.name}{where}"
        self.settings = reader.settings + ("" if limit is None else f"; in a memory cgroup of {limit >> 20} MiB")
        self._reader = reader
        self._passes = passes
        self._limit = limit
        self._cgroup: MemoryCgroup | None = None

    def open(self, door: Door) -> None:
        if self._limit is not None:
            self._cgroup = MemoryCgroup(f"datalayer-bench-{os.getpid()}", self._limit)
            self._cgroup.make()
            self._cgroup.enter()
        self._reader.open(door)

    def prepare(self) -> None:
        # Those that keep copies begin with none.
        self._reader.prepare()

    def run(self, sink: Sink) -> None:
        for number in range(self._passes):
            if number and isinstance(self._reader, Cold):
                self._reader.prepare()
            self._reader.run(sink)

    def close(self) -> None:
        self._reader.close()
        if self._cgroup is not None:
            self._cgroup.leave()
            self._cgroup.remove()


class BoundedScan(Workload):
    """Far more data than memory."""

    name = "p9"
    row = "P9"
    counted_apart = False

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.size = scale.pick(full=4 << 30, bench=1 << 30, quick=512 << 20, tiny=1 << 20)
        self.passes = scale.pick(full=8, bench=4, quick=2, tiny=2)
        scanned, file = (f"{size / (1 << 30):g} GiB" for size in (self.passes * self.size, self.size))
        self.measures = (
            f"{scanned} scanned in a memory cgroup of {LIMIT >> 20} MiB: a file of {file}, {self.passes} times"
        )

    def why_not_here(self) -> str:
        return why_not()

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=3, bench=3, quick=1, tiny=1)

    def prepare(self, door: Door) -> None:
        self.key = publish_large(door, "bounded", self.size)

    def contenders(self) -> Sequence[Contender]:
        # A test's process is not put into one.
        limit = None if self.scale is Scale.TINY else LIMIT
        more = self.scale.pick(
            full=(NodeCached, ObstoreStream, ArrowStream, DownloadedInParallel),
            bench=(NodeCached, ObstoreStream),
            quick=(ObstoreStream,),
            tiny=(NodeCached, ObstoreStream, ArrowStream, DownloadedInParallel),
        )
        self.free = Scan(Stream(self.key, self.size), self.passes, None)
        self.free.name += ", no limit"
        self.bounded = [Scan(kind(self.key, self.size), self.passes, limit) for kind in (Stream, *more)]
        return [self.bounded[0], self.free, *self.bounded[1:]]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        ours, *others = (timings[scan.name] for scan in self.bounded)
        return [
            Figure(
                name=f"{ours.name}: resident memory over the idle process",
                value=_over_idle(ours),
                unit="MiB",
                at_most=128,
            ),
            Figure(
                name=f"{ours.name}: throughput against no limit",
                value=speed_against(ours, timings[self.free.name]),
                unit="×",
                at_least=0.95,
                ceiling="1.0",
            ),
            *(
                Figure(name=f"{one.name}: resident memory over the idle process", value=_over_idle(one), unit="MiB")
                for one in others
            ),
            *(
                Figure(name=f"{ours.name}: speed against {one.name}", value=speed_against(ours, one), unit="×")
                for one in others
            ),
        ]


def _over_idle(timing: Timing) -> Spread:
    return Spread.of([((one.peak or 0) - (one.idle or 0)) / (1 << 20) for one in timing.samples])
