"""A warm read through Alluxio's proxy, by us and by the clients of its S3 interface.

Ours: the verified stream, and the file object. Rivals, straight to the proxy and without a checksum: obstore as a stream, obstore with ranges of
8 MiB in flight, obstore's file object, boto3. Goal: the stream at least 0.95 times as fast as the best, the file as obstore's. Ceiling: 1.0.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from benchmarks.contender import Contender, Sink
from benchmarks.copies import CHUNK
from benchmarks.origin import POOL, Door
from benchmarks.reading import BLOCK, NAME, Large, publish_large
from benchmarks.results import Figure, Timing, fastest, same, speed_against
from benchmarks.workload import Workload
from datalayer import TaskKey


class Stream(Large):
    """Ours, verified."""

    name = "datalayer stream"
    settings = "stream(name), verified, hot-cold with Alluxio"

    def open(self, door: Door) -> None:
        self.layer = door.alluxio_layer()

    def run(self, sink: Sink) -> None:
        for chunk in self.layer.resolve(TaskKey.parse(self.key), attempt=1)["default"].stream(NAME):
            sink.take(chunk)


class OpenFile(Stream):
    """Ours, as a file."""

    name = "datalayer open()"
    settings = "open(name).read(1 MiB), verified, hot-cold with Alluxio"

    def run(self, sink: Sink) -> None:
        with self.layer.resolve(TaskKey.parse(self.key), attempt=1)["default"].open(NAME) as file:
            while chunk := file.read(CHUNK):
                sink.take(chunk)


class _Straight(Large):
    """A client of the proxy's S3 interface."""

    def open(self, door: Door) -> None:
        from obstore.store import S3Store

        alluxio = door.required_alluxio
        folder = urlsplit(alluxio.url).path.strip("/")
        self.bucket, _, prefix = folder.partition("/")
        # Mounted on the bucket's folder `root`.
        self.object = f"{prefix}/{self.object.removeprefix('root/')}".lstrip("/")
        self.endpoint = f"{alluxio.proxy}/api/v1/s3"
        self.store = S3Store(
            self.bucket,
            endpoint=self.endpoint,
            region=door.region,
            access_key_id="bench",
            secret_access_key="unchecked",  # noqa: S106  # Alluxio looks at none
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "pool_max_idle_per_host": str(POOL), "timeout": "600s"},
        )


class ObstoreStream(_Straight):
    """obstore over one connection."""

    name = "obstore stream"
    settings = "get().stream(min_chunk_size=256 KiB) from the proxy"

    def run(self, sink: Sink) -> None:
        import obstore

        for chunk in obstore.get(self.store, self.object).stream(min_chunk_size=256 << 10):
            sink.take(chunk)


class ObstoreWindow(_Straight):
    """obstore with several ranges in flight, delivered in order."""

    name = "obstore 4 in flight"
    settings = "get_range of 8 MiB from 4 threads, delivered in order, from the proxy"

    def open(self, door: Door) -> None:
        super().open(door)
        self.pool = ThreadPoolExecutor(4)

    def close(self) -> None:
        self.pool.shutdown()

    def run(self, sink: Sink) -> None:
        import obstore

        def read(start: int) -> Any:
            return obstore.get_range(self.store, self.object, start=start, end=min(start + BLOCK, self.size))

        starts = iter(range(0, self.size, BLOCK))
        pending = deque(self.pool.submit(read, start) for start in itertools.islice(starts, 4))
        while pending:
            data = pending.popleft().result()
            pending.extend(self.pool.submit(read, start) for start in itertools.islice(starts, 1))
            sink.take(data)


class ObstoreFile(_Straight):
    """obstore's file object."""

    name = "obstore open_reader()"
    settings = "open_reader(buffer_size=8 MiB).read(1 MiB) from the proxy"

    def run(self, sink: Sink) -> None:
        import obstore

        file = obstore.open_reader(self.store, self.object, buffer_size=BLOCK)
        while chunk := file.read(CHUNK):
            sink.take(chunk)


class Boto3(_Straight):
    """boto3 over one connection."""

    name = "boto3"
    settings = "get_object, Body.iter_chunks(1 MiB), from the proxy"

    def open(self, door: Door) -> None:
        import boto3
        from botocore.config import Config

        super().open(door)
        self.boto3 = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=door.region,
            aws_access_key_id="bench",
            aws_secret_access_key="unchecked",  # noqa: S106  # Alluxio looks at none
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=POOL),
        )

    def close(self) -> None:
        self.boto3.close()

    def run(self, sink: Sink) -> None:
        for chunk in self.boto3.get_object(Bucket=self.bucket, Key=self.object)["Body"].iter_chunks(CHUNK):
            sink.take(chunk)


_OURS: tuple[type[Large], ...] = (Stream, OpenFile)
_RIVALS: tuple[type[Large], ...] = (ObstoreStream, ObstoreWindow, ObstoreFile, Boto3)


class AlluxioProxy(Workload):
    """What we add to Alluxio's proxy."""

    name = "alluxio-proxy"
    only_full = True
    measures = "256 MB read through Alluxio's proxy, all of it in Alluxio's memory"
    alluxio = True

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=11, bench=5, quick=5, tiny=1)

    def prepare(self, door: Door) -> None:
        self.size = self.scale.pick(full=256_000_000, bench=256_000_000, quick=256_000_000, tiny=10_000_000)
        self.key = publish_large(door, "proxy", self.size)
        door.alluxio_layer().hot.warm(self.key)

    def contenders(self) -> Sequence[Contender]:
        return [kind(self.key, self.size) for kind in (*_OURS, *_RIVALS)]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        best = fastest(timings, [rival.name for rival in _RIVALS])
        # A file can be read anywhere, and so is compared with files.
        compared = ((Stream, best, "the best "), (OpenFile, timings[ObstoreFile.name], "a file "))
        speeds = [
            Figure(
                name=f"{ours.name}: speed against {which}({rival.name})",
                value=speed_against(timings[ours.name], rival),
                unit="×",
                at_least=0.95,
                ceiling="1.0",
            )
            for ours, rival, which in compared
        ]
        fetched = max(timings[kind.name].bytes_down for kind in _OURS)
        return [
            *speeds,
            Figure(
                name="bytes from the origin over the data",
                value=same(fetched / self.size),
                unit="×",
                at_most=0.01,
                ceiling="0",
            ),
        ]
