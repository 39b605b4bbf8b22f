"""Where each design starts to win: the designs along S3's latency and bandwidth, the readers of one machine, and the size of files.

Every point is measured, none is a model: some readers of one machine take all of one output at once, before an *emulated* S3 that is changed point by
point. Ours on S3 in place, through a cache folder that is empty, and through one that has it; on an *emulated* EFS volume; and the POC, boto3's
serial loop, which is told the objects and verifies nothing. The map is the picture for who has to choose: at each number of readers and size of
files, the design that was fastest on S3 for data that a machine has not seen before, and its speed over the POC's; its note says what a shared volume
would take. Outputs are small (16 MiB at most), so that what is seen is waiting
and bandwidth, not this machine's disk. Goal: at no point is the POC's download the fastest.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from benchmarks import efs, scratch
from benchmarks.contender import Contender
from benchmarks.front import STD
from benchmarks.origin import Door, some_bytes
from benchmarks.results import Figure, Line, Plot, Sample, Timing, same
from benchmarks.sweeps import CachedSweep, DownloadedSweep, EfsSweep, Point, Seen, Sweep, WarmedSweep, key_of
from benchmarks.workload import Scale, Workload
from datalayer import DataLayer

_KB, _MB = 1 << 10, 1 << 20
_STD = replace(STD, first_byte_p99=0.0, put_p99=0.0, list_p99=0.0)
"""Every request waits the median: curves are to show the designs, and not where in a sequence of waits the long ones fell."""
_AS_GOOD = 1.1
_TOLD = (
    "The POC is told its objects' names: where they are few, it waits once, and ours waits for the head before. Next step: small outputs in the head "
    "itself"
)


class Crossovers(Workload):
    """Sweeps."""

    name = "crossovers"
    measures = "where each design starts to win, along latency, bandwidth, readers and file size"
    counted_apart = False

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        # Without a volume the others are still worth a look.
        self.efs = not efs.why_not()
        self.size = scale.pick(full=64 * _MB, bench=16 * _MB, quick=4 * _MB, tiny=128 * _KB)
        self.readers = scale.pick(full=4, bench=4, quick=2, tiny=2)
        self.file = scale.pick(full=_MB, bench=_MB, quick=512 * _KB, tiny=64 * _KB)
        self.latencies = scale.pick(full=(1, 3, 10, 30, 100, 200), bench=(1, 10, 30, 100), quick=(30, 100), tiny=(30,))
        self.bandwidths = scale.pick(
            full=(25, 50, 100, 250, 500, 1000, 2000), bench=(25, 100, 250, 1000), quick=(50, 250), tiny=(250,)
        )
        self.counts = scale.pick(full=(1, 2, 4, 16, 64), bench=(1, 4, 16), quick=(1, 8), tiny=(1, 2))
        self.files = scale.pick(
            full=(64 * _KB, 256 * _KB, _MB, 8 * _MB, 64 * _MB),
            bench=(128 * _KB, _MB, 16 * _MB),
            quick=(128 * _KB, 4 * _MB),
            tiny=(64 * _KB, 128 * _KB),
        )

    @property
    def rounds(self) -> int:
        return 1

    def prepare(self, door: Door) -> None:
        self.door = door
        self.folder = tempfile.TemporaryDirectory(prefix=scratch.prefix())
        self.has_efs = bool(getattr(door, "efs", None))
        layers = [door.layer(), *([door.efs_layer()] if self.has_efs else [])]
        for layer in layers:
            for file in sorted({self.file, *self.files}):
                _publish(layer, file, self.size)

    def close(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def points(self) -> list[Point]:
        """Return all points, each once."""
        base = Point(_STD, self.readers, self.file)
        found = [base]
        found += [self.by_latency(value) for value in self.latencies]
        found += [self.by_bandwidth(value) for value in self.bandwidths]
        found += [Point(_STD, count, file) for count in self.counts for file in (self.file, *self.files)]
        found += [Point(_STD, self.readers, file) for file in self.files]
        # Those before the same S3 follow one another, and share its front.
        distinct = list(dict.fromkeys(found))
        limits = list(dict.fromkeys(point.limits for point in distinct))
        return sorted(distinct, key=lambda point: limits.index(point.limits))

    def by_latency(self, milliseconds: float) -> Point:
        """Return the point with another first byte, and all other waits as much longer or shorter."""
        far = milliseconds / 1000 / _STD.first_byte
        limits = replace(_STD, first_byte=milliseconds / 1000, put=_STD.put * far, list=_STD.list * far)
        return Point(limits, self.readers, self.file)

    def by_bandwidth(self, megabytes: float) -> Point:
        """Return the point with another bandwidth of the machine's, and a connection's where it is less."""
        limits = replace(_STD, total=megabytes * 1e6, connection=min(_STD.connection, megabytes * 1e6))
        return Point(limits, self.readers, self.file)

    def contenders(self) -> Sequence[Contender]:
        kinds = (DownloadedSweep, Sweep, CachedSweep, WarmedSweep, *([EfsSweep] if self.has_efs else []))
        return [kind(self.door, self.points(), Path(self.folder.name)) for kind in kinds]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        points = self.points()
        self.seen: dict[str, dict[Point, Seen]] = {}
        for name, timing in timings.items():
            found = msgspec.json.decode((Path(self.folder.name) / f"{name}.json").read_bytes(), type=list[Seen])
            self.seen[name] = dict(zip(points, found, strict=True))
            # The table shows the standard point: the sum over all of them, their fronts' starts included, says nothing.
            base = found[0]
            timing.samples = [Sample(base.seconds, base.cpu)]
            timing.requests = dict(sorted(base.requests.items()))
            timing.bytes_down = base.bytes_down
            timing.settings += f". Shown is the point of {self.readers} readers, {_size(self.file)} files, standard S3"
        lost = [point for point in points if self._fastest(point) == DownloadedSweep.name]
        once = self._once
        return [
            Figure(
                name=f"points of {len(points)} at which s3-poc is the fastest of {', '.join(once)}",
                value=same(len(lost)),
                unit="points",
                at_most=0,
                ceiling="0",
                emulated=True,
                note=f"{'; '.join(_say(point) for point in lost)}. {_TOLD}" if lost else "",
            ),
            self._ratio("s3-direct", "s3-poc", "widest", max),
            self._ratio("s3-direct", "s3-poc", "smallest", min),
            self._ratio("hot-cold, cold", "s3-direct", "widest", max),
            self._ratio("hot-cold, cold", "s3-direct", "smallest", min),
            self._ratio("hot-cold, warm", "s3-direct", "smallest", min),
            *([self._ratio("shared-fs over EFS", "s3-direct", "widest", max)] if self.has_efs else []),
            *([self._ratio("shared-fs over EFS", "s3-direct", "smallest", min)] if self.has_efs else []),
        ]

    def _ratio(self, ours: str, rival: str, which: str, pick: Callable[..., Point]) -> Figure:
        at = pick(self.points(), key=lambda point: self._speed(ours, rival, point))
        speed = self._speed(ours, rival, at)
        lost = f". {_TOLD}" if rival == DownloadedSweep.name and speed < 1 else ""
        return Figure(
            name=f"{ours}: speed against {rival}, the {which} of all points",
            value=same(speed),
            unit="×",
            emulated=True,
            note=f"at {_say(at)}{lost}",
        )

    @property
    def _once(self) -> list[str]:
        """The designs that read what the machine has not seen before; of those as good, first what needs least."""
        names = (Sweep.name, DownloadedSweep.name, CachedSweep.name, EfsSweep.name)
        return [name for name in names if name in self.seen]

    def _fastest(self, point: Point) -> str:
        """Return what took least, by however little."""
        return min(self._once, key=lambda name: self.seen[name][point].seconds)

    def _winner(self, point: Point) -> str:
        """Return what the map shows: the fastest on S3, or what needs less beside it and is within a tenth of that."""
        on_s3 = [name for name in self._once if name != EfsSweep.name]
        best = min(self.seen[name][point].seconds for name in on_s3)
        return next(name for name in on_s3 if self.seen[name][point].seconds <= best * _AS_GOOD)

    def _speed(self, ours: str, rival: str, point: Point) -> float:
        return self.seen[rival][point].seconds / self.seen[ours][point].seconds

    def plots(self, timings: Mapping[str, Timing]) -> list[Plot]:
        def lines(
            along: Sequence[tuple[float, Point]], value: Callable[[Seen], float] = lambda seen: seen.seconds
        ) -> list[Line]:
            return [Line(name, [(at, value(self.seen[name][point])) for at, point in along]) for name in self.seen]

        by_readers = [(float(count), Point(_STD, count, self.file)) for count in self.counts]
        by_file = [(file / _MB, Point(_STD, self.readers, file)) for file in self.files]
        what = f"{_size(self.size)} in files of {_size(self.file)}"
        some = f"{self.readers} readers of {what}"
        return [
            Plot(
                title="Which design wins where on S3: readers of one machine, and file size",
                x_label="readers of the same output on one machine",
                y_label="file size, MiB",
                lines=self._map(),
                points=True,
                note=f"Emulated; {_size(self.size)} an output, not seen by the machine before. Each mark is measured: the fastest design there,"
                " or one within a tenth of it that needs less beside S3, and how many times as fast as the POC it is. What is read again on a "
                f"machine, hot-cold serves from there at any point.{self._volume()}",
            ),
            Plot(
                title="Latency of S3",
                x_label="first byte, ms (median)",
                y_label="seconds",
                lines=lines([(value, self.by_latency(value)) for value in self.latencies]),
                note=f"Emulated; {some}.",
            ),
            Plot(
                title="Bandwidth to S3",
                x_label="MB/s, all connections of the machine",
                y_label="seconds",
                lines=lines([(value, self.by_bandwidth(value)) for value in self.bandwidths]),
                note=f"Emulated; {some}.",
            ),
            Plot(
                title="Readers of one machine",
                x_label="readers at once",
                y_label="seconds",
                lines=lines(by_readers),
                note=f"Emulated, standard S3; {what}.",
            ),
            Plot(
                title="Bytes from S3 by readers of one machine",
                x_label="readers at once",
                y_label="MB from S3",
                lines=[
                    line for line in lines(by_readers, lambda seen: seen.bytes_down / 1e6) if line.name != EfsSweep.name
                ],
                note=f"Counted; {what}.",
            ),
            Plot(
                title="File size",
                x_label="MiB a file",
                y_label="seconds",
                lines=lines(by_file),
                note=f"Emulated, standard S3; {self.readers} readers of {_size(self.size)}.",
            ),
        ]

    def _cells(self) -> list[Point]:
        sizes = sorted({self.file, *self.files})
        return [Point(_STD, count, file) for count in self.counts for file in sizes]

    def _map(self) -> list[Line]:
        won: dict[str, list[Point]] = {}
        for point in self._cells():
            won.setdefault(self._winner(point), []).append(point)
        return [
            Line(
                name,
                [(float(point.readers), point.file / _MB) for point in won[name]],
                [f"{self._speed(name, DownloadedSweep.name, point):.2g}× the POC" for point in won[name]],
            )
            for name in self.seen
            if name in won
        ]

    def _volume(self) -> str:
        if not self.has_efs:
            return ""
        ahead = [self._speed(EfsSweep.name, self._winner(point), point) for point in self._cells()]
        return (
            f" Where there is a shared volume, shared-fs over EFS takes {1 / max(ahead):.0%} to {1 / min(ahead):.0%} of the time of what is "
            "shown: a volume has no wait of S3's. What it costs instead, `own` tells."
        )


def _publish(layer: DataLayer, file: int, size: int) -> None:
    data = some_bytes(size)
    with layer.publish(key_of(file)) as attempt:
        output = attempt.output()
        for number in range(math.ceil(size / file)):
            output.put(f"{number:06}", data[number * file : (number + 1) * file])


def _say(point: Point) -> str:
    limits = point.limits
    return f"{point.readers} readers, {_size(point.file)} files, first byte {limits.first_byte * 1e3:g} ms, {limits.total / 1e6:g} MB/s"


def _size(value: int) -> str:
    return f"{value / _MB:g} MiB" if value >= _MB else f"{value / _KB:g} KiB"
