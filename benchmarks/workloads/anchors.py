"""The emulation against its profile, and the profile against what is published: without this no *emulated* figure is worth anything.

Measured by a plain client of each kind of request, through a front with STD, and on a folder with EFS. Published:

- *Best practices design patterns: optimizing Amazon S3 performance* (Amazon S3 user guide): at least 3,500 PUT/COPY/POST/DELETE or 5,500 GET/HEAD
  requests a second and partitioned prefix; small objects and first bytes after roughly 100-200 ms. *Performance guidelines* there: one request in
  flight for each 85-90 MB/s that are wanted. STD's median of 30 ms is that of a client in the same region, and kinder to serial loops than 100 ms.
- *Amazon EFS performance specifications* (Amazon EFS user guide): regional file systems, general purpose: reads as low as 250 microseconds, writes
  as low as 2.7 ms; 500 MiB/s for each client (1,500 with elastic throughput and a newer client).

No contender is timed against another here.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks import efs
from benchmarks.contender import Contender, Sink
from benchmarks.efs import EFS
from benchmarks.front import STD, Limits
from benchmarks.origin import Door, some_bytes
from benchmarks.page_cache import drop_open
from benchmarks.results import Figure, Spread, Timing
from benchmarks.workload import Workload

_S3_PAPER = "Amazon S3 user guide, optimizing performance"
_EFS_PAPER = "Amazon EFS user guide, performance specifications"
_THREADS = 16


class Anchor(NamedTuple):
    """One property of a profile."""

    seen: str
    name: str
    unit: str
    profile: float
    published: str


_OF_S3 = (
    Anchor("get p50", "GET, first byte, p50", "ms", STD.first_byte * 1e3, f"roughly 100-200 ms ({_S3_PAPER})"),
    Anchor(
        "get p99",
        "GET, first byte, p99",
        "ms",
        STD.first_byte_p99 * 1e3,
        f"none ({_S3_PAPER} advises to retry what is slow)",
    ),
    Anchor("put p50", "PUT of 4 KiB, p50", "ms", STD.put * 1e3, f"roughly 100-200 ms ({_S3_PAPER})"),
    Anchor("list p50", "LIST, p50", "ms", STD.list * 1e3, "none"),
    Anchor("one", "one connection", "MB/s", STD.connection / 1e6, f"85-90 MB/s ({_S3_PAPER})"),
    Anchor("all", "8 connections", "MB/s", STD.total / 1e6, "none: the network of a small machine"),
)
_OF_EFS = (
    Anchor("read p50", "EFS: a read of 4 KiB, p50", "ms", EFS.read * 1e3, f"as low as 0.25 ms ({_EFS_PAPER})"),
    Anchor(
        "write p50",
        "EFS: a write of 4 KiB and its fsync, p50",
        "ms",
        EFS.write * 1e3,
        f"as low as 2.7 ms ({_EFS_PAPER})",
    ),
    Anchor("read rate", "EFS: one reader", "MiB/s", EFS.total / 2**20, f"500 MiB/s a client ({_EFS_PAPER})"),
    Anchor("write rate", "EFS: one writer", "MiB/s", EFS.total / 2**20, f"500 MiB/s a client ({_EFS_PAPER})"),
)


class S3Anchors(Contender):
    """Each kind of request through the front."""

    name = "the front, STD"
    settings = f"obstore; {_THREADS} threads for latencies, 1 and 8 requests at once for rates"
    group = "s3"

    def __init__(self, requests: int, large: int) -> None:
        self._requests = requests
        self._large = large

    def open(self, door: Door) -> None:
        self.store = door.obstore()
        self.pool = ThreadPoolExecutor(_THREADS)
        list(self.pool.map(lambda _: self._get(), range(2 * _THREADS)))

    def close(self) -> None:
        self.pool.shutdown()

    def run(self, sink: Sink) -> None:
        gets = self._latencies(self._get, self._requests)
        puts = self._latencies(lambda: self.store.put("new", bytes(4096)), self._requests // 4)
        lists = self._latencies(lambda: list(self.store.list("none")), self._requests // 4)
        self.seen = {
            "get p50": statistics.median(gets) * 1e3,
            "get p99": gets[min(int(len(gets) * 0.99), len(gets) - 1)] * 1e3,
            "put p50": statistics.median(puts) * 1e3,
            "list p50": statistics.median(lists) * 1e3,
            "one": self._rate(sink, 1),
            "all": self._rate(sink, 8),
        }

    def _get(self) -> None:
        self.store.get_range("small", start=0, length=4096)

    def _latencies(self, ask: Callable[[], object], count: int) -> list[float]:
        return sorted(self.pool.map(lambda _: _seconds(ask), range(count)))

    def _rate(self, sink: Sink, at_once: int) -> float:
        """Return MB/s, first bytes left out."""

        def read(_: int) -> tuple[float, float, bytes]:
            answer = self.store.get("large")
            began = time.perf_counter()
            data = bytes(answer.bytes())
            return began, time.perf_counter(), data

        read_all = list(self.pool.map(read, range(at_once)))
        for _, _, data in read_all:
            sink.take(data)
        seconds = max(end for _, end, _ in read_all) - min(begin for begin, _, _ in read_all)
        return at_once * self._large / seconds / 1e6


class EfsAnchors(Contender):
    """Reads and writes on the folder."""

    name = "the folder, EFS"
    settings = "os.pread and os.pwrite, one thread; the page cache dropped or passed over before reads"
    group = "efs"
    # The folder is not behind the front.
    limits = Limits()

    def __init__(self, operations: int, large: int) -> None:
        self._operations = operations
        self._large = large

    def open(self, door: Door) -> None:
        self.folder = Path(door.required_efs)

    def run(self, sink: Sink) -> None:
        block = some_bytes(1 << 20)
        file = os.open(self.folder / "large", os.O_RDWR | os.O_CREAT)
        try:
            began = time.perf_counter()
            for at in range(0, self._large, len(block)):
                os.pwrite(file, block, at)
            os.fsync(file)
            write_rate = self._large / (time.perf_counter() - began) / 2**20
            drop_open(file)
            began = time.perf_counter()
            at = 0
            while data := os.pread(file, 8 << 20, at):
                sink.take(data)
                at += len(data)
            read_rate = self._large / (time.perf_counter() - began) / 2**20
            drop_open(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
            pages = self._large >> 12
            places = iter([number * 7919 % pages << 12 for number in range(self._operations)])
            reads = [_seconds(lambda: os.pread(file, 4096, next(places))) for _ in range(self._operations)]

            def write() -> None:
                os.pwrite(file, block[:4096], 0)
                os.fsync(file)

            writes = [_seconds(write) for _ in range(self._operations)]
        finally:
            os.close(file)
        self.seen = {
            "read p50": statistics.median(reads) * 1e3,
            "write p50": statistics.median(writes) * 1e3,
            "read rate": read_rate,
            "write rate": write_rate,
        }


class Anchors(Workload):
    """What the emulated origin and the emulated volume are like."""

    name = "anchors"
    measures = "the emulation itself: what a plain client sees of it, the profile, and what is published"
    limits = STD
    efs = True
    counted_apart = False

    def why_not_here(self) -> str:
        return efs.why_not()

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=3, bench=2, quick=1, tiny=1)

    def prepare(self, door: Door) -> None:
        store = door.obstore()
        store.put("small", bytes(4096))
        store.put("large", some_bytes(self._large))

    @property
    def _large(self) -> int:
        return self.scale.pick(full=64 << 20, bench=64 << 20, quick=32 << 20, tiny=4 << 20)

    def contenders(self) -> Sequence[Contender]:
        requests = self.scale.pick(full=2000, bench=600, quick=400, tiny=40)
        return [S3Anchors(requests, self._large), EfsAnchors(requests // 4, 4 * self._large)]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        figures, off = [], 0.0
        for timing, anchors in ((timings[S3Anchors.name], _OF_S3), (timings[EfsAnchors.name], _OF_EFS)):
            for anchor in anchors:
                value = Spread.of([sample.seen[anchor.seen] for sample in timing.samples])
                off = max(off, abs(value.median / anchor.profile - 1))
                figures.append(
                    Figure(
                        name=anchor.name,
                        value=value,
                        unit=anchor.unit,
                        ceiling=f"profile {anchor.profile:g} {anchor.unit}; published: {anchor.published}",
                        emulated=True,
                    )
                )
        worst = Figure(
            name="the furthest of these from its profile",
            value=Spread.of([100 * off]),
            unit="%",
            at_most=25,
            ceiling="0",
            emulated=True,
            note="what is over is this machine's: its loopback, its server and its cores come on top of each delay",
        )
        return [worst, *figures]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
