"""Contenders that read one large file, and the file: what ``read-256mb``, ``p05`` and ``p13`` share."""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.contender import Contender, Sink
from benchmarks.origin import Door, some_bytes
from datalayer import TaskKey

RUN = "20130101T000000Z"
BLOCK = 8 << 20
_CACHED = 1 << 20
NAME = "data.bin"


def publish_large(door: Door, task: str, size: int) -> TaskKey:
    """Publish one file of ``size`` bytes and return its key. No two blocks are alike, so that swapped ones are seen."""
    key = TaskKey("bench", "reading", task, RUN)
    block = some_bytes(min(size, 32 << 20))
    with door.layer().publish(key) as attempt, attempt.output().open(NAME) as file:
        written = 0
        while written < size:
            part = written.to_bytes(8, "big") + block[8:]
            written += file.write(part[: size - written])
    return key


class Large(Contender):
    """One file, read whole; the subclasses say how."""

    group = "large"

    def __init__(self, key: TaskKey, size: int) -> None:
        self.key = str(key)
        self.size = size
        # Where the library has put it; the rivals are told, and so spared the resolve.
        self.object = f"root{key}/attempts/1/default/{NAME}"


class Stream(Large):
    """Ours: resolved, then streamed in order, with length and checksum verified."""

    name = "datalayer stream"
    settings = "layer.resolve(key)['default'].stream(name), verified"

    def open(self, door: Door) -> None:
        self.layer = door.layer()
        # One request, as the rivals make below: its client is made, and a connection, where no clock runs.
        self.layer.resolve(TaskKey.parse(self.key))

    def run(self, sink: Sink) -> None:
        for chunk in self.layer.resolve(TaskKey.parse(self.key))["default"].stream(NAME):
            sink.take(chunk)


class Unverified(Large):
    """Ours without the verification: the store's own stream."""

    name = "datalayer store stream"
    settings = "the same store's stream, no checksum taken"

    def open(self, door: Door) -> None:
        self.layer = door.layer()

    def run(self, sink: Sink) -> None:
        store, path = self.layer.resolve(TaskKey.parse(self.key))["default"].store_path(NAME)
        for chunk in store.stream(path):
            sink.take(chunk)


class OpenFile(Large):
    """Ours: the file object, read to its end in one call."""

    name = "datalayer open().read()"
    settings = "layer.resolve(key)['default'].open(name).read()"

    def open(self, door: Door) -> None:
        self.layer = door.layer()

    def run(self, sink: Sink) -> None:
        with self.layer.resolve(TaskKey.parse(self.key))["default"].open(NAME) as file:
            sink.take(file.read())


