"""Writing an S3 object of any size in bounded memory: one PUT where it is small, else a multipart upload beside the caller."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from datalayer.errors import StoreError
from datalayer.stores.base import ObjectInfo, StoreWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datalayer.addresses.location import Location

PART = 12 << 20
"""Bytes of a part. S3 allows 10,000 parts, so an object of 117 GiB; with those in flight a writer holds about 80 MiB."""
CONCURRENT_PARTS = 3
_MAX_PARTS = 10_000
_BLOCK = 4 << 20
_POLL_SECONDS = 0.2


class _Discarded(Exception):  # noqa: N818  # not an error: how an upload learns that its bytes are not wanted
    pass


class S3Writer(StoreWriter):
    """A file being written to S3.

    Args:
        location: For errors.
        put_whole: Writes a small object.
        put_parts: Writes an object from an iterator of its bytes, and aborts the upload if the iterator raises.
    """

    def __init__(
        self,
        location: Location,
        put_whole: Callable[[bytes], ObjectInfo],
        put_parts: Callable[[Iterator[bytes]], ObjectInfo],
    ) -> None:
        self._location = location
        self._put_whole = put_whole
        self._put_parts = put_parts
        self._buffer = bytearray()
        self._size = 0
        self._upload: _Upload | None = None
        self._info: ObjectInfo | None = None
        self._over = ""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._check()
        view = memoryview(data).cast("B")
        if self._size + view.nbytes > PART * _MAX_PARTS:
            raise StoreError(
                f"{self._location}: an object may have {PART * _MAX_PARTS >> 30} GiB; write several files",
                location=str(self._location),
            )
        self._size += view.nbytes
        for start in range(0, view.nbytes, _BLOCK):
            self._buffer += view[start : start + _BLOCK]
            if self._upload is None and len(self._buffer) > PART:
                self._upload = _Upload(self._put_parts)
            if self._upload is not None and len(self._buffer) >= _BLOCK:
                self._send()
        return view.nbytes

    def close(self) -> ObjectInfo:
        if self._info is None:
            self._check()
            try:
                if self._upload is None:
                    self._info = self._put_whole(bytes(self._buffer))
                else:
                    self._send()
                    self._info = self._upload.finish()._replace(size=self._size)
            except BaseException:  # also an interrupt leaves no upload behind
                self.discard()
                raise
            self._buffer = bytearray()
            self._over = "closed"
        return self._info

    def discard(self) -> None:
        if not self._over:
            self._over = "discarded, or failed"
            self._buffer = bytearray()
            if self._upload is not None:
                self._upload.abort()

    def __del__(self) -> None:
        # A writer that was forgotten is not closed: nobody said that its bytes are all there.
        if not self._over and self._upload is not None:
            self._upload.abort(wait=False)

    def _send(self) -> None:
        if self._upload is None:
            return
        block, self._buffer = bytes(self._buffer), bytearray()
        try:
            self._upload.send(block)
        except BaseException:  # also an interrupt leaves no upload behind
            self.discard()
            raise

    def _check(self) -> None:
        if self._over:
            raise StoreError(f"the writer of {self._location} is {self._over}", location=str(self._location))


class _Upload:
    """A multipart upload that runs in a thread and takes its bytes from a short queue."""

    def __init__(self, put_parts: Callable[[Iterator[bytes]], ObjectInfo]) -> None:
        # None ends the upload well; an exception ends it otherwise.
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=1)
        self._result: ObjectInfo | None = None
        self._error: BaseException | None = None
        # A daemon, so that a forgotten writer does not keep the process alive.
        self._thread = threading.Thread(target=self._run, args=(put_parts,), name="datalayer-write", daemon=True)
        self._thread.start()

    def send(self, block: bytes | BaseException | None) -> None:
        """Hand a block over, waiting for room, or raise what the upload failed with."""
        while self._thread.is_alive():
            try:
                self._queue.put(block, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return
        if self._error is not None:
            raise self._error

    def finish(self) -> ObjectInfo:
        """Complete the upload."""
        self.send(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise StoreError("the upload ended without a result")
        return self._result

    def abort(self, *, wait: bool = True) -> None:
        """End the upload without completing it."""
        try:
            self.send(_Discarded())
        except Exception:  # noqa: BLE001  # it failed already, which aborted it; the caller knows
            return
        if wait:
            self._thread.join()

    def _run(self, put_parts: Callable[[Iterator[bytes]], ObjectInfo]) -> None:
        try:
            self._result = put_parts(self._blocks())
        except BaseException as error:  # noqa: BLE001  # raised in the thread that asks
            self._error = error

    def _blocks(self) -> Iterator[bytes]:
        while (block := self._queue.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield block
