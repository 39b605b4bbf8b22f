"""P7: making the output of 1,000 parts visible.

Ours: ``attempt.commit()``, one conditional put whatever the part count. Rivals: the rename of object stores (copy each object, then delete), and
what the job commit of S3A's magic committer comes down to, 1,000 CompleteMultipartUpload requests. Both are *emulated* as cheaply as we can, with
32 requests in flight: no listing before the rename, deletes in bulk, no reading of pending files, completes signed beforehand. Parts are 1 KB, so
a copy moves next to nothing. Beside them, before the *emulated* S3, the POC's rename: one process, one part after the other, a few of them and
the rest extrapolated. Goals: 200 times as fast as the rename, 10 times as fast as the completes, at most 3 requests. Ceiling: one round trip.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import re
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from benchmarks.contender import Contender, Sink
from benchmarks.front import STD
from benchmarks.origin import Door, some_bytes
from benchmarks.results import Figure, Timing, same, speed_figure
from benchmarks.workload import Workload
from datalayer import RunId, TaskKey

_PARALLEL = 32
_STAGED_AT_ONCE = 128
_PART = 1000


def _part(number: int) -> tuple[str, bytes]:
    return f"part-{number:05}", number.to_bytes(8, "big") + some_bytes(_PART - 8)


class _Parts(Contender):
    """Each run commits a fresh set of parts, which ``prepare`` has written, over the connections that the commit will use."""

    group = "commit"
    warmed_by_preparing = True

    def __init__(self, count: int) -> None:
        self.count = count
        self.number = itertools.count()

    def open(self, door: Door) -> None:
        self.store = door.obstore()
        self.parts = [_part(number) for number in range(self.count)]
        # Contenders, and passes through the proxy, share a bucket.
        self.folder = f"commits/{uuid.uuid4().hex}"

    def check_objects(self, prefix: str, sink: Sink) -> None:
        """Give the sink every object below a prefix, as a reader finds them."""
        import obstore

        found = sorted(info["path"] for page in obstore.list(self.store, prefix) for info in page)
        # Side by side: before the emulated S3 each of them waits.
        with ThreadPoolExecutor(_STAGED_AT_ONCE) as pool:
            for path, data in zip(
                found, pool.map(lambda path: obstore.get(self.store, path).bytes(), found), strict=True
            ):
                sink.take(path.rpartition("/")[2].encode())
                sink.take(data)


class OurCommit(_Parts):
    """Ours: verify what was staged, and one conditional put."""

    name = "datalayer commit"
    settings = "attempt.commit(), the parts' checksums in the manifest"

    def open(self, door: Door) -> None:
        super().open(door)
        self.layer = door.layer()

    def prepare(self) -> None:
        self.key = TaskKey("bench", "commit", "parts", RunId(uuid.uuid4().hex))
        self.attempt = self.layer.publish(self.key)
        output = self.attempt.output()
        with ThreadPoolExecutor(_STAGED_AT_ONCE) as pool:
            list(pool.map(lambda part: output.put(*part), self.parts))

    def run(self, sink: Sink) -> None:
        self.attempt.commit()

    def check(self, sink: Sink) -> None:
        for name, data in self.layer.resolve(self.key)["default"].read_many():
            sink.take(name.encode())
            sink.take(data)


class CommitAfar(OurCommit):
    """The same, with S3 as far away as it is."""

    name = "datalayer commit, emulated S3"
    limits = STD


class Rename(_Parts):
    """Copy each object to its final name, then delete the old ones in bulk."""

    name = "rename (copy and delete)"
    settings = f"obstore copy_async, {_PARALLEL} in flight, one DeleteObjects a 1,000; no listing"

    def prepare(self) -> None:
        import obstore

        self.final = f"{self.folder}/{next(self.number)}/final"
        self.staging = f"{self.folder}/staging"

        async def put(part: tuple[str, bytes]) -> None:
            await obstore.put_async(self.store, f"{self.staging}/{part[0]}", part[1])

        asyncio.run(_limited(put, self.parts, _STAGED_AT_ONCE))

    def run(self, sink: Sink) -> None:
        import obstore

        names = [name for name, _ in self.parts]

        async def copy(name: str) -> None:
            await obstore.copy_async(self.store, f"{self.staging}/{name}", f"{self.final}/{name}")

        asyncio.run(_limited(copy, names))
        obstore.delete(self.store, [f"{self.staging}/{name}" for name in names])

    def check(self, sink: Sink) -> None:
        self.check_objects(self.final, sink)


class RenameAfar(Rename):
    """The same, with S3 as far away as it is."""

    name = "rename (copy and delete), emulated S3"
    limits = STD


class LoopAfar(Rename):
    """The POC's: one part after the other, copied and deleted, some of them."""

    name = "rename, one after the other, emulated S3"
    settings = "obstore copy, then delete, for each part"
    limits = STD

    def __init__(self, count: int, done: int) -> None:
        super().__init__(count)
        self.done = done
        self.part = done / count

    def open(self, door: Door) -> None:
        super().open(door)
        self.parts = self.parts[: self.done]

    def run(self, sink: Sink) -> None:
        import obstore

        for name, _ in self.parts:
            obstore.copy(self.store, f"{self.staging}/{name}", f"{self.final}/{name}")
            obstore.delete(self.store, f"{self.staging}/{name}")


