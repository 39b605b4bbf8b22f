"""Reading one version of an S3 object by ranges.

Bytes are read from one connection while it is fast, as in a machine's own network: the reader then gets them out of the processor's cache, and
nothing waits in memory. Where a connection is slow, as S3's are, ranges are read from several side by side.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from datalayer.errors import StoreError, TransientStoreError, VerificationError
from datalayer.stores.base import ObjectInfo
from datalayer.stores.positioned import PositionedFile
from datalayer.stores.s3_errors import refusal, s3_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import WriteableBuffer
    from obstore import GetResult, ObjectMeta

    from datalayer.addresses.location import Location
    from datalayer.stores.base import Tier
    from datalayer.stores.s3_clients import S3Clients

_T = TypeVar("_T")

PARALLEL = 8
"""Ranges in flight at once, where one connection is too slow. Three fill the line if all are in time; but bytes go out in order, and others have
to come while one waits: with S3's spread of first bytes, 8 are some 12 % faster than 4, for 93 MiB instead of 58 (seen, emulated)."""
RANGE = 8 << 20
AT_ONCE = PARALLEL + 1
"""Ranges of a stream in memory at once: one of them is what its reader takes from."""
_ALL_AT_ONCE = AT_ONCE + 1
PIECE = 256 << 10
"""Bytes taken from a connection at once. Seen on loopback: a quarter of the CPU goes where they are 8 MiB, into page faults and cache misses."""
_FIRST_STRETCH = 8 << 20
_LONGEST_STRETCH = 64 << 20
# S3 needs 30 ms for a first byte, a store nearby one or two.
_NEAR_SECONDS = 0.015
# Bytes a second: three times what one connection to S3 gives. A busy machine must not be taken for a slow network.
_FAST = 300e6
_FIRST_WINDOW = 512 << 10
BUFFER = 4 << 20
_TRIES = 4


