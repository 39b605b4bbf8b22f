"""``S3Store``: a prefix of a bucket on S3, or on a service that speaks its protocol.

The service must honour ``If-None-Match`` and ``If-Match`` on PUT; ``datalayer doctor`` tries it. A version is the ETag, which is no checksum.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from datalayer.addresses.layout import check_object_path
from datalayer.errors import ConfigError, PreconditionFailedError, StoreError, VerificationError
from datalayer.stores.base import ObjectInfo, Store, StoreWriter, Tier, check_small
from datalayer.stores.paths import check_new_path, check_path, check_prefix
from datalayer.stores.s3_clients import S3Clients
from datalayer.stores.s3_errors import already_there, refusal, s3_errors
from datalayer.stores.s3_listing import abort_uploads, list_keys
from datalayer.stores.s3_reading import (
    BUFFER,
    RANGE,
    PinnedFile,
    PinnedObject,
    UnseenObject,
    object_info,
    reading_again,
    short_answer,
)
from datalayer.stores.s3_writer import CONCURRENT_PARTS, PART, S3Writer

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    import fsspec
    import pyarrow.fs
    from mypy_boto3_s3 import S3Client

    from datalayer.addresses.location import Location
    from datalayer.config import Connection

_T = TypeVar("_T")

# What a first request of a file that is opened brings along: small files need no second one.
_FIRST_BYTES = 256 << 10
# Of a stream: enough to tell how fast the way is.
_FIRST_OF_STREAM = 1 << 20
# A copy by one request takes the longer the larger the object is; above this it goes by parts, each within the timeout.
_COPY_WHOLE = 256 << 20
_COPY_PART = 64 << 20
_CONFLICT_TRIES = 8


class S3Store(Store):
    """Objects below a prefix of a bucket. Nothing is contacted before the first call.

    ``modified`` of what was just written is this machine's time, since the service's answer to a PUT holds none.

    Args:
        root: An ``s3://bucket/prefix`` location.
        tier: Which tier the bucket is.
        connection: How to reach the service. Without keys, obstore's own search: environment, web identity, container, machine; and the
            files of the AWS command line.

    Raises:
        ConfigError: The location names no bucket, or the connection is not usable.
    """

    can_compare_and_put = True

    def __init__(self, root: Location, *, tier: Tier = Tier.COLD, connection: Connection | None = None) -> None:
        from datalayer.config import Connection

        if root.scheme != "s3" or not root.authority:
            raise ConfigError(f"{root} names no bucket; write s3://bucket/prefix")
        self.root = root
        self.tier = tier
        self.connection = connection or Connection()
        self._clients = S3Clients(root.authority, self.connection)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.root, self.tier, self.connection)

    @property
    def client(self) -> S3Client:
        """A boto3 client with this store's endpoint, credentials and time limits, for what the store has no verb for."""
        return self._clients.boto3

    def tell_hedges(self, told: Callable[[], None]) -> None:
        self._clients.tell_hedges(told)

    # Reading

    def head(self, path: str) -> ObjectInfo:
        key = self._key(check_path(path))
        return object_info(path, self._call(path, lambda: self._obstore.head(key)))

    def get(self, path: str) -> tuple[bytes, ObjectInfo]:
        key = self._key(check_path(path))

        def read() -> tuple[bytes, ObjectInfo]:
            result = self._clients.get(key)
            info = object_info(path, result.meta)
            check_small(info, self.location(path))
            data = bytes(result.bytes())
            if len(data) != info.size:
                raise short_answer(self.location(path), len(data), info.size)
            return data, info

        return self._read(path, read)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        key = self._key(check_path(path))
        if not length:
            # No range is empty, so the contract's other promises need the object's size.
            if self.head(path).size < start:
                raise VerificationError(f"{self.location(path)} ends before byte {start} that was asked for")
            return b""

        def read() -> bytes:
            result = self._clients.get(key, {"range": (start, start + length)})
            data = bytes(result.bytes())
            # What else the answer says is only looked at where it matters: that takes a tenth of a small request's time.
            if len(data) != length and result.meta["size"] >= start + length:
                raise short_answer(self.location(path), start + len(data), start + length)
            return data

        data = self._read(path, read)
        if len(data) != length:
            raise VerificationError(
                f"{self.location(path)} ends at byte {start + len(data)}, before byte {start + length} that was asked for"
            )
        return data

    def open(self, path: str) -> BinaryIO:
        return io.BufferedReader(PinnedFile(self._pinned(path, _FIRST_BYTES)), BUFFER)

    def stream(self, path: str, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        pinned = self._pinned(path, min(chunk_size, _FIRST_OF_STREAM))
        return pinned.chunks(0, pinned.info.size, chunk_size)

    def stream_sized(self, path: str, size: int, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        begun = False
        if size > RANGE and self._clients.are_far:
            try:
                for chunk in self._unseen(path, size).chunks(0, size, chunk_size):
                    begun = True
                    yield chunk
            except VerificationError:
                if begun:
                    raise
            else:
                return
        # Also for an object of another size: the whole of it tells more than its beginning.
        yield from self.stream(path, chunk_size=chunk_size)

    def stream_range(self, path: str, start: int, end: int, *, piece: int = 8 << 20) -> Iterator[bytes]:
        if end <= start:
            return iter(())
        if end - start > RANGE and self._clients.are_far:
            return self._unseen(path).exact_chunks(start, end, piece)
        first = end - start if end - start <= RANGE else min(piece, _FIRST_OF_STREAM)
        pinned = self._pinned(path, first, start)
        if pinned.info.size < end:
            raise VerificationError(
                f"{self.location(path)} ends at byte {pinned.info.size}, before byte {end} that was asked for"
            )
        return pinned.exact_chunks(start, end, piece)

    # Writing

    def put(self, path: str, data: bytes) -> ObjectInfo:
        key = self._new_key(path)

        def put() -> Any:
            return self._obstore.put(key, data, chunk_size=PART, max_concurrency=CONCURRENT_PARTS)

        return self._written(path, data, self._call(path, lambda: _while_conflicting(put)))

    def put_exclusive(self, path: str, data: bytes) -> ObjectInfo:
        key = self._new_key(path)

        def put() -> Any:
            try:
                return self._obstore.put(key, data, mode="create")
            except Exception as error:
                # By the status: obstore says "already exists" for a 409 too, which only asks to try again.
                if refusal(error).status == HTTPStatus.PRECONDITION_FAILED:
                    raise already_there(self.location(path), self.tier) from error
                raise

        return self._written(path, data, self._call(path, lambda: _while_conflicting(put)))

    def compare_and_put(self, path: str, data: bytes, version: str) -> ObjectInfo:
        key = self._new_key(path)

        def put() -> Any:
            try:
                return self._obstore.put(key, data, mode={"e_tag": version})
            except Exception as error:  # obstore's and botocore's errors have no base of their own; the status tells
                status, code = refusal(error)
                lost = status == HTTPStatus.PRECONDITION_FAILED
                if lost or (status == HTTPStatus.NOT_FOUND and code != "NoSuchBucket"):
                    found = "another version" if lost else "nothing"
                    where = self.location(path)
                    raise PreconditionFailedError(
                        f"{where}: {found} is there", tier=self.tier, location=str(where)
                    ) from error
                raise

        return self._written(path, data, self._call(path, lambda: _while_conflicting(put)))

    def writer(self, path: str) -> StoreWriter:
        key = self._new_key(path)

        def put_parts(blocks: Iterator[bytes]) -> ObjectInfo:
            result = self._call(
                path,
                lambda: self._obstore.put(
                    key, blocks, use_multipart=True, chunk_size=PART, max_concurrency=CONCURRENT_PARTS
                ),
            )
            return self._written(path, b"", result)

        return S3Writer(self.location(path), lambda data: self.put(path, data), put_parts)

    def copy(self, source: str, target: str) -> ObjectInfo:
        from_key, to_key = self._key(check_path(source)), self._new_key(target)
        if self.head(source).size <= _COPY_WHOLE:
            self._call(target, lambda: self._obstore.copy(from_key, to_key))
        else:
            self._call(target, lambda: self._copy_by_parts(from_key, to_key))
        return self.head(target)

    def delete(self, paths: Iterable[str]) -> None:
        keys = [self._key(check_path(path)) for path in paths]
        if keys:
            self._call("", lambda: self._obstore.delete(keys))

    # Listing

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        start = self._start(prefix)
        skip = len(self._key(""))
        found = list_keys(self.client, self._clients.bucket, start, self.location(prefix), self.tier)
        return (info._replace(path=info.path[skip:]) for info in found if isinstance(info, ObjectInfo))

    def holds_only(self, prefix: str, path: str) -> bool:
        # obstore may spell what it finds otherwise than it is, or fail on it, but it passes over nothing; and it is loaded in a tenth of the time
        # that boto3 takes, which many a job has no need of.
        key = self._key(check_path(path))
        start = self._start(prefix)
        try:
            found: builtins.list[Any] = self._call(
                prefix, lambda: next(iter(self._obstore.list(start, chunk_size=2)), [])
            )
        except StoreError:
            return False
        return all(one["path"] == key for one in found)

    def children(self, prefix: str) -> tuple[builtins.list[str], builtins.list[ObjectInfo]]:
        start = self._start(prefix)
        skip = len(self._key(""))
        folders, objects = [], []
        for found in list_keys(
            self.client, self._clients.bucket, start, self.location(prefix), self.tier, one_level=True
        ):
            if isinstance(found, ObjectInfo):
                objects.append(found._replace(path=found.path[skip:]))
            elif name := found[len(start) :].rstrip("/"):
                folders.append(name)
        return sorted(folders), sorted(objects)

    def reap_uploads(self, prefix: str, older_than: timedelta) -> builtins.list[str]:
        start = self._start(prefix)
        skip = len(self._key(""))
        return [
            key[skip:]
            for key in abort_uploads(
                self.client, self._clients.bucket, start, older_than, self.location(prefix), self.tier
            )
        ]

    # Views

    @property
    def identity(self) -> str:
        return f"{self._clients.endpoint or 'AWS'} {self.root}"

    def spark_uri(self, path: str) -> str:
        return f"s3a://{self.filesystem_path(path)}"

    @cached_property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """A read-only view through this store, so with its retries, length checks and errors; s3fs remains usable beside it."""
        from datalayer.stores.view import StoreFileSystem

        return StoreFileSystem(self)

    @property
    def arrow_filesystem(self) -> pyarrow.fs.FileSystem:
        return self._clients.arrow

    def filesystem_path(self, path: str) -> str:
        location = self.location(path)
        return f"{location.authority}/{location.path}" if location.path else location.authority

    # Within

    @property
    def _obstore(self) -> Any:
        return self._clients.obstore

    def _key(self, path: str) -> str:
        return f"{self.root.path}/{path}" if self.root.path else path

    def _new_key(self, path: str) -> str:
        return check_object_path(self._key(check_new_path(path)))

    def _start(self, prefix: str) -> str:
        start = self._key(check_prefix(prefix))
        return f"{start}/" if prefix else start

    def _pinned(self, path: str, first: int, at: int = 0) -> PinnedObject:
        return PinnedObject(self._clients, self._key(check_path(path)), path, self.location(path), self.tier, first, at)

    def _unseen(self, path: str, size: int | None = None) -> UnseenObject:
        return UnseenObject(self._clients, self._key(check_path(path)), self.location(path), self.tier, size)

    def _read(self, path: str, read: Callable[[], _T]) -> _T:
        return reading_again(read, self._clients.deadline, self.location(path), self.tier)

    def _call(self, path: str, call: Callable[[], _T]) -> _T:
        with s3_errors(self.location(path), self.tier):
            return call()

    def _written(self, path: str, data: bytes, result: Any) -> ObjectInfo:
        return ObjectInfo(path, len(data), result["e_tag"] or "", datetime.now(UTC))

    def _copy_by_parts(self, from_key: str, to_key: str) -> None:
        from boto3.s3.transfer import TransferConfig

        bucket = self._clients.bucket
        config = TransferConfig(multipart_threshold=_COPY_PART, multipart_chunksize=_COPY_PART)
        self.client.copy({"Bucket": bucket, "Key": from_key}, bucket, to_key, Config=config)


def _while_conflicting(put: Callable[[], _T]) -> _T:
    """Try a put again while the service answers 409.

    S3 does so when it cannot decide between concurrent conditional puts, and asks to try again. versitygw also does when a folder of its own
    disk is removed, because the last object in it was deleted, while another is put there.
    """
    try:
        return put()
    except Exception as error:  # obstore's and botocore's errors have no base of their own; the status tells
        if not _conflicts(error):
            raise
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    retrying = Retrying(
        retry=retry_if_exception(_conflicts),
        stop=stop_after_attempt(_CONFLICT_TRIES - 1),
        wait=wait_random_exponential(multiplier=0.05, max=1),
        reraise=True,
    )
    return retrying(put)


def _conflicts(error: BaseException) -> bool:
    return refusal(error).status == HTTPStatus.CONFLICT


def _reopen(root: Location, tier: Tier, connection: Connection) -> S3Store:
    return S3Store(root, tier=tier, connection=connection)