class MagicCommit(_Parts):
    """Complete one multipart upload for each part, as the magic committer does in its job commit."""

    name = "magic committer (emulated)"
    settings = f"CompleteMultipartUpload from {_PARALLEL} threads with kept connections, signed beforehand; no pending files read"

    def open(self, door: Door) -> None:
        import boto3
        from botocore.config import Config

        super().open(door)
        self.bucket = door.bucket
        self.boto3 = boto3.client(
            "s3",
            endpoint_url=door.endpoint,
            region_name=door.region,
            aws_access_key_id=door.access_key,
            aws_secret_access_key=door.secret_key,
            config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
        )
        self.senders = _Senders(door.endpoint, _PARALLEL)

    def close(self) -> None:
        self.senders.close()
        self.boto3.close()

    def prepare(self) -> None:
        self.final = f"{self.folder}/{next(self.number)}/final"
        keys = [f"{self.final}/{name}" for name, _ in self.parts]
        begun = self.senders.send("POST", [(self._sign("create_multipart_upload", Key=key), b"") for key in keys])
        uploads = [_found(rb"<UploadId>([^<]+)</UploadId>", body) for body, _ in begun]
        parts = [
            (self._sign("upload_part", Key=key, UploadId=upload, PartNumber=1), data)
            for key, upload, (_, data) in zip(keys, uploads, self.parts, strict=True)
        ]
        tags = [tag for _, tag in self.senders.send("PUT", parts)]
        self.completes = [
            (self._sign("complete_multipart_upload", Key=key, UploadId=upload), _completion(tag))
            for key, upload, tag in zip(keys, uploads, tags, strict=True)
        ]

    def run(self, sink: Sink) -> None:
        for body, _ in self.senders.send("POST", self.completes):
            # A complete can fail in a body that began with 200.
            _found(rb"<(ETag)>", body)

    def check(self, sink: Sink) -> None:
        self.check_objects(self.final, sink)

    def _sign(self, operation: str, **parameters: Any) -> str:
        url: str = self.boto3.generate_presigned_url(
            operation, Params={"Bucket": self.bucket, **parameters}, ExpiresIn=3600
        )
        return url


