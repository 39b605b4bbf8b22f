"""P1: 16 processes of one machine read the same output at once, and nothing of it is on the machine yet.

Ours: a cache folder that they share; and, in ``p1-std``, Alluxio, both cold and warmed beforehand, where each byte travels through its proxy for
each reader. Against: the POC, where each downloads all of it, once over one connection and once with boto3's TransferManager; each reading it
straight from S3; and fsspec's filecache and blockcache. ``p1-std`` is the workload before an *emulated* S3 (STD); ``p1`` is it on bare loopback,
where the server is as fast as the cache, and only bytes and CPU tell. Goals: 12 times as fast, at most 1.01 times the bytes from the origin.
Ceiling: 16 times, each byte once. The copies were never on this machine, so no page cache holds them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender
from benchmarks.copies import (
    AlluxioCached,
    AlluxioWarmed,
    Cold,
    Direct,
    Downloaded,
    DownloadedInParallel,
    FsspecBlocks,
    FsspecFile,
    NodeCached,
)
from benchmarks.fanout import FanOut
from benchmarks.front import STD
from benchmarks.origin import Door
from benchmarks.reading import publish_large
from benchmarks.results import Figure, Timing, paired, same, speed_figure
from benchmarks.workload import Scale, Workload

_READERS = 16
_RIVALS: tuple[type[Cold], ...] = (Downloaded, DownloadedInParallel, Direct, FsspecFile, FsspecBlocks)
# Who reads all of it 16 times fills the line, however it is asked for: a first look can do with one.
_FEW: tuple[type[Cold], ...] = (DownloadedInParallel,)


class FanOutRaw(Workload):
    """One machine's readers, the server next to them."""

    name = "p1"
    row = "P1"
    only_full = True
    measures = "16 processes read the same 128 MiB at once, cold, on loopback (quick: 64 MiB)"
    at_least: float | None = None

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=3, bench=1, quick=1, tiny=1)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.scale.pick(full=128 << 20, bench=64 << 20, quick=64 << 20, tiny=1 << 20)

    @property
    def rivals(self) -> tuple[type[Cold], ...]:
        """Against whom, at this scale."""
        return self.scale.pick(full=_RIVALS, bench=_RIVALS, quick=_FEW, tiny=_RIVALS)

    def prepare(self, door: Door) -> None:
        self.key = publish_large(door, "fan-out", self.size)

    def contenders(self) -> Sequence[Contender]:
        ours = (NodeCached, AlluxioCached, AlluxioWarmed) if self.alluxio else (NodeCached,)
        readers = [kind(self.key, self.size) for kind in (*ours, *self.rivals)]
        count, isolated = (
            self.scale.pick(full=_READERS, bench=_READERS, quick=_READERS, tiny=2),
            self.scale is not Scale.TINY,
        )
        return [FanOut(reader, count, isolated=isolated) for reader in readers]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        emulated = self.limits is not None

        def bytes_of(kind: type[Cold], at_most: float | None = None) -> Figure:
            return Figure(
                name=f"{kind.name}: bytes from the origin over the data",
                value=same(timings[kind.name].bytes_down / self.size),
                unit="×",
                at_most=at_most,
                ceiling="0" if kind is AlluxioWarmed else "1.0",
                emulated=emulated,
            )

        def speed_of(kind: type[Cold], rival: type[Cold], at_least: float | None = None) -> Figure:
            return speed_figure(
                f"{kind.name}: speed against {rival.name}",
                timings[kind.name],
                timings[rival.name],
                at_least=at_least,
                ceiling=str(_READERS) if emulated else "",
                emulated=emulated,
                note=self.note(timings[kind.name]),
            )

        def cpu_of(rival: type[Cold]) -> Figure:
            return Figure(
                name=f"{NodeCached.name}: CPU seconds against {rival.name}",
                value=paired(timings[NodeCached.name], timings[rival.name], lambda mine, theirs: mine.cpu / theirs.cpu),
                unit="×",
                emulated=emulated,
            )

        found = [bytes_of(NodeCached, 1.01)]
        for rival in self.rivals:
            found += [speed_of(NodeCached, rival, self.at_least), cpu_of(rival)]
        if self.alluxio:
            for kind in (AlluxioCached, AlluxioWarmed):
                found += [bytes_of(kind), speed_of(kind, DownloadedInParallel)]
        return found

    def note(self, ours: Timing) -> str:
        """Say why a goal may be missed."""
        if self.size >= 1 << 30 or not self.limits:
            return ""
        line = self.size / self.limits.total
        left = (_READERS / 12 - 1) * (1 << 30) / self.limits.total
        return (
            f"{self.size >> 20} MiB take {line:.2f} s once over the line, and {_READERS * line:.1f} s when each reader fetches them: 12 times as "
            f"fast leaves {(_READERS / 12 - 1) * line:.2f} s for first bytes and for {_READERS} processes that read and compare all of it on "
            f"{os.cpu_count()} cores, which took {ours.wall.median - line:.2f} s. At 1 GiB, the goal's size, it leaves {left:.1f} s: "
            "measure it at full scale"
        )


class FanOutStd(FanOutRaw):
    """The same, with S3 as far away as it is."""

    name = "p1-std"
    row = "P1"
    only_full = False
    measures = "16 processes read the same 1 GiB at once, cold, before an emulated S3 (bench: 128 MiB, quick: 64 MiB)"
    limits = STD
    at_least = 12
    counted_apart = False
    alluxio = True

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        # It takes longer to start than a first look may take.
        self.alluxio = scale is not Scale.QUICK

    @property
    def rounds(self) -> int:
        # A line that is full takes the same each time.
        return self.scale.pick(full=3, bench=1, quick=1, tiny=1)

    @property
    def size(self) -> int:
        return self.scale.pick(full=1 << 30, bench=128 << 20, quick=64 << 20, tiny=1 << 20)
