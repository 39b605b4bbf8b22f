"""Contenders that go through a list of points, each with an S3 of its own and some readers of the same output: what ``crossovers`` compares."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import msgspec

from benchmarks import scratch
from benchmarks.contender import Contender, Sink
from benchmarks.copies import CHUNK
from benchmarks.front import Front, Limits, running_front
from benchmarks.origin import Door
from benchmarks.page_cache import drop_folder
from benchmarks.poc import SERIAL, Transfer
from benchmarks.reading import RUN
from datalayer import DataLayer, TaskKey
from datalayer.resolve.output import ResolvedOutput

_SMALL = 1 << 20


@dataclass(frozen=True)
class Point:
    """Where the designs are compared."""

    limits: Limits
    readers: int
    """How many read at once, on one machine."""
    file: int
    """Bytes of each file."""


class Seen(msgspec.Struct, frozen=True):
    """What one design took at one point, for all its readers."""

    seconds: float
    cpu: float
    requests: dict[str, int]
    bytes_down: int


def key_of(file: int) -> TaskKey:
    """Return the key of the output whose files have so many bytes."""
    return TaskKey("bench", "sweep", f"files-of-{file}", RUN)


class Sweep(Contender):
    """Ours, straight from S3. Readers are threads of one process, each with a layer of its own; what is compared is waiting, not work.

    Args:
        door: The server itself, before which each point puts its own front.
        points: Where to go.
        results: A folder where what was seen is left, for another process.
    """

    name = "s3-direct"
    settings = "each reader: read_many() of files up to 1 MiB, stream() of larger ones, verified"
    group = "sweep"

    def __init__(self, door: Door, points: Sequence[Point], results: Path) -> None:
        self.server = door
        self.points = list(points)
        self.file = results / f"{self.name}.json"

    def open(self, door: Door) -> None:
        self.folder: Path | None = None

    def run(self, sink: Sink) -> None:
        seen = []
        for limits, points in itertools.groupby(self.points, key=lambda point: point.limits):
            with running_front(self.server.endpoint, limits) as front:
                for point in points:
                    with self.place():
                        found, digests = self.at(point, front)
                    seen.append(found)
                    sink.take(f"{point.file} {point.readers} {digests}".encode())
        self.file.write_bytes(msgspec.json.encode(seen))

    def at(self, point: Point, front: Front) -> tuple[Seen, list[str]]:
        """Read at one point, and return what it took and the checksums that were found."""
        door = replace(self.server, endpoint=front.endpoint)
        layers = [self.layer(door, number) for number in range(point.readers)]
        with ThreadPoolExecutor(point.readers) as pool:
            # Connections are warm.
            list(pool.map(lambda layer: self.output(layer, point), layers))
            self.before(layers[0], point)
            front.forget()
            gate = threading.Barrier(point.readers + 1)
            asked = [pool.submit(self.after, gate, layer, point, number) for number, layer in enumerate(layers)]
            cpu, began = time.process_time(), time.perf_counter()
            gate.wait()
            digests = {one.result() for one in asked}
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        counts = front.counts()
        return Seen(wall, cpu, counts.requests, counts.bytes_down), sorted(digests)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A folder of this machine that one point has for itself."""
        self.folder = scratch.new_folder()
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def after(self, gate: threading.Barrier, layer: DataLayer, point: Point, number: int) -> str:
        """Read all once everybody is ready, and return its checksum."""
        gate.wait()
        digest = hashlib.blake2b(digest_size=8)
        for data in self.read(self.output(layer, point), number):
            digest.update(data)
        return digest.hexdigest()

    def layer(self, door: Door, number: int) -> DataLayer:
        """Return the layer of one reader."""
        return door.layer()

    def before(self, layer: DataLayer, point: Point) -> None:
        """Make ready for one point. Not timed."""

    def output(self, layer: DataLayer, point: Point) -> ResolvedOutput:
        """Resolve the output."""
        return layer.resolve(key_of(point.file))["default"]

    def read(self, output: ResolvedOutput, number: int) -> Iterator[bytes]:
        """Yield the output's bytes, as this design reads them."""
        if output.output.bytes <= output.output.files * _SMALL:
            for _, data in output.read_many():
                yield data
        else:
            for name in output.files:
                yield from output.stream(name, chunk_size=CHUNK)


class DownloadedSweep(Sweep):
    """The POC: a serial loop downloads every file, then the copies are read."""

    name = "s3-poc"
    settings = (
        f"{SERIAL} a reader: each downloads one file after the other, then reads its own copies; they share a client, are told the names, and verify "
        "nothing"
    )

    transfer: Transfer | None = None
    connected = ""

    def layer(self, door: Door, number: int) -> DataLayer:
        self.door = door
        return super().layer(door, number)

    def before(self, layer: DataLayer, point: Point) -> None:
        self.known = super().output(layer, point)
        self.prefix = f"root{key_of(point.file)}/attempts/1/default"
        if self.transfer is None or self.connected != self.door.endpoint:
            self.transfer, self.connected = Transfer(self.door, parallel=False), self.door.endpoint
        self.transfer.warm_up(f"{self.prefix}/{next(iter(self.known.files))}")

    def after(self, gate: threading.Barrier, layer: DataLayer, point: Point, number: int) -> str:
        transfer = cast("Transfer", self.transfer)
        folder = (self.folder or Path()) / str(number)
        folder.mkdir()
        names = list(self.known.files)
        gate.wait()
        for name in names:
            transfer.download(f"{self.prefix}/{name}", folder / name)
        digest = hashlib.blake2b(digest_size=8)
        for name in names:
            with (folder / name).open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
        return digest.hexdigest()


class CachedSweep(Sweep):
    """Ours, through a cache folder of the machine, empty at first."""

    name = "hot-cold, cold"
    settings = "as s3-direct, design hot-cold with a cache folder that the readers share, empty at first"

    def layer(self, door: Door, number: int) -> DataLayer:
        return door.hot_layer(str((self.folder or Path()) / "cache"))


class WarmedSweep(CachedSweep):
    """The same, read before on the machine."""

    name = "hot-cold, warm"
    settings = "as hot-cold, cold, once the output has been read on this machine"

    def before(self, layer: DataLayer, point: Point) -> None:
        for _ in self.read(self.output(layer, point), 0):
            pass


class EfsSweep(Sweep):
    """Ours, on an emulated EFS volume."""

    name = "shared-fs over EFS"
    settings = (
        "as s3-direct, design shared-fs on an emulated EFS volume, page cache dropped first; its requests are not S3's"
    )

    def layer(self, door: Door, number: int) -> DataLayer:
        return door.efs_layer()

    def before(self, layer: DataLayer, point: Point) -> None:
        drop_folder(Path(self.server.required_efs))