class ObstoreRanges(Large):
    """obstore with 8 equal ranges at once, kept apart as they come: nothing is joined or copied."""

    name = "obstore 8 ranges"
    # Not from asyncio: with obstore 0.12, large answers cost there five times the CPU (seen: 1.1 s for 256 MB, against 0.19 s).
    settings = "get_range from 8 threads, pool 128"

    def open(self, door: Door) -> None:
        self.store = door.obstore()
        self.pool = ThreadPoolExecutor(8)

    def close(self) -> None:
        self.pool.shutdown()

    def run(self, sink: Sink) -> None:
        import obstore

        step = -(-self.size // 8)

        def read(start: int) -> Any:
            return obstore.get_range(self.store, self.object, start=start, end=min(start + step, self.size))

        for data in list(self.pool.map(read, range(0, self.size, step))):
            sink.take(data)


class ObstoreWhole(Large):
    """obstore, all in one piece."""

    name = "obstore get().bytes()"
    settings = "one request, one buffer"

    def open(self, door: Door) -> None:
        self.store = door.obstore()

    def run(self, sink: Sink) -> None:
        import obstore

        sink.take(obstore.get(self.store, self.object).bytes())


class ObstoreStream(Large):
    """obstore's own stream over one connection."""

    name = "obstore stream"
    # Chunks that fit the processor's cache: with 8 MiB the same stream takes twice the CPU.
    settings = "get().stream(min_chunk_size=1 MiB), one connection"

    def open(self, door: Door) -> None:
        import obstore

        self.store = door.obstore()
        obstore.head(self.store, self.object)

    def run(self, sink: Sink) -> None:
        import obstore

        for chunk in obstore.get(self.store, self.object).stream(min_chunk_size=_CACHED):
            sink.take(chunk)


class ObstoreWindow(Large):
    """obstore with a window of ranges in flight, delivered in order: bounded memory, as ours."""

    settings = "get_range of 8 MiB from as many threads, delivered in order, pool 128"

    def __init__(self, key: TaskKey, size: int, parallel: int) -> None:
        super().__init__(key, size)
        self.parallel = parallel
        self.name = f"obstore {parallel} in flight"

    def open(self, door: Door) -> None:
        import obstore

        self.store = door.obstore()
        obstore.head(self.store, self.object)
        self.pool = ThreadPoolExecutor(self.parallel)

    def close(self) -> None:
        self.pool.shutdown()

    def run(self, sink: Sink) -> None:
        import obstore

        def read(start: int) -> Any:
            return obstore.get_range(self.store, self.object, start=start, end=min(start + BLOCK, self.size))

        starts = iter(range(0, self.size, BLOCK))
        pending = deque(self.pool.submit(read, start) for start in itertools.islice(starts, self.parallel))
        while pending:
            data = pending.popleft().result()
            pending.extend(self.pool.submit(read, start) for start in itertools.islice(starts, 1))
            sink.take(data)


class ArrowRead(Large):
    """pyarrow's S3FileSystem, 8 ranges from 8 threads, kept apart."""

    name = "pyarrow 8 ranges"
    settings = "S3FileSystem, open_input_file, 8 threads read_at, 64 I/O threads"

    def open(self, door: Door) -> None:
        self.filesystem = door.arrow()
        self.path = f"{door.bucket}/{self.object}"
        self.pool = ThreadPoolExecutor(8)

    def close(self) -> None:
        self.pool.shutdown()

    def run(self, sink: Sink) -> None:
        step = -(-self.size // 8)
        with self.filesystem.open_input_file(self.path) as file:
            for data in self.pool.map(lambda start: file.read_at(step, start), range(0, self.size, step)):
                sink.take(data)


class ArrowWhole(Large):
    """pyarrow's S3FileSystem, all in one piece."""

    name = "pyarrow open().read()"
    settings = "S3FileSystem, open_input_file, read()"

    def open(self, door: Door) -> None:
        self.filesystem = door.arrow()
        self.path = f"{door.bucket}/{self.object}"

    def run(self, sink: Sink) -> None:
        with self.filesystem.open_input_file(self.path) as file:
            sink.take(file.read())


class ArrowStream(Large):
    """pyarrow's S3FileSystem as a stream."""

    name = "pyarrow stream"
    settings = "S3FileSystem, open_input_stream, reads of 8 MiB"

    def open(self, door: Door) -> None:
        self.filesystem = door.arrow()
        self.path = f"{door.bucket}/{self.object}"
        self.filesystem.get_file_info(self.path)

    def run(self, sink: Sink) -> None:
        with self.filesystem.open_input_stream(self.path) as file:
            while chunk := file.read(BLOCK):
                sink.take(chunk)


class S3fsStream(Large):
    """s3fs's file, read in order."""

    name = "s3fs stream"
    settings = (
        "S3FileSystem.open(path, cache_type='readahead', block_size=16 MiB), reads of 8 MiB, 8 in flight, pool 128"
    )

    def open(self, door: Door) -> None:
        self.filesystem = door.s3fs()
        self.path = f"{door.bucket}/{self.object}"
        self.filesystem.exists(self.path)

    def run(self, sink: Sink) -> None:
        with self.filesystem.open(self.path, "rb", cache_type="readahead", block_size=16 << 20) as file:
            while chunk := file.read(BLOCK):
                sink.take(chunk)


class Boto3Stream(Large):
    """boto3 over one connection."""

    name = "boto3 stream"
    settings = "get_object()['Body'].iter_chunks(1 MiB), one connection"

    def open(self, door: Door) -> None:
        self.client = door.boto3()
        self.bucket = door.bucket
        self.client.head_object(Bucket=self.bucket, Key=self.object)

    def close(self) -> None:
        self.client.close()

    def run(self, sink: Sink) -> None:
        for chunk in self.client.get_object(Bucket=self.bucket, Key=self.object)["Body"].iter_chunks(_CACHED):
            sink.take(chunk)
