"""P8: a chain of tasks, each reading what the one before it wrote.

Ours: in place on S3; on a volume; and ``hot-cold`` with a cache folder, where every output is durable on S3 before its commit and a copy stays on
the machine. Against: the POC, which downloads, works on files and uploads, one after the other; fsspec's filecache over s3fs; and its simplecache,
written through, which also keeps a copy, and verifies nothing. ``p8-std`` is the workload before an *emulated* S3 of 85 MB/s a connection and
250 MB/s in all each way, 30 ms away; ``p8`` is it on bare loopback, where S3 is as near as the disk. Copies, files and the volume are in
memory; the volume is on this machine's disk, too. Goals against the POC: the volume 8 times as
fast, ``hot-cold`` 1.7 times; against filecache 3 and 1.5 times. Ceilings: 10 and 2 times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.chain import Chain, FsspecFile, FsspecSimple, InPlace, NodeCached, Poc, Shared, SharedOnDisk
from benchmarks.contender import Contender
from benchmarks.front import STD
from benchmarks.origin import Door
from benchmarks.reading import publish_large
from benchmarks.results import Figure, Timing, same, speed_against
from benchmarks.workload import Workload

_KINDS: tuple[type[Chain], ...] = (Poc, InPlace, Shared, SharedOnDisk, NodeCached, FsspecFile, FsspecSimple)
_COMPARED: tuple[tuple[type[Chain], type[Chain], float | None, str], ...] = (
    (Shared, Poc, 8, "10"),
    (SharedOnDisk, Poc, None, "10"),
    (NodeCached, Poc, 1.7, "2"),
    (Shared, FsspecFile, 3, ""),
    (NodeCached, FsspecFile, 1.5, ""),
    (NodeCached, FsspecSimple, None, ""),
    (InPlace, Poc, None, "2"),
)


class ChainRaw(Workload):
    """The server next to the tasks."""

    name = "p8"
    row = "P8"
    only_full = True
    measures = "10 tasks in a chain, 128 MiB each hop, on loopback (quick: 3 of 64 MiB)"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=3, bench=1, quick=1, tiny=1)

    @property
    def hops(self) -> int:
        """How many tasks."""
        return self.scale.pick(full=10, bench=10, quick=3, tiny=2)

    @property
    def size(self) -> int:
        """Bytes each reads and writes."""
        return self.scale.pick(full=128 << 20, bench=128 << 20, quick=64 << 20, tiny=1 << 20)

    def prepare(self, door: Door) -> None:
        self.key = publish_large(door, "chain", self.size)

    def contenders(self) -> Sequence[Contender]:
        return [kind(self.key, self.hops) for kind in _KINDS]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        emulated = self.limits is not None
        found = [
            Figure(
                name=f"{ours.name}: speed against {rival.name}",
                value=speed_against(timings[ours.name], timings[rival.name]),
                unit="×",
                at_least=goal if emulated else None,
                ceiling=ceiling if emulated else "",
                emulated=emulated,
            )
            for ours, rival, goal, ceiling in _COMPARED
        ]
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


class ChainStd(ChainRaw):
    """The same, with S3 as far away as it is."""

    name = "p8-std"
    row = "P8"
    only_full = False
    measures = "10 tasks in a chain, 512 MiB each hop, before an emulated S3 (quick: 3 of 128 MiB)"
    limits = STD
    counted_apart = False

    @property
    def rounds(self) -> int:
        return 1

    @property
    def size(self) -> int:
        return self.scale.pick(full=512 << 20, bench=128 << 20, quick=128 << 20, tiny=1 << 20)
