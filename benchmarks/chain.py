"""Contenders that run a chain of tasks, each of which reads what the one before it wrote: what ``p8`` compares."""

from __future__ import annotations

import shutil
import uuid
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import scratch
from benchmarks.contender import Contender, Sink
from benchmarks.copies import CHUNK
from benchmarks.origin import Door
from benchmarks.poc import PARALLEL, SERIAL, Transfer
from benchmarks.reading import NAME
from datalayer import DataLayer, RunId, TaskKey

_PART = 16 << 20


class Chain(Contender):
    """Tasks one after the other. Each copies its input and writes its own number over the first bytes, so that an older file would be seen.

    Files of this machine are in memory, where there is such a folder: a disk that is slower than S3's network, and shared with the emulated S3, would
    be all that is measured.

    Args:
        first: What the first task reads.
        hops: How many tasks.
        done: How many are run where all hops are alike, and ``in_part`` says so; every chain shows this task's output, and its last.
    """

    group = "chain"
    in_memory = True
    in_part = False
    """Whether only the first tasks are run, and the others are taken to last as long."""

    def __init__(self, first: TaskKey, hops: int, done: int) -> None:
        self.first = str(first)
        self.hops = done if self.in_part else hops
        self.done = done
        self.part = self.hops / hops

    def open(self, door: Door) -> None:
        self.door = door
        self.folder: Path | None = None

    def prepare(self) -> None:
        self.close()
        place = scratch.MEMORY if self.in_memory and scratch.MEMORY.is_dir() else None
        self.folder = scratch.new_folder(place)
        self.number = uuid.uuid4().hex

    def run(self, sink: Sink) -> None:
        for number in range(1, self.hops + 1):
            self.hop(number)

    def check(self, sink: Sink) -> None:
        for number in sorted({self.done, self.hops}):
            self.show(number, sink)

    @abstractmethod
    def hop(self, number: int) -> None:
        """Run one task, from 1."""

    @abstractmethod
    def show(self, number: int, sink: Sink) -> None:
        """Give the sink what a task has made."""

    def key(self, number: int) -> TaskKey:
        """Return a task's key; number 0 is what the first one reads."""
        return TaskKey("bench", "chain", f"task-{number}", RunId(self.number)) if number else TaskKey.parse(self.first)

    def local(self, name: str) -> Path:
        """Return a path in a folder that the run has for itself, on this machine."""
        return (self.folder or Path()) / name

    def close(self) -> None:
        if self.folder is None:
            return
        import obstore

        shutil.rmtree(self.folder)
        self.folder = None
        # A chain leaves many gigabytes.
        store = self.door.obstore()
        for prefix in ("root/bench/chain", "chain"):
            obstore.delete(store, [info["path"] for page in obstore.list(store, prefix) for info in page])


class InPlace(Chain):
    """Ours: each task has a layer of its own, streams its input, verified, and publishes."""

    name = "s3-direct"
    settings = "stream(name) into output().open(name), a layer for each task"
    in_part = True

    def layer(self) -> DataLayer:
        """Return a new task's layer."""
        return self.door.layer()

    def hop(self, number: int) -> None:
        layer = self.layer()
        upstream = layer.resolve(self.key(number - 1))
        publishing = layer.publish(self.key(number), inputs=[upstream.pin("upstream")])
        with publishing as attempt, attempt.output().open(NAME) as file:
            _work(number, upstream["default"].stream(NAME, chunk_size=CHUNK), file.write)

    def show(self, number: int, sink: Sink) -> None:
        for chunk in self.layer().resolve(self.key(number))["default"].stream(NAME):
            sink.take(chunk)


class _Objects(Chain):
    """A chain that knows nothing of us, and writes its objects itself."""

    def object(self, number: int) -> str:
        """Return the key of a task's output."""
        if number == 0:
            return f"root{self.key(0)}/attempts/1/default/{NAME}"
        return f"chain/{self.number}/{number}/{NAME}"

    def show(self, number: int, sink: Sink) -> None:
        import obstore

        for chunk in obstore.get(self.door.obstore(), self.object(number)).stream(min_chunk_size=CHUNK):
            sink.take(chunk)


class Poc(_Objects):
    """The POC: all input is downloaded, then the task runs on files, then all output is uploaded."""

    name = "s3-poc, serial"
    settings = f"{SERIAL}; the task from file to file, in memory"
    in_part = True
    parallel = False

    def prepare(self) -> None:
        super().prepare()
        self.transfer = Transfer(self.door, parallel=self.parallel)
        self.transfer.warm_up(self.object(0))

    def hop(self, number: int) -> None:
        source, made = self.local("in"), self.local("out")
        self.transfer.download(self.object(number - 1), source)
        with source.open("rb", buffering=0) as read, made.open("wb", buffering=0) as written:
            _work(number, iter(lambda: read.read(CHUNK), b""), written.write)
        self.transfer.upload(made, self.object(number))
        source.unlink()
        made.unlink()