class _Senders:
    """Threads with one kept connection each."""

    def __init__(self, endpoint: str, count: int) -> None:
        self._address = urlsplit(endpoint)
        self._own = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._pool = ThreadPoolExecutor(count, initializer=self._connect)

    def send(self, method: str, requests: Iterable[tuple[str, bytes]]) -> list[tuple[bytes, str]]:
        """Send signed URLs with their bodies; return the answers' bodies and ETags."""
        return list(self._pool.map(lambda request: self._send(method, *request), requests))

    def close(self) -> None:
        """End threads and connections."""
        self._pool.shutdown()
        for connection in self._connections:
            connection.close()

    def _connect(self) -> None:
        self._own.connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=60)
        self._connections.append(self._own.connection)

    def _send(self, method: str, url: str, body: bytes) -> tuple[bytes, str]:
        address = urlsplit(url)
        connection: http.client.HTTPConnection = self._own.connection
        connection.request(method, f"{address.path}?{address.query}", body)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != HTTPStatus.OK:
            raise RuntimeError(f"{method} {address.path}: {answer.status} {data!r}")
        return data, answer.getheader("ETag") or ""


def _completion(tag: str) -> bytes:
    part = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
    return f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()


def _found(pattern: bytes, body: bytes) -> str:
    match = re.search(pattern, body)
    if match is None:
        raise RuntimeError(f"no {pattern!r} in {body!r}")
    return match[1].decode()


async def _limited(work: Callable[[Any], Awaitable[Any]], items: Iterable[Any], at_once: int = _PARALLEL) -> None:
    turns = asyncio.Semaphore(at_once)

    async def one(item: Any) -> None:
        async with turns:
            await work(item)

    await asyncio.gather(*map(one, items))


class Commit(Workload):
    """Visible at once, against visible one by one."""

    name = "p7"
    row = "P7"
    measures = "commit of 1,000 parts of 1 KB"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=7, bench=3, quick=1, tiny=1)

    def contenders(self) -> Sequence[Contender]:
        count = self.scale.pick(full=1000, bench=1000, quick=1000, tiny=5)
        looped = self.scale.pick(full=20, bench=20, quick=10, tiny=5)
        self.marks = (sum(len(name) + len(data) for name, data in map(_part, range(looped))),)
        kinds = (OurCommit, Rename, MagicCommit, CommitAfar, RenameAfar)
        return [*(kind(count) for kind in kinds), LoopAfar(count, looped)]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        ours, rename, magic = (timings[kind.name] for kind in (OurCommit, Rename, MagicCommit))
        afar, rename_afar, loop = (timings[kind.name] for kind in (CommitAfar, RenameAfar, LoopAfar))
        note = (
            f"a server in memory copies a part in {rename.wall.median / rename.request_count * 1e3:.2g} ms, {_PARALLEL} at once, and ours takes "
            f"{ours.cpu.median * 1e3:.2g} ms of its own, most of it to encode {ours.bytes_up / 1e3:.0f} KB of manifest. No S3 answers so soon: see "
            "the figure before the emulated one"
        )
        return [
            speed_figure(
                "speed against rename, one after the other",
                afar,
                loop,
                at_least=200,
                ceiling="2,000 round trips over one",
            ),
            speed_figure(
                f"speed against rename, {_PARALLEL} at once",
                afar,
                rename_afar,
                ceiling=f"1,000 / {_PARALLEL} round trips over one",
            ),
            Figure(
                name="requests of a commit", value=same(ours.request_count), unit="requests", at_most=3, ceiling="1"
            ),
            Figure(
                name="requests: rename over ours",
                value=same(rename.request_count / ours.request_count),
                unit="×",
                at_least=200,
                ceiling="1,001",
            ),
            speed_figure(
                f"speed against rename on loopback, {_PARALLEL} at once, emulated",
                ours,
                rename,
                at_least=200,
                ceiling="one round trip",
                emulated=False,
                note=note,
            ),
            speed_figure(
                "speed against the magic committer's completes on loopback, emulated",
                ours,
                magic,
                at_least=10,
                ceiling="one round trip",
                emulated=False,
            ),
        ]
