"""Reading one version of an S3 object by ranges."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from datalayer.errors import StoreError, VerificationError
from datalayer.stores.base import ObjectInfo
from datalayer.stores.s3_errors import refusal, s3_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import WriteableBuffer
    from obstore import ObjectMeta

    from datalayer.addresses.location import Location
    from datalayer.stores.base import Tier
    from datalayer.stores.s3_clients import S3Clients

_T = TypeVar("_T")

PARALLEL = 4
"""Ranges in flight at once. With the default chunk that is 40 MiB, and more than one connection of S3 gives."""
RANGE = 8 << 20
_FIRST_WINDOW = 512 << 10
BUFFER = 4 << 20
_TRIES = 4


class _ShortAnswerError(VerificationError):
    """The service's answer ended well and too early; it may be whole the next time."""


class PinnedObject:
    """One version of an object: every read is of that version and has the length that was asked for.

    Args:
        clients: The clients to read with.
        key: The object's whole key in the bucket.
        info_path: Its path in the store.
        location: For errors.
        tier: For errors.
        first: How many bytes to read with the first request, which also tells size and version.

    Raises:
        NotFoundError: There is no such object.
    """

    def __init__(
        self, clients: S3Clients, key: str, info_path: str, location: Location, tier: Tier, first: int
    ) -> None:
        self._clients = clients
        self._key = key
        self._location = location
        self._tier = tier
        self.info, self.first = self._again(lambda: self._begin(info_path, first))

    def read(self, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``.

        Raises:
            VerificationError: The object ends before, or was replaced meanwhile.
        """
        end = start + length
        if end > self.info.size:
            raise VerificationError(
                f"{self._location} ends at byte {self.info.size}, before byte {end} that was asked for"
            )
        if end <= len(self.first):
            return self.first[start:end]
        return self._again(lambda: self._range(start, length)) if length else b""

    def chunks(self, start: int, end: int, size: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` to ``end`` in order, read side by side, a few chunks ahead."""
        if start < len(self.first):
            yield self.first[start:end]
            start = min(end, len(self.first))
        pending: deque[Future[bytes]] = deque()
        starts = iter(range(start, end, size))
        pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="datalayer-read")
        try:
            for begin in itertools.islice(starts, PARALLEL):
                pending.append(pool.submit(self.read, begin, min(size, end - begin)))
            while pending:
                data = pending.popleft().result()
                for begin in itertools.islice(starts, 1):
                    pending.append(pool.submit(self.read, begin, min(size, end - begin)))
                yield data
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill a view with the bytes from ``start``, read side by side where they are many."""
        end = start + view.nbytes
        if end <= len(self.first) or view.nbytes <= RANGE:
            view[:] = self.read(start, view.nbytes)
            return

        def fill(begin: int) -> None:
            length = min(RANGE, end - begin)
            view[begin - start : begin - start + length] = self.read(begin, length)

        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="datalayer-read") as pool:
            list(pool.map(fill, range(start, end, RANGE)))

    def _begin(self, path: str, first: int) -> tuple[ObjectInfo, bytes]:
        client = self._clients.obstore
        try:
            result = client.get(self._key, options={"range": (0, first)})
            data, meta, ends = bytes(result.bytes()), result.meta, result.range[1]
        except Exception as error:
            if refusal(error).status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            # No range of an empty object exists.
            return object_info(path, client.head(self._key)), b""
        if len(data) != ends or ends != min(first, meta["size"]):
            raise short_answer(self._location, len(data), ends)
        return object_info(path, meta), data

    def _range(self, start: int, length: int) -> bytes:
        result = self._clients.obstore.get(
            self._key, options={"range": (start, start + length), "if_match": self.info.version}
        )
        data = bytes(result.bytes())
        if len(data) != length:
            raise short_answer(self._location, start + len(data), start + length)
        return data

    def _again(self, read: Callable[[], _T]) -> _T:
        return reading_again(read, self._clients.deadline, self._location, self._tier)


def reading_again(read: Callable[[], _T], deadline: float, location: Location, tier: Tier) -> _T:
    """Read, again if the bytes were cut short, and map what is raised.

    obstore itself repeats requests that failed, and continues a body whose connection broke. What remains is an answer that ended well and
    too early.
    """
    try:
        with _reading_errors(location, tier):
            return read()
    except _ShortAnswerError:
        pass
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        stop_after_attempt,
        stop_after_delay,
        wait_random_exponential,
    )

    retrying = Retrying(
        retry=retry_if_exception_type(_ShortAnswerError),
        stop=stop_after_attempt(_TRIES - 1) | stop_after_delay(deadline / 2),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        reraise=True,
    )
    with _reading_errors(location, tier):
        return retrying(read)


@contextlib.contextmanager
def _reading_errors(location: Location, tier: Tier) -> Iterator[None]:
    try:
        with s3_errors(location, tier):
            yield
    except StoreError as error:
        status = refusal(error.__cause__).status if error.__cause__ else 0
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise VerificationError(f"{location} ends before the first byte that was asked for") from error.__cause__
        if status == HTTPStatus.PRECONDITION_FAILED:
            raise VerificationError(f"{location} was replaced while it was being read") from error.__cause__
        raise


def object_info(path: str, meta: ObjectMeta) -> ObjectInfo:
    """Return what the store says of an object from what obstore says of it."""
    return ObjectInfo(path, meta["size"], meta["e_tag"] or "", meta["last_modified"].astimezone(UTC))


def short_answer(location: Location, got: int, wanted: int) -> VerificationError:
    """Return the error of an answer that ended well and too early: reading again may help."""
    return _ShortAnswerError(
        f"{location}: the service's answer ended at byte {got}, before byte {wanted} that it promised; check proxies on the way"
    )


class PinnedFile(io.RawIOBase):
    """A pinned object as a file. Reads that follow each other fetch ever more at once; large ones are read side by side."""

    def __init__(self, pinned: PinnedObject) -> None:
        super().__init__()
        self._pinned = pinned
        self._size = pinned.info.size
        self._position = 0
        self._window = _FIRST_WINDOW
        self._expected = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        target = offset + (0, self._position, self._size)[whence]
        if target < 0:
            raise ValueError(f"negative position {target}")
        self._position = target
        return target

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(view.nbytes, self._size - self._position)
        if wanted <= 0:
            return 0
        if view.nbytes <= BUFFER:
            # The buffer above asks for all of itself, whatever its reader needs: after a seek that would be mostly waste.
            self._window = min(self._window * 2, BUFFER) if self._position == self._expected else _FIRST_WINDOW
            wanted = min(wanted, self._window)
        self._pinned.read_into(view[:wanted], self._position)
        self._position += wanted
        self._expected = self._position
        return wanted

    def readall(self) -> bytes:
        length = self._size - self._position
        if length <= 0:
            return b""
        # Filled in place: a BytesIO gives its own buffer away, so that the bytes are held once.
        whole = io.BytesIO()
        whole.seek(length - 1)
        whole.write(b"\0")
        with whole.getbuffer() as view:
            self._pinned.read_into(view, self._position)
        self._position = self._size
        return whole.getvalue()
