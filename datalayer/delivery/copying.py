"""Copying an output's files to a destination: by the server where both ends are its own, else through this process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from datalayer.commit.manifest import REFERENCE
from datalayer.errors import NotSupportedError, StoreError
from datalayer.stores.budget import ByteBudget, run_all
from datalayer.stores.s3 import S3Store
from datalayer.stores.s3_clients import S3Clients
from datalayer.stores.s3_errors import s3_errors
from datalayer.stores.wrapping import WrappingStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from datalayer.commit.manifest import Entry
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.stores.base import Store
    from datalayer.stores.counting import Receipt

_WORKERS = 16
_CHUNK_BYTES = 4 << 20
_BYTES_IN_FLIGHT = 128 << 20
# Reading a large file ahead and writing it by parts hold about as much together, so one of them goes at a time, and alone.
_LARGE_FILE_BYTES = _BYTES_IN_FLIGHT
# One request copies up to 5 GiB, and takes the longer the larger the object is; above this it goes by parts.
_COPY_WHOLE = 256 << 20
_COPY_PART = 64 << 20


class FileCopier:
    """Copies one output's files below a folder of a destination.

    Args:
        source: The output.
        target: The destination's store.
        base: The folder in it: empty, or with a slash at its end.
        receipt: Where copies by the server are counted.
        moved: Told of bytes that have arrived.
        stream: Whether bytes may go through this process where the server cannot copy.
    """

    def __init__(
        self,
        source: ResolvedOutput,
        target: Store,
        base: str,
        receipt: Receipt,
        moved: Callable[[int], None],
        *,
        stream: bool = True,
    ) -> None:
        self._source = source
        self._target = target
        self._base = base
        self._receipt = receipt
        self._moved = moved
        self._may_stream = stream
        self._lock = threading.Lock()
        self._budget = ByteBudget(_BYTES_IN_FLIGHT)
        self._ask_server = self._is_same_service()
        self._refusal = "they are on different services" if not self._ask_server else ""
        self.copied_by_server = 0
        """How many files the server copied by itself."""

    def check_server(self) -> None:
        """Make sure that the server can copy every file by itself, as far as one request can tell. Nothing is written.

        Raises:
            NotSupportedError: It cannot.
        """
        if not self._source.files:
            return
        if not self._ask_server:
            raise self._not_by_server()
        if packed := next((entry for entry in self._source.files.values() if not self._is_whole_object(entry)), None):
            self._refusal = f"{packed.name!r} is packed into a larger object"
            raise self._not_by_server()
        store, path = self._source.store_path(next(iter(self._source.files)))
        source, target = _innermost(store), cast("S3Store", _innermost(self._target))
        location = source.location(path)
        try:
            with s3_errors(location, target.tier):
                target.client.head_object(Bucket=location.authority, Key=location.path)
        except StoreError as error:
            if error.retryable:
                raise
            self._refusal = str(error)
            raise self._not_by_server() from error

    def copy_all(self) -> None:
        """Copy every file. Each appears whole or not at all.

        Raises:
            NotSupportedError: Bytes may not go through this process, and the server cannot copy.
            StoreError: Either end failed.
            VerificationError: A file's bytes are not the ones that were committed.
        """
        entries = sorted(self._source.files.values(), key=lambda entry: entry.length, reverse=True)
        run_all(self._copy, entries, budget=self._budget, workers=_WORKERS, name="datalayer-deliver")

    def _copy(self, entry: Entry) -> None:
        self._budget.check()
        if self._ask_server and self._copy_by_server(entry):
            self._moved(entry.length)
            return
        if not self._may_stream:
            raise self._not_by_server()
        with self._budget.share(min(entry.length, _LARGE_FILE_BYTES)):
            self._stream(entry)

    def _stream(self, entry: Entry) -> None:
        path = self._base + entry.name
        chunks = self._source.stream(entry.name, chunk_size=_CHUNK_BYTES)
        if entry.length <= _CHUNK_BYTES:
            self._target.put(path, b"".join(chunks))
            self._moved(entry.length)
            return
        # Left by an exception, the writer leaves nothing behind; the last chunk comes only after the checksum was found right.
        with self._target.writer(path) as writer:
            for chunk in chunks:
                self._budget.check()
                writer.write(chunk)
                self._moved(len(chunk))

    def _copy_by_server(self, entry: Entry) -> bool:
        """Whether the server copied a file, with the destination's credentials."""
        if not self._is_whole_object(entry):
            self._refusal = f"{entry.name!r} is packed into a larger object"
            return False
        store, path = self._source.store_path(entry.name)
        source, target = _innermost(store), _innermost(self._target)
        if not (isinstance(source, S3Store) and isinstance(target, S3Store)):
            return False
        from_location, to_location = source.location(path), target.location(self._base + entry.name)
        try:
            with s3_errors(to_location, target.tier):
                _copy_object(target, from_location.authority, from_location.path, to_location.path, entry)
        except StoreError as error:
            if error.retryable:
                raise
            # Most likely the destination's credentials cannot read the source. If it is the destination itself, streaming says so.
            self._ask_server = False
            self._refusal = str(error)
            return False
        self._receipt.count("destination", "copy")
        with self._lock:
            self.copied_by_server += 1
        return True

    def _is_whole_object(self, entry: Entry) -> bool:
        return not entry.offset and (entry.object is None or self._source.output.kind == REFERENCE)

    def _not_by_server(self) -> NotSupportedError:
        target = self._target.location()
        return NotSupportedError(
            f"the server cannot copy {self._source.key} to {target} by itself: {self._refusal}. Deliver from where the bytes may be streamed "
            "through, or with credentials of the destination that can read the source",
            tier=self._target.tier.value,
            location=str(target),
        )

    def _is_same_service(self) -> bool:
        source, target = _innermost(self._source.store), _innermost(self._target)
        if not (isinstance(source, S3Store) and isinstance(target, S3Store)):
            return False
        ends = {S3Clients(end.root.authority, end.connection).endpoint for end in (source, target)}
        if len(ends) > 1:
            return False
        # Made once, here: boto3 does not promise that several threads may make a client.
        _ = target.client
        return True


def _copy_object(target: S3Store, from_bucket: str, from_key: str, to_key: str, entry: Entry) -> None:
    bucket = target.root.authority
    # What a reference is pinned to is copied, or nothing.
    pinned: dict[str, Any] = {"CopySourceIfMatch": entry.version} if entry.version else {}
    if entry.length <= _COPY_WHOLE:
        target.client.copy_object(
            Bucket=bucket, Key=to_key, CopySource={"Bucket": from_bucket, "Key": from_key}, **pinned
        )
        return
    from boto3.s3.transfer import TransferConfig

    config = TransferConfig(multipart_threshold=_COPY_PART, multipart_chunksize=_COPY_PART, max_concurrency=4)
    target.client.copy({"Bucket": from_bucket, "Key": from_key}, bucket, to_key, ExtraArgs=pinned, Config=config)


def _innermost(store: Store) -> Store:
    while isinstance(store, WrappingStore):
        store = store.inner
    return store
