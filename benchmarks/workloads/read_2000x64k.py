"""2,000 files of 64 KB, all read.

Ours: ``read_many``, every file verified. Rivals, with as many requests in flight: obstore from asyncio and from threads, pyarrow's S3FileSystem
from threads. They are given the list of objects; we read it from the manifest. Goal: at least 0.95 times as fast as the best. Ceiling: 1.0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.contender import Contender, Sink
from benchmarks.origin import Door, some_bytes
from benchmarks.reading import RUN
from benchmarks.results import Figure, Timing, fastest, speed_against
from benchmarks.workload import Workload
from datalayer import TaskKey

_SIZE = 64_000
_PARALLEL = 32


def publish_many(door: Door, task: str, count: int, size: int) -> TaskKey:
    """Publish ``count`` files of ``size`` bytes and return their key."""
    key = TaskKey("bench", "reading", task, RUN)
    data = some_bytes(size)
    with door.layer().publish(key) as attempt, ThreadPoolExecutor(16) as pool:
        output = attempt.output()
        list(pool.map(lambda number: output.put(_name(number), number.to_bytes(8, "big") + data[8:]), range(count)))
    return key


def _name(number: int) -> str:
    return f"part-{number:05}"


class _Many(Contender):
    group = "many"

    def __init__(self, key: TaskKey, count: int) -> None:
        self.key = str(key)
        self.count = count

    def objects(self) -> Iterator[str]:
        """The objects, in order."""
        return (f"root{self.key}/attempts/1/default/{_name(number)}" for number in range(self.count))


class ReadMany(_Many):
    """Ours."""

    name = "datalayer read_many"
    settings = f"layer.resolve(key)['default'].read_many(), verified, {_PARALLEL} in flight"

    def open(self, door: Door) -> None:
        self.layer = door.layer()

    def run(self, sink: Sink) -> None:
        output = self.layer.resolve(TaskKey.parse(self.key))["default"]
        for _, data in output.read_many(parallel=_PARALLEL):
            sink.take(data)


class ObstoreAsync(_Many):
    """obstore from asyncio."""

    name = "obstore asyncio"
    settings = f"get_async, semaphore of {_PARALLEL}, pool 128"

    def open(self, door: Door) -> None:
        self.store = door.obstore()

    def run(self, sink: Sink) -> None:
        import obstore

        async def read_all() -> list[Any]:
            turns = asyncio.Semaphore(_PARALLEL)

            async def read(path: str) -> Any:
                async with turns:
                    result = await obstore.get_async(self.store, path)
                    return await result.bytes_async()

            return await asyncio.gather(*map(read, self.objects()))

        for data in asyncio.run(read_all()):
            sink.take(data)


class ObstoreThreads(_Many):
    """obstore from threads."""

    name = "obstore threads"
    settings = f"get from {_PARALLEL} threads, pool 128"

    def open(self, door: Door) -> None:
        self.store = door.obstore()
        self.pool = ThreadPoolExecutor(_PARALLEL)

    def close(self) -> None:
        self.pool.shutdown()

    def run(self, sink: Sink) -> None:
        import obstore

        for data in self.pool.map(lambda path: obstore.get(self.store, path).bytes(), self.objects()):
            sink.take(data)


class ArrowThreads(_Many):
    """pyarrow's S3FileSystem from threads."""

    name = "pyarrow threads"
    settings = f"S3FileSystem, open_input_stream from {_PARALLEL} threads, 64 I/O threads"

    def open(self, door: Door) -> None:
        self.filesystem = door.arrow()
        self.bucket = door.bucket
        self.pool = ThreadPoolExecutor(_PARALLEL)

    def close(self) -> None:
        self.pool.shutdown()

    def run(self, sink: Sink) -> None:
        def read(path: str) -> Any:
            with self.filesystem.open_input_stream(f"{self.bucket}/{path}") as file:
                return file.read()

        for data in self.pool.map(read, self.objects()):
            sink.take(data)


class Read2000x64K(Workload):
    """Many small files through us and directly."""

    name = "read-2000x64k"
    only_full = True
    measures = "2,000 files of 64 KB, all read, warm page cache at the server"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=9, bench=5, quick=3, tiny=1)

    def prepare(self, door: Door) -> None:
        self.count = self.scale.pick(full=2000, bench=2000, quick=2000, tiny=20)
        self.key = publish_many(
            door, "many", self.count, self.scale.pick(full=_SIZE, bench=_SIZE, quick=_SIZE, tiny=100)
        )

    def contenders(self) -> Sequence[Contender]:
        return [kind(self.key, self.count) for kind in (ReadMany, ObstoreAsync, ObstoreThreads, ArrowThreads)]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        best = fastest(timings, [ObstoreAsync.name, ObstoreThreads.name, ArrowThreads.name])
        value = speed_against(timings[ReadMany.name], best)
        return [
            Figure(name=f"speed against the best ({best.name})", value=value, unit="×", at_least=0.95, ceiling="1.0")
        ]
