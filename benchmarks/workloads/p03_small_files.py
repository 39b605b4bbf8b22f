"""P3: 10,000 files of 64 KB, all read.

Ours: ``read_many``, every file an object of its own, resolved anew and verified. Rivals, told the list of objects: obstore from asyncio and from
threads with 128 and 256 requests in flight, s3fs, pyarrow and boto3 with as many. Against the POC's serial loop, of which only the first files are
read. Goals: 40 times the serial loop, 1.2 times the best of obstore. Ceiling: the line; 10,000 files of 64 KB take 2.56 s at 250 MB/s, and the
serial loop some 420 s. The same files, packed at their commit, are read beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender
from benchmarks.front import STD
from benchmarks.many import (
    ArrowThreads,
    Boto3Threads,
    ObstoreAsync,
    ObstoreThreads,
    ReadMany,
    ReadPacked,
    S3fsCat,
    SerialLoop,
    publish_files,
)
from benchmarks.origin import Door
from benchmarks.results import Figure, Timing, fastest, same, speed_figure
from benchmarks.workload import Scale, Workload

_SIZE = 64_000
_SERIAL = SerialLoop.name


class SmallFiles(Workload):
    """Many small files, each an object."""

    name = "p3"
    row = "P3"
    limits = STD
    counted_apart = False
    size = _SIZE

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.count = scale.pick(full=10_000, bench=1250, quick=640, tiny=4)
        self.part = scale.pick(full=200, bench=60, quick=20, tiny=1)
        self.in_flight = scale.pick(full=(128, 256), bench=(128, 256), quick=(256,), tiny=(2,))
        self.size = scale.pick(full=self.size, bench=self.size, quick=self.size, tiny=100)
        self.marks = (self.part * self.size,)
        self.measures = f"{self.count:,} files of {self.size // 1000} KB, all read, emulated S3"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=5, bench=3, quick=1, tiny=1)

    def prepare(self, door: Door) -> None:
        self.key = publish_files(door, "alone", self.count, self.size)
        self.packed = publish_files(door, "packed", self.count, self.size, packed=True)

    def contenders(self) -> Sequence[Contender]:
        obstores = [
            kind(self.key, self.count, parallel)
            for parallel in self.in_flight
            for kind in (ObstoreAsync, ObstoreThreads)
        ]
        others = [kind(self.key, self.count) for kind in (ArrowThreads, Boto3Threads, S3fsCat)]
        return [
            ReadMany(self.key, self.count),
            ReadPacked(self.packed, self.count),
            *obstores,
            *others,
            SerialLoop(self.key, self.count, self.part),
        ]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        ours, packed, serial = timings[ReadMany.name], timings[ReadPacked.name], timings[_SERIAL]
        best = best_obstore(timings)
        other = fastest(timings, [ArrowThreads.name, Boto3Threads.name, S3fsCat.name])
        line = self.count * self.size / STD.total
        most = best.wall.median / line
        note = (
            f"Goal wrong by arithmetic where it is above {most:.2f}: the line alone takes {line:.2f} s and {best.name} {best.wall.median:.2f} s. "
            "Each file is an object, so both send the same requests, and ours waits for head and index before. Next: pack at the commit "
            "(packed=True), the figure below."
        )
        return [
            speed_figure("speed against the serial loop", ours, serial, at_least=40, ceiling="164"),
            speed_figure(
                f"speed against the best obstore ({best.name})",
                ours,
                best,
                at_least=1.2,
                ceiling=f"{most:.2f}",
                note=note,
            ),
            speed_figure(f"speed against the best of the others ({other.name})", ours, other),
            speed_figure("packed: speed against the serial loop", packed, serial, ceiling="164"),
            speed_figure(f"packed: speed against the best obstore ({best.name})", packed, best, ceiling=f"{most:.2f}"),
        ]


class TinyFiles(SmallFiles):
    """P4: many tiny files, packed at the commit.

    Ours: an output published with ``packed=True``. The rivals, and the serial loop, read the same files as objects of their own. Goals: 300 times
    the serial loop, 10 times the best of obstore. Ceiling: some 1,500 times, if 40 MB came at the line's speed and nothing else took any time.
    """

    name = "p4"
    row = "P4"
    size = 4000

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        # Two first bytes are most of it: they are to be others in each round.
        self.counted_apart = scale is not Scale.TINY
        self.count = scale.pick(full=10_000, bench=10_000, quick=2500, tiny=4)
        self.part = scale.pick(full=200, bench=40, quick=20, tiny=1)
        # Of 4 KB, 256 in flight are the faster by far, and each way reads all of them: a smaller run tries no fewer, and a first look one way.
        self.in_flight = scale.pick(full=(128, 256), bench=(256,), quick=(256,), tiny=(2,))
        self.from_threads = scale is not Scale.QUICK
        self.marks = (self.part * self.size,)
        self.measures = f"{self.count:,} files of {self.size / 1000:g} KB, packed at the commit, all read, emulated S3"

    def contenders(self) -> Sequence[Contender]:
        kinds = (ObstoreAsync, ObstoreThreads) if self.from_threads else (ObstoreAsync,)
        obstores = [kind(self.key, self.count, parallel) for parallel in self.in_flight for kind in kinds]
        return [
            ReadPacked(self.packed, self.count),
            ReadMany(self.key, self.count),
            *obstores,
            SerialLoop(self.key, self.count, self.part),
        ]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        packed, alone, serial = timings[ReadPacked.name], timings[ReadMany.name], timings[_SERIAL]
        best = best_obstore(timings)
        smaller = (
            ""
            if self.count == 10_000
            else f"Of {self.count:,} files only; the goal is for 10,000, over which two waits for a first byte are spread. "
        )
        note = (
            f"{smaller}Two round trips (head, index) come before the first range, and each file costs "
            f"{1e6 * packed.cpu.median / self.count:.1f} µs of CPU. Next: put the index beside the head."
        )
        return [
            speed_figure("speed against the serial loop", packed, serial, at_least=300, ceiling="1,500", note=note),
            speed_figure(
                f"speed against the best obstore ({best.name})", packed, best, at_least=10, ceiling="", note=note
            ),
            speed_figure("not packed: speed against the serial loop", alone, serial),
            Figure(
                name="requests: files as objects over packed",
                value=same(alone.request_count / packed.request_count),
                unit="×",
                ceiling=f"{self.count:,}",
            ),
        ]


def best_obstore(timings: Mapping[str, Timing]) -> Timing:
    """Return the fastest of obstore's ways."""
    return fastest(timings, [name for name in timings if name.startswith("obstore")])
