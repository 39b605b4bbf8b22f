"""P10: 64 processes of one machine touch the same output first, all at the same moment, and read every file of it in the same order.

Ours: a cache folder that they share. Rival: fsspec's cache of whole files over s3fs in a shared folder, as people who share one do
(filesystem_spec#639). Every read is compared with what was written: another length, other bytes or an error is a corrupt read. Before the *emulated*
S3. Goals: each file is downloaded once, and none of 100,000 reads is corrupt. Ceiling: 1 download.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import scratch
from benchmarks.contender import Contender, Sink
from benchmarks.front import STD
from benchmarks.origin import POOL, Door
from benchmarks.reading import RUN
from benchmarks.results import Figure, Timing, same
from benchmarks.worker import BenchmarkError
from benchmarks.workload import Scale, Workload
from datalayer import TaskKey

_KEY = TaskKey("bench", "touching", "first", RUN)
_SIZE = 64 << 10
_SECONDS = 600


class Reads(msgspec.Struct):
    """What one process saw."""

    right: int = 0
    corrupt: int = 0
    failures: list[str] = []


class FirstTouch(Contender):
    """Ours, through a cache folder that all share.

    Args:
        files: How many the output has.
        processes: How many read.
        results: A folder where each leaves what it saw.
        isolated: Without, they are threads, which proves little.
    """

    name = "hot-cold, NodeCache"
    settings = "layer.resolve(key)['default'].read_bytes(name), design hot-cold with one cache folder for all processes"
    in_children = True

    def __init__(self, files: int, processes: int, results: Path, *, isolated: bool) -> None:
        self.group = self.name
        self.files = files
        self.processes = processes
        self.results = results / self.name.replace(" ", "-")
        self.isolated = isolated

    def open(self, door: Door) -> None:
        self.door = door
        self.folder: Path | None = None
        self.running: list[Any] = []
        self.load()

    def load(self) -> None:
        """Import what the processes need, so that each is ready soon."""
        import obstore  # noqa: F401  # loaded before the clock runs

        import datalayer.stores.node_cache  # noqa: F401  # loaded before the clock runs

    def prepare(self) -> None:
        self.close()
        self.folder = scratch.new_folder()
        shutil.rmtree(self.results, ignore_errors=True)
        self.results.mkdir()
        # Forked from a process that has no threads and has contacted nobody: 64 new interpreters would take longer than all the reading.
        forked: Any = multiprocessing.get_context("fork")
        kind, barrier = (forked.Process, forked.Barrier) if self.isolated else (threading.Thread, threading.Barrier)
        self.gate = barrier(self.processes + 1)
        self.ready = barrier(self.processes + 1)
        self.running = [kind(target=self.touch, args=(number,), daemon=True) for number in range(self.processes)]
        for one in self.running:
            one.start()
        self.ready.wait(_SECONDS)

    def touch(self, number: int) -> None:
        """Read every file, as one of the processes."""
        read = self.reader()
        seen = Reads()
        self.ready.wait(_SECONDS)
        self.gate.wait(_SECONDS)
        for file in range(self.files):
            try:
                right = read(f"{file:06}") == content(file)
            except Exception as error:  # noqa: BLE001  # a rival may fail as it likes: that is what is counted
                seen.failures.append(type(error).__name__)
            else:
                seen.right += right
                seen.corrupt += not right
        (self.results / f"{number}.json").write_bytes(msgspec.json.encode(seen))

    def reader(self) -> Any:
        """Return a function that returns a file's bytes."""
        layer = self.door.hot_layer(str(self.folder))
        output = layer.resolve(_KEY)["default"]
        return output.read_bytes

    def run(self, sink: Sink) -> None:
        self.gate.wait(_SECONDS)
        deadline = time.monotonic() + _SECONDS
        for one in self.running:
            one.join(max(0.0, deadline - time.monotonic()))
        if hung := sum(one.is_alive() for one in self.running):
            raise BenchmarkError(f"{hung} of {self.processes} readers still read after {_SECONDS} s")

    def check(self, sink: Sink) -> None:
        files = sorted(self.results.iterdir())
        sink.take(f"{len(files)} processes".encode())

    def close(self) -> None:
        for one in self.running if self.isolated else ():
            if one.is_alive():
                one.kill()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


