"""Contenders that read one large file by way of a copy on this machine: what ``p1``, ``cold-fill`` and ``warm`` share."""

from __future__ import annotations

import shutil
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks import scratch
from benchmarks.contender import Sink
from benchmarks.origin import Door
from benchmarks.poc import PARALLEL, SERIAL, Transfer
from benchmarks.reading import NAME, Large
from benchmarks.worker import BenchmarkError
from datalayer import DataLayer, TaskKey

CHUNK = 1 << 20
"""Bytes that a reader takes at once, so that they are in the processor's cache when it looks at them."""

_DROPPED_SECONDS = 30
_LOOKS = 20


class Cold(Large):
    """A reader that begins with nothing: each run has a fresh folder for its copies.

    Where several readers share a machine, whoever starts them sets ``shared``, and prepares each for the same number of runs.
    """

    shared = ""
    """A folder in which all readers of this machine share one for each run; by default each has its own."""

    def open(self, door: Door) -> None:
        self.door = door
        self.own: Path | None = None
        self.runs = 0

    def prepare(self) -> None:
        self.close()
        self.own = scratch.new_folder()
        self.runs += 1
        self.begin(f"{self.shared}/{self.runs}" if self.shared else str(self.own))

    def begin(self, folder: str) -> None:
        """Make the clients, with a connection that is warm."""
        raise NotImplementedError

    def close(self) -> None:
        if self.own is not None:
            shutil.rmtree(self.own)
            self.own = None


class Direct(Cold):
    """Ours, straight from S3."""

    name = "s3-direct"
    settings = "layer.resolve(key)['default'].stream(name), verified"
    layer: DataLayer

    def begin(self, folder: str) -> None:
        self.layer = self.door.layer()
        self.layer.resolve(TaskKey.parse(self.key))

    def run(self, sink: Sink) -> None:
        for chunk in self.layer.resolve(TaskKey.parse(self.key))["default"].stream(NAME, chunk_size=CHUNK):
            sink.take(chunk)


class NodeCached(Direct):
    """Ours, through a cache folder of the machine that is empty at first."""

    name = "hot-cold, NodeCache"
    settings = "as s3-direct, design hot-cold with a cache folder that is empty at first"

    def begin(self, folder: str) -> None:
        self.layer = self.door.hot_layer(folder)
        self.layer.resolve(TaskKey.parse(self.key))


class AlluxioCached(Direct):
    """Ours, through Alluxio, which holds nothing of it at first."""

    name = "hot-cold, Alluxio"
    settings = "as s3-direct, design hot-cold with Alluxio's proxy; its memory is empty at first"

    def begin(self, folder: str) -> None:
        self.layer = self.door.alluxio_layer()
        drop_copies(self.layer, TaskKey.parse(self.key))


class AlluxioWarmed(Direct):
    """Ours, through Alluxio, which was told beforehand what will be read."""

    name = "hot-cold, Alluxio, warmed"
    settings = "as hot-cold, Alluxio, after layer.hot.warm(key)"

    def begin(self, folder: str) -> None:
        self.layer = self.door.alluxio_layer()
        self.layer.hot.warm(TaskKey.parse(self.key))


class Downloaded(Cold):
    """The POC: all of it is downloaded to a file of one's own, and that is read."""

    name = "s3-poc, serial"
    settings = f"{SERIAL}, into a file of one's own, which is read when it is whole; nothing is verified"
    parallel = False

    def begin(self, folder: str) -> None:
        self.transfer = Transfer(self.door, parallel=self.parallel)
        self.transfer.warm_up(self.object)

    def run(self, sink: Sink) -> None:
        copy = (self.own or Path()) / NAME
        self.transfer.download(self.object, copy)
        read_file(copy, sink)


class DownloadedInParallel(Downloaded):
    """The POC, as parallel as boto3 makes it."""

    name = "s3-poc, TransferManager"
    settings = f"{PARALLEL}, into a file of one's own, which is read when it is whole; nothing is verified"
    parallel = True


class FsspecFile(Cold):
    """fsspec's cache of whole files, over s3fs. A folder for each reader: in a shared one others read files that are not whole yet."""

    name = "fsspec filecache"
    settings = "filecache over s3fs, a folder for each reader, parts of 16 MiB, 8 in flight, pool 128"

    def begin(self, folder: str) -> None:
        s3 = self.door.s3fs()
        s3.info(f"{self.door.bucket}/{self.object}")
        self.filesystem: Any = self.cache(s3)

    def cache(self, s3: Any) -> Any:
        """Return the cache, empty."""
        from fsspec.implementations.cached import WholeFileCacheFileSystem

        return WholeFileCacheFileSystem(fs=s3, cache_storage=str(self.own), skip_instance_cache=True)

    def run(self, sink: Sink) -> None:
        with self.filesystem.open(f"{self.door.bucket}/{self.object}", "rb") as file:
            while chunk := file.read(CHUNK):
                sink.take(chunk)


class FsspecBlocks(FsspecFile):
    """fsspec's cache of blocks, over s3fs. A folder for each reader, as for whole files."""

    name = "fsspec blockcache"
    settings = "blockcache of blocks of 15 MiB over s3fs, a folder for each reader, 8 in flight, pool 128"

    def cache(self, s3: Any) -> Any:
        from fsspec.implementations.cached import CachingFileSystem

        # Seen with fsspec 2026.9: a file that ends where a block ends cannot be read to its end; and files are left for the collector to close.
        warnings.simplefilter("ignore", ResourceWarning)
        s3.default_block_size = 15 << 20
        return CachingFileSystem(fs=s3, cache_storage=str(self.own), skip_instance_cache=True)


def drop_copies(layer: DataLayer, key: TaskKey) -> None:
    """Have the hot tier drop what it holds of an output, and wait until it has.

    Raises:
        BenchmarkError: It does not.
    """
    deadline = time.monotonic() + _DROPPED_SECONDS
    layer.hot.evict(key)
    looks = 0
    while layer.hot.status(key).hot:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"Alluxio still holds copies of {key} {_DROPPED_SECONDS} s after they were dropped")
        time.sleep(0.05)
        looks += 1
        if looks % _LOOKS == 0:
            # What it was still fetching when it was told came after that.
            layer.hot.evict(key)


def read_file(path: Path, sink: Sink) -> None:
    """Give the sink a local file's bytes."""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            sink.take(chunk)