class _Ranges:
    """The ranges of all streams of this process. A stream alone has as many as it can use; several share them, so that memory stays bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = 0
        self._streams = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is no stream, nor a range of one."""
        return not self._streams and not self._held

    def join(self) -> None:
        """Begin a stream."""
        with self._lock:
            self._streams += 1

    def take(self, own: int) -> bool:
        """Whether a stream that holds ``own`` ranges may have another; it takes it. The first one it always may: streams wait for no other."""
        with self._lock:
            share = min(AT_ONCE, _ALL_AT_ONCE // self._streams)
            if own and (own >= share or self._held >= _ALL_AT_ONCE):
                return False
            self._held += 1
            return True

    def give(self) -> None:
        """Give one back."""
        with self._lock:
            self._held -= 1

    def leave(self, own: int) -> None:
        """End a stream that holds ``own`` ranges."""
        with self._lock:
            self._streams -= 1
            self._held -= own


_ranges = _Ranges()


class _ShortAnswerError(VerificationError):
    """The service's answer ended well and too early; it may be whole the next time."""


class _Ranged:
    """An object whose bytes are read by ranges; how one is asked for, the subclasses say."""

    first = b""
    """What is known of it already, from :attr:`_at` on."""
    _at = 0
    _near = False

    def __init__(self, clients: S3Clients, key: str, location: Location, tier: Tier) -> None:
        self._clients = clients
        self._key = key
        self._location = location
        self._tier = tier

    def chunks(self, start: int, end: int, size: int = PIECE) -> Iterator[bytes]:
        """Yield the bytes from ``start`` to ``end`` in order, in pieces of at most about ``size``."""
        for part in self._parts(start, end, size):
            yield from _cut(bytes(part), size)

    def exact_chunks(self, start: int, end: int, size: int) -> Iterator[bytes]:
        """Yield the same in pieces of exactly ``size`` bytes, and the rest."""
        held: list[memoryview] = []
        length = 0
        for part in self._parts(start, end, size):
            rest = memoryview(part)
            while length + len(rest) >= size:
                held.append(rest[: size - length])
                rest = rest[size - length :]
                yield b"".join(held)
                held, length = [], 0
            if rest:
                held.append(rest)
                length += len(rest)
        if held:
            yield b"".join(held)

    def _parts(self, start: int, end: int, size: int) -> Iterator[bytes | memoryview]:
        """Yield what comes, as it comes; some of it in obstore's own bytes, which have to be copied once."""
        known = self._at + len(self.first)
        if self._at <= start < known:
            yield memoryview(self.first)[start - self._at : end - self._at]
            start = min(end, known)
        size = min(size, PIECE)
        stretch = _FIRST_STRETCH
        while start < end and self._near:
            for part in self._stretch(start, min(start + stretch, end), size):
                start += len(part)
                yield part
            stretch = min(stretch * 2, _LONGEST_STRETCH)
        if start < end:
            yield from self._side_by_side(start, end, size)

    def _stretch(self, start: int, end: int, size: int) -> Iterator[bytes]:
        """Yield a stretch from one connection, and find out whether that was fast. It may end too early; the caller goes on from there."""
        waited = 0.0
        begin = start
        # What the caller does while it has a piece does not come through here as an exception.
        try:
            with _reading_errors(self._location, self._tier):
                clock = time.perf_counter()
                for piece in self._ask(start, end).stream(min_chunk_size=size):
                    waited += time.perf_counter() - clock
                    start += len(piece)
                    yield piece
                    clock = time.perf_counter()
        except TransientStoreError:
            if start == begin:
                raise
            # The connection waits while the caller uses its pieces, and a slow caller outlasts the timeout: ranges have no such bond.
            self._near = False
            return
        self._near = start == end and (end - begin) >= _FAST * waited

    def _side_by_side(self, start: int, end: int, size: int) -> Iterator[bytes]:
        """Yield from several connections, a few ranges ahead."""
        if end - start <= RANGE:
            yield from self._pieces(start, end, size)
            return
        pending: deque[Future[list[bytes]]] = deque()
        starts = iter(range(start, end, RANGE))
        begin = next(starts, None)
        pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="datalayer-read")
        own = 0
        _ranges.join()
        try:
            while True:
                while begin is not None and _ranges.take(own):
                    own += 1
                    pending.append(pool.submit(self._pieces, begin, min(begin + RANGE, end), size))
                    begin = next(starts, None)
                if not pending:
                    return
                yield from pending.popleft().result()
                _ranges.give()
                own -= 1
        finally:
            _ranges.leave(own)
            pool.shutdown(wait=False, cancel_futures=True)

    def _pieces(self, start: int, end: int, size: int) -> list[bytes]:
        """Return a range in pieces, whole."""

        def read() -> list[bytes]:
            pieces: list[bytes] = []
            for piece in self._ask(start, end).stream(min_chunk_size=size):
                pieces += _cut(bytes(piece), size)
            if (got := sum(map(len, pieces))) != end - start:
                raise short_answer(self._location, start + got, end)
            return pieces

        return self._again(read)

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill a view with the bytes from ``start``."""
        at = 0
        for piece in self.chunks(start, start + view.nbytes):
            view[at : at + len(piece)] = piece
            at += len(piece)

    def _ask(self, start: int, end: int) -> GetResult:
        raise NotImplementedError

    def _again(self, read: Callable[[], _T]) -> _T:
        return reading_again(read, self._clients.deadline, self._location, self._tier)


class PinnedObject(_Ranged):
    """One version of an object: every read is of that version and has the length that was asked for.

    Args:
        clients: The clients to read with.
        key: The object's whole key in the bucket.
        info_path: Its path in the store.
        location: For errors.
        tier: For errors.
        first: How many bytes to read with the first request, which also tells size and version.
        at: From which byte on.

    Raises:
        NotFoundError: There is no such object.
        VerificationError: It ends before ``at``.
    """

    def __init__(
        self, clients: S3Clients, key: str, info_path: str, location: Location, tier: Tier, first: int, at: int = 0
    ) -> None:
        super().__init__(clients, key, location, tier)
        self._at = at
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
        if self._at <= start and end <= self._at + len(self.first):
            return self.first[start - self._at : end - self._at]
        return b"".join(self._pieces(start, end, PIECE)) if length else b""

    def _begin(self, path: str, first: int) -> tuple[ObjectInfo, bytes]:
        try:
            clock = time.perf_counter()
            result = self._clients.get(self._key, {"range": (self._at, self._at + first)})
            data, meta, ends = bytes(result.bytes()), result.meta, result.range[1]
            self._near = time.perf_counter() - clock < _NEAR_SECONDS
        except Exception as error:  # obstore's errors have no base of their own; the status tells
            if self._at or refusal(error).status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            # No range of an empty object exists.
            return object_info(path, self._clients.obstore.head(self._key)), b""
        if self._at + len(data) != ends or ends != min(self._at + first, meta["size"]):
            raise short_answer(self._location, self._at + len(data), ends)
        return object_info(path, meta), data

    def _ask(self, start: int, end: int) -> GetResult:
        return self._clients.get(self._key, {"range": (start, end), "if_match": self.info.version})


class UnseenObject(_Ranged):
    """An object of which nothing is known when it is read: all ranges are asked for at once, where a first request alone would be a wait of its own.

    The answer that comes first says which version is read; others must be of the same.

    Args:
        clients: The clients to read with.
        key: The object's whole key in the bucket.
        location: For errors.
        tier: For errors.
        size: The size it must have, where that is known.
    """

    def __init__(self, clients: S3Clients, key: str, location: Location, tier: Tier, size: int | None = None) -> None:
        super().__init__(clients, key, location, tier)
        self._size = size
        self._version: str | None = None
        self._lock = threading.Lock()

    def _ask(self, start: int, end: int) -> GetResult:
        answer = self._clients.get(self._key, {"range": (start, end)})
        meta = answer.meta
        size, version = meta["size"], meta["e_tag"] or ""
        with self._lock:
            if self._version is None:
                self._version = version
        if version != self._version:
            raise VerificationError(f"{self._location} was replaced while it was being read")
        if size < end or size != (self._size or size):
            raise VerificationError(f"{self._location} has {size} bytes, which are not those that were asked for")
        return answer


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


def _cut(data: bytes, size: int) -> list[bytes]:
    # obstore gives what came together, which is often a little more.
    return [data] if len(data) < 2 * size else [data[at : at + size] for at in range(0, len(data), size)]


class PinnedFile(PositionedFile):
    """A pinned object as a file. Reads that follow each other fetch ever more at once; large ones are read side by side."""

    def __init__(self, pinned: PinnedObject) -> None:
        super().__init__(pinned.info.size)
        self._pinned = pinned
        self._window = _FIRST_WINDOW
        self._expected = 0

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
        self.advance(wanted)
        self._expected = self._position
        return wanted

    def readall(self) -> bytes:
        if self._position >= self._size:
            return b""
        # A BytesIO gives its own buffer away, so that the bytes are held once.
        whole = io.BytesIO()
        for piece in self._pinned.chunks(self._position, self._size):
            whole.write(piece)
        self.advance(self._size - self._position)
        return whole.getvalue()
