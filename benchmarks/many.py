"""Contenders that read many small files, and the files: what P3, P4 and the sweeps share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.contender import Contender, Sink
from benchmarks.origin import POOL, Door, some_bytes
from benchmarks.reading import RUN
from datalayer import TaskKey

PARALLEL = 128
"""Requests in flight: what hides 30 ms at the emulated origin's 250 MB/s. More is tried, too."""


def publish_files(door: Door, task: str, count: int, size: int, *, packed: bool = False) -> TaskKey:
    """Publish ``count`` files of ``size`` bytes and return their key."""
    key = TaskKey("bench", "many", task, RUN)
    data = some_bytes(size)
    with door.layer().publish(key) as attempt:
        output = attempt.output(packed=packed)

        def put(number: int) -> None:
            output.put(file_name(number), (number.to_bytes(8, "big") + data[8:])[:size])

        if packed:
            for number in range(count):
                put(number)
        else:
            with ThreadPoolExecutor(32) as pool:
                list(pool.map(put, range(count)))
    return key


def file_name(number: int) -> str:
    """The name of a file."""
    return f"part-{number:05}"


class Many(Contender):
    """Reads the files in order; the subclasses say how.

    Args:
        key: The task that published them, each an object of its own.
        count: How many.
        parallel: How many requests are in flight.
    """

    group = "many"

    def __init__(self, key: TaskKey, count: int, parallel: int = PARALLEL) -> None:
        self.key = str(key)
        self.count = count
        self.parallel = parallel

    def objects(self) -> Iterator[str]:
        """The objects, in order. The rivals are told them; we read them from the manifest."""
        return (f"root{self.key}/attempts/1/default/{file_name(number)}" for number in range(self.count))


class ReadMany(Many):
    """Ours: resolved anew, and every file verified; with as many requests in flight as it takes by itself, or as the rivals have."""

    name = "datalayer read_many"

    def __init__(self, key: TaskKey, count: int, parallel: int | None = None) -> None:
        super().__init__(key, count)
        self.given: dict[str, Any] = {} if parallel is None else {"parallel": parallel}
        at_once = "as many at once as it takes by itself" if parallel is None else f"parallel={parallel}"
        self.settings = f"layer.resolve(key)['default'].read_many(), {at_once}, resolved and verified"

    def open(self, door: Door) -> None:
        self.door = door

    def prepare(self) -> None:
        # Nothing is remembered of the last round: neither the manifest nor the list of files.
        self.layer = self.door.layer()
        # The client is made here, as the rivals'. The run asks for the head again: an unpinned resolve always does.
        self.layer.resolve(TaskKey.parse(self.key))

    def run(self, sink: Sink) -> None:
        output = self.layer.resolve(TaskKey.parse(self.key))["default"]
        for _, data in output.read_many(**self.given):
            sink.take(data)


class ReadPacked(ReadMany):
    """Ours, of an output that was packed at its commit."""

    name = "datalayer read_many, packed"


class SerialLoop(Many):
    """The POC: one file after the other. It reads only the first ones; the rest is extrapolated."""

    name = "boto3 serial loop"
    settings = "get_object of one file after the other, over one connection; as the POC downloads"

    def __init__(self, key: TaskKey, count: int, part: int) -> None:
        super().__init__(key, part)
        self.part = part / count

    def open(self, door: Door) -> None:
        self.client = door.boto3()
        self.bucket = door.bucket

    def run(self, sink: Sink) -> None:
        for path in self.objects():
            sink.take(self.client.get_object(Bucket=self.bucket, Key=path)["Body"].read())


class ObstoreAsync(Many):
    """obstore from asyncio."""

    def __init__(self, key: TaskKey, count: int, parallel: int = PARALLEL) -> None:
        super().__init__(key, count, parallel)
        self.name = f"obstore asyncio, {parallel} in flight"
        self.settings = f"get_async, semaphore of {parallel}, pool {max(parallel, POOL)}"

    def open(self, door: Door) -> None:
        self.store = door.obstore(max(self.parallel, POOL))

    def run(self, sink: Sink) -> None:
        import obstore

        async def read_all() -> list[Any]:
            turns = asyncio.Semaphore(self.parallel)

            async def read(path: str) -> Any:
                async with turns:
                    result = await obstore.get_async(self.store, path)
                    return await result.bytes_async()

            return await asyncio.gather(*map(read, self.objects()))

        for data in asyncio.run(read_all()):
            sink.take(data)


class _Threads(Many):
    """Reads from a pool of threads."""

    def open(self, door: Door) -> None:
        self.read = self.reader(door)
        self.pool = ThreadPoolExecutor(self.parallel)

    def close(self) -> None:
        self.pool.shutdown()

    def run(self, sink: Sink) -> None:
        for data in self.pool.map(self.read, self.objects()):
            sink.take(data)

    def reader(self, door: Door) -> Callable[[str], Any]:
        """Return what reads one object."""
        raise NotImplementedError


class ObstoreThreads(_Threads):
    """obstore from threads."""

    def __init__(self, key: TaskKey, count: int, parallel: int = PARALLEL) -> None:
        super().__init__(key, count, parallel)
        self.name = f"obstore, {parallel} threads"
        self.settings = f"get from {parallel} threads, pool {max(parallel, POOL)}"

    def reader(self, door: Door) -> Callable[[str], Any]:
        import obstore

        store = door.obstore(max(self.parallel, POOL))
        return lambda path: obstore.get(store, path).bytes()


class ArrowThreads(_Threads):
    """pyarrow's S3FileSystem from threads."""

    name = "pyarrow threads"

    def __init__(self, key: TaskKey, count: int, parallel: int = PARALLEL) -> None:
        super().__init__(key, count, parallel)
        self.settings = f"S3FileSystem, open_input_stream from {parallel} threads, 64 I/O threads"

    def reader(self, door: Door) -> Callable[[str], Any]:
        filesystem, bucket = door.arrow(), door.bucket

        def read(path: str) -> Any:
            with filesystem.open_input_stream(f"{bucket}/{path}") as file:
                return file.read()

        return read


class Boto3Threads(_Threads):
    """boto3 from threads."""

    name = "boto3 threads"
    settings = f"get_object from {PARALLEL} threads, one client, pool {POOL}"

    def reader(self, door: Door) -> Callable[[str], Any]:
        client, bucket = door.boto3(), door.bucket
        return lambda path: client.get_object(Bucket=bucket, Key=path)["Body"].read()


class S3fsCat(Many):
    """s3fs, all files in one call."""

    name = "s3fs cat"
    settings = f"cat of the whole list, batch_size {PARALLEL}, pool {POOL}"

    def open(self, door: Door) -> None:
        self.filesystem = door.s3fs()
        self.bucket = door.bucket

    def run(self, sink: Sink) -> None:
        paths = [f"{self.bucket}/{path}" for path in self.objects()]
        found = self.filesystem.cat(paths, batch_size=PARALLEL)
        for path in paths:
            sink.take(found[path])