class FsspecShared(FirstTouch):
    """fsspec's cache of whole files, in a folder that all share."""

    name = "fsspec filecache, shared"
    settings = f"filecache over s3fs in one folder for all processes, pool {POOL}; nothing is verified"

    def load(self) -> None:
        import fsspec.implementations.cached  # noqa: F401  # loaded before the clock runs
        import s3fs  # noqa: F401  # loaded before the clock runs

    def reader(self) -> Any:
        from fsspec.implementations.cached import WholeFileCacheFileSystem

        s3 = self.door.s3fs()
        filesystem = WholeFileCacheFileSystem(fs=s3, cache_storage=str(self.folder), skip_instance_cache=True)
        place = f"{self.door.bucket}/root{_KEY}/attempts/1/default"

        def read(name: str) -> bytes:
            with filesystem.open(f"{place}/{name}", "rb") as file:
                return bytes(file.read())

        return read


def content(file: int) -> bytes:
    """Return what a file holds: no two are alike."""
    return file.to_bytes(8, "big") * (_SIZE // 8)


class FirstTouches(Workload):
    """Many processes, one cache."""

    name = "p10"
    row = "P10"
    measures = f"64 processes touch the same output of {_SIZE >> 10} KiB files first (quick: 16)"
    limits = STD
    counted_apart = False

    @property
    def rounds(self) -> int:
        return 1

    def prepare(self, door: Door) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix=scratch.prefix())
        self.files = self.scale.pick(full=1600, bench=160, quick=40, tiny=3)
        self.processes = self.scale.pick(full=64, bench=64, quick=16, tiny=3)
        with door.layer().publish(_KEY) as attempt:
            output = attempt.output()
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda file: output.put(f"{file:06}", content(file)), range(self.files)))

    def close(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def contenders(self) -> Sequence[Contender]:
        isolated = self.scale is not Scale.TINY
        folder = Path(self.folder.name)
        return [kind(self.some(kind), self.processes, folder, isolated=isolated) for kind in (FirstTouch, FsspecShared)]

    def some(self, kind: type[FirstTouch]) -> int:
        """Return how many of the files are read: the rival looks at each three times at the origin, and shows what it does in fewer."""
        return (
            self.files if kind is FirstTouch else min(self.files, self.scale.pick(full=320, bench=24, quick=24, tiny=3))
        )

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        found = []
        for kind in (FirstTouch, FsspecShared):
            files = self.some(kind)
            reads = files * self.processes
            ours = kind is FirstTouch
            places = (Path(self.folder.name) / kind.name.replace(" ", "-")).iterdir()
            seen = [msgspec.json.decode(file.read_bytes(), type=Reads) for file in places]
            failures = [failure for one in seen for failure in one.failures]
            corrupt = sum(one.corrupt for one in seen)
            lost = reads - sum(one.right for one in seen) - corrupt - len(failures)
            note = f"{corrupt:,} of other bytes, {len(failures):,} errors ({', '.join(sorted(set(failures))) or 'none'}), {lost:,} never made"
            found += [
                Figure(
                    name=f"{kind.name}: corrupt reads of {reads:,}",
                    value=same(reads - sum(one.right for one in seen)),
                    unit="reads",
                    at_most=0 if ours else None,
                    ceiling="0",
                    emulated=True,
                    note=note,
                ),
                Figure(
                    name=f"{kind.name}: downloads of each file",
                    value=same(timings[kind.name].bytes_down / (files * _SIZE)),
                    unit="×",
                    at_most=1.01 if ours else None,
                    ceiling="1.0",
                    emulated=True,
                    note=f"{timings[kind.name].request_count:,.0f} requests for {files:,} files, by bytes",
                ),
            ]
        return found