class PocTransfer(Poc):
    """The POC as well as it can be: each step as parallel as boto3 makes it."""

    name = "s3-poc, TransferManager"
    settings = f"{PARALLEL}; the task from file to file, in memory"
    parallel = True


class NodeCached(InPlace):
    """Ours, with a cache folder into which a copy of each output goes as it is written to S3."""

    name = "hot-cold, NodeCache"
    settings = "as s3-direct, design hot-cold with a cache folder and CACHE_THROUGH"
    # The first task's input is on S3, and every other one's on the machine.
    in_part = False

    def layer(self) -> DataLayer:
        # Room for what the next task reads, not for all there ever was: copies are in memory here.
        return self.door.hot_layer(str(self.local("cache")), "4GB")


class Shared(InPlace):
    """Ours, on a volume: a folder of this machine, in memory."""

    name = "shared-fs"
    settings = "as s3-direct, design shared-fs on a folder in memory"
    in_part = False

    def layer(self) -> DataLayer:
        return DataLayer(self.door.config(design="shared-fs", tiers={"shared": {"url": str(self.volume())}}))

    def volume(self) -> Path:
        """Return the volume's folder."""
        return self.local("volume")

    def prepare(self) -> None:
        super().prepare()
        self.volume().mkdir()
        # What the first task reads lies there too.
        with self.layer().publish(self.key(0)) as attempt, attempt.output().open(NAME) as file:
            for chunk in self.door.layer().resolve(self.key(0))["default"].stream(NAME, chunk_size=CHUNK):
                file.write(chunk)


class SharedOnDisk(Shared):
    """The same on this machine's disk, where each file is before its commit."""

    name = "shared-fs, disk"
    settings = "as s3-direct, design shared-fs on this machine's disk, synced before each commit"
    in_memory = False


class SharedOverEfs(Shared):
    """The same over the emulated EFS, mounted."""

    name = "shared-fs, EFS"
    settings = "as s3-direct, design shared-fs on the emulated EFS"

    def volume(self) -> Path:
        return Path(self.door.required_efs) / self.number

    def close(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.volume(), ignore_errors=True)
        super().close()


class FsspecFile(_Objects):
    """fsspec's cache of whole files over s3fs, read and written through.

    A file is written on this machine, then uploaded. What was written is no copy yet: it is downloaded when it is read.
    """

    name = "fsspec filecache"
    settings = "filecache over s3fs to read and write, parts of 16 MiB, 8 in flight, pool 128; nothing is verified"
    in_part = True

    def prepare(self) -> None:
        super().prepare()
        self.s3 = self.door.s3fs()
        self.s3.info(self.path(0))
        self.filesystem = self.cache()

    def cache(self) -> Any:
        """Return the cache, empty."""
        from fsspec.implementations.cached import WholeFileCacheFileSystem

        return WholeFileCacheFileSystem(fs=self.s3, cache_storage=str(self.local("cache")), skip_instance_cache=True)

    def hop(self, number: int) -> None:
        # The cache's own file is what uploads it, in parts.
        writing = self.filesystem.open(self.path(number), "wb", chunksize=_PART)
        with self.filesystem.open(self.path(number - 1), "rb") as read, writing as written:
            _work(number, iter(lambda: read.read(CHUNK), b""), written.write)

    def path(self, number: int) -> str:
        """Return where a task's output lies, bucket and all."""
        return f"{self.door.bucket}/{self.object(number)}"


class FsspecSimple(FsspecFile):
    """fsspec's simplest cache, in which what was written stays as the copy."""

    name = "fsspec simplecache"
    settings = "simplecache, else as filecache"
    in_part = False

    def cache(self) -> Any:
        from fsspec.implementations.cached import SimpleCacheFileSystem

        return SimpleCacheFileSystem(fs=self.s3, cache_storage=str(self.local("cache")), skip_instance_cache=True)


class FsspecBlocks(FsspecFile):
    """fsspec's cache of blocks, sparse files on this machine."""

    name = "fsspec blockcache"
    settings = "blockcache of blocks of 15 MiB over s3fs, else as filecache"

    def cache(self) -> Any:
        from fsspec.implementations.cached import CachingFileSystem

        # Seen with fsspec 2026.9: a file that ends where a block ends cannot be read to its end; and files are left for the collector to close.
        warnings.simplefilter("ignore", ResourceWarning)
        self.s3.default_block_size = 15 << 20
        return CachingFileSystem(fs=self.s3, cache_storage=str(self.local("cache")), skip_instance_cache=True)


def _work(number: int, chunks: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    first = True
    for chunk in chunks:
        write(number.to_bytes(8, "big") + chunk[8:] if first else chunk)
        first = False
