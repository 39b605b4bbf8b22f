"""Contenders that run a chain of tasks, each of which reads what the one before it wrote: what ``p8`` compares."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender, Sink
from benchmarks.copies import CHUNK
from benchmarks.origin import Door
from benchmarks.reading import NAME
from datalayer import DataLayer, RunId, TaskKey

_PART = 16 << 20
_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of one's own is made in it


class Chain(Contender):
    """Tasks one after the other. Each copies its input and writes its own number over the first bytes, so that an older file would be seen.

    Files of this machine are in memory, where there is such a folder: a disk that is slower than S3's network, and shared with the emulated S3, would
    be all that is measured.

    Args:
        first: What the first task reads.
        hops: How many tasks.
    """

    group = "chain"
    in_memory = True

    def __init__(self, first: TaskKey, hops: int) -> None:
        self.first = str(first)
        self.hops = hops

    def open(self, door: Door) -> None:
        self.door = door
        self.folder: Path | None = None

    def prepare(self) -> None:
        self.close()
        place = _MEMORY if self.in_memory and _MEMORY.is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="datalayer-bench-", dir=place))
        self.number = uuid.uuid4().hex

    def run(self, sink: Sink) -> None:
        for number in range(1, self.hops + 1):
            self.hop(number)

    @abstractmethod
    def hop(self, number: int) -> None:
        """Run one task, from 1."""

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

    def layer(self) -> DataLayer:
        """Return a new task's layer."""
        return self.door.layer()

    def hop(self, number: int) -> None:
        layer = self.layer()
        upstream = layer.resolve(self.key(number - 1))
        publishing = layer.publish(self.key(number), inputs=[upstream.pin("upstream")])
        with publishing as attempt, attempt.output().open(NAME) as file:
            _work(number, upstream["default"].stream(NAME, chunk_size=CHUNK), file.write)

    def check(self, sink: Sink) -> None:
        for chunk in self.layer().resolve(self.key(self.hops))["default"].stream(NAME):
            sink.take(chunk)


class Poc(InPlace):
    """The POC: all input is downloaded, then the task runs on files, then all output is uploaded."""

    name = "s3-poc"
    settings = "stream(name) into a file, the task from file to file, output().put_folder(), a layer for each task"

    def hop(self, number: int) -> None:
        layer = self.layer()
        upstream = layer.resolve(self.key(number - 1))
        source, made = self.local("in"), self.local("out")
        made.mkdir()
        with layer.publish(self.key(number), inputs=[upstream.pin("upstream")]) as attempt:
            with source.open("wb", buffering=0) as file:
                for chunk in upstream["default"].stream(NAME, chunk_size=CHUNK):
                    file.write(chunk)
            with source.open("rb", buffering=0) as read, (made / NAME).open("wb", buffering=0) as written:
                _work(number, iter(lambda: read.read(CHUNK), b""), written.write)
            attempt.output().put_folder(made)
        source.unlink()
        shutil.rmtree(made)


class NodeCached(InPlace):
    """Ours, with a cache folder into which a copy of each output goes as it is written to S3."""

    name = "hot-cold, NodeCache"
    settings = "as s3-direct, design hot-cold with a cache folder and CACHE_THROUGH"

    def layer(self) -> DataLayer:
        return self.door.hot_layer(str(self.local("cache")))


class Shared(InPlace):
    """Ours, on a volume: a folder of this machine, in memory."""

    name = "shared-fs"
    settings = "as s3-direct, design shared-fs on a folder in memory"

    def layer(self) -> DataLayer:
        return DataLayer(self.door.config(design="shared-fs", tiers={"shared": {"url": str(self.local("volume"))}}))

    def prepare(self) -> None:
        super().prepare()
        self.local("volume").mkdir()
        # What the first task reads lies there too.
        with self.layer().publish(self.key(0)) as attempt, attempt.output().open(NAME) as file:
            for chunk in self.door.layer().resolve(self.key(0))["default"].stream(NAME, chunk_size=CHUNK):
                file.write(chunk)


class SharedOnDisk(Shared):
    """The same on this machine's disk, where each file is before its commit."""

    name = "shared-fs, disk"
    settings = "as s3-direct, design shared-fs on this machine's disk, synced before each commit"
    in_memory = False


class FsspecFile(Chain):
    """fsspec's cache of whole files over s3fs, read and written through.

    A file is written on this machine, then uploaded. What was written is no copy yet: it is downloaded when it is read.
    """

    name = "fsspec filecache"
    settings = "filecache over s3fs to read and write, parts of 16 MiB, 8 in flight, pool 128; nothing is verified"

    def prepare(self) -> None:
        super().prepare()
        self.s3 = self.door.s3fs()
        self.s3.info(self.object(0))
        self.filesystem = self.cache()

    def cache(self) -> Any:
        """Return the cache, empty."""
        from fsspec.implementations.cached import WholeFileCacheFileSystem

        return WholeFileCacheFileSystem(fs=self.s3, cache_storage=str(self.local("cache")), skip_instance_cache=True)

    def hop(self, number: int) -> None:
        # The cache's own file is what uploads it, in parts.
        writing = self.filesystem.open(self.object(number), "wb", chunksize=_PART)
        with self.filesystem.open(self.object(number - 1), "rb") as read, writing as written:
            _work(number, iter(lambda: read.read(CHUNK), b""), written.write)

    def object(self, number: int) -> str:
        """Return where a task's output lies."""
        if number == 0:
            return f"{self.door.bucket}/root{self.key(0)}/attempts/1/default/{NAME}"
        return f"{self.door.bucket}/chain/{self.number}/{number}/{NAME}"

    def check(self, sink: Sink) -> None:
        with self.s3.open(self.object(self.hops), "rb") as file:
            while chunk := file.read(_PART):
                sink.take(chunk)


class FsspecSimple(FsspecFile):
    """fsspec's simplest cache, in which what was written stays as the copy."""

    name = "fsspec simplecache"
    settings = "simplecache, else as filecache"

    def cache(self) -> Any:
        from fsspec.implementations.cached import SimpleCacheFileSystem

        return SimpleCacheFileSystem(fs=self.s3, cache_storage=str(self.local("cache")), skip_instance_cache=True)


def _work(number: int, chunks: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    first = True
    for chunk in chunks:
        write(number.to_bytes(8, "big") + chunk[8:] if first else chunk)
        first = False
