"""``HotStore``: a tier that holds copies of what was committed on a colder one, and the view through which the copies are read.

Only committed files are read through it, each by what its manifest says of it. Everything else, and all writing, goes to the cold store at
once: nothing uncommitted is ever asked of a cache. A copy that is missing, late, short or damaged is no error: the bytes come from the cold
store, and the receipt says why.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

from datalayer.errors import VerificationError
from datalayer.stores.base import Expected, ObjectInfo, Store, Tier, check_small
from datalayer.stores.positioned import PositionedFile
from datalayer.stores.wrapping import WrappingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import fsspec
    import pyarrow.fs
    from _typeshed import WriteableBuffer

    from datalayer.stores.counting import Receipt

# A file that is read on from where it was left fetches ever more at once.
_FIRST_WINDOW = 512 << 10
_LARGEST_WINDOW = 256 << 20
_BUFFER = 256 << 10


class HotStore(WrappingStore):
    """Copies of a cold store's committed files, under the same paths.

    Args:
        cold: The store whose files they are.
        receipt: Told of hits and misses.
    """

    can_map: bool = True
    """Whether a local path is a file on this machine's disk. Mapped into memory, one that a server shows would end its reader with the server."""

    def __init__(self, cold: Store, receipt: Receipt) -> None:
        super().__init__(cold)
        self.cold = cold
        self.receipt = receipt
        self.tier = Tier.HOT

    overhead = 0
    """Bytes of the budget that a file's copy takes besides the file's own."""

    @abstractmethod
    def pieces(self, path: str, expected: Expected, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of a committed file from ``start`` up to ``end``, in order, in pieces of any size.

        They come from the copy where there is a good one, else from the cold store, from wherever in the range that becomes necessary.

        Raises:
            NotFoundError: The cold store was asked, and has no such object.
            VerificationError: The cold store was asked, and its bytes are not the ones that were committed.
        """

    @property
    def through(self) -> Store:
        """The cold store to write to; where this tier can, one that makes a copy of what passes."""
        return self.cold

    @abstractmethod
    def resident(self, path: str, length: int) -> int:
        """Return how many bytes of a file of ``length`` bytes are held as a copy; 0 where that cannot be found out."""

    @abstractmethod
    def evict(self, paths: Iterable[str]) -> None:
        """Drop the copies of files, pinned or not. Who reads one meanwhile reads on undisturbed."""

    @abstractmethod
    def pin(self, paths: Iterable[str], until: datetime) -> None:
        """Keep the copies of files, also those that are yet to be made, from being dropped to make room, until then at most."""

    @abstractmethod
    def unpin(self, paths: Iterable[str]) -> None:
        """Take pins back."""

    def whole(self, path: str, expected: Expected) -> Path | None:  # noqa: ARG002  # for tiers that keep files on this machine
        """Return where a whole, verified copy of a committed file lies on this machine, made now if need be; None where there can be none.

        Raises:
            StoreError: As for :meth:`pieces`.
        """
        return self.local_path(path)

    def hold_whole(self, path: str, expected: Expected) -> AbstractContextManager[Path | None]:  # noqa: ARG002  # as for whole
        """Return :meth:`whole` as a context: until it is left, or this process ends, the copy is not dropped to make room."""
        return nullcontext(None)

    def standing(self, path: str, expected: Expected) -> Path | None:  # noqa: ARG002  # for tiers that compare
        """Return where a whole, verified copy of a committed file lies on this machine now; None where there is none."""
        return self.local_path(path)

    def opened(self, path: str, expected: Expected) -> PositionedFile | None:  # noqa: ARG002  # for tiers that keep files on this machine
        """Return a whole, verified copy of a committed file, open; None where there is none that is better read so than by :meth:`pieces`."""
        return None

    @property
    def original(self) -> Store:
        return self.cold

    def unavailable(self) -> str | None:
        return None

    def out_of_service(self) -> str | None:
        """Return why this tier does not serve, where :meth:`unavailable` only knows what readers have met: it is asked now. None where it does.

        Raises:
            ConfigError: What answers is no such tier.
            PermissionDeniedError: It refuses.
        """
        return self.unavailable()

    def usage(self) -> tuple[int, int] | None:
        """Return how many bytes are held, by whomever, and how many may be; None where that cannot be found out.

        Raises:
            StoreError: The tier does not answer, or refuses.
        """
        return None

    def verifying(self, expected: Callable[[str], Expected | None]) -> Store:
        return CommittedView(self, expected)


class CommittedView(WrappingStore):
    """A hot store's committed files, each read through the copy."""

    def __init__(self, hot: HotStore, expected: Callable[[str], Expected | None]) -> None:
        super().__init__(hot)
        self.verifies = hot.verifies
        self._hot = hot
        self._expected = expected

    def head(self, path: str) -> ObjectInfo:
        """Return what was committed, without a request; the time is this machine's."""
        known = self._expected(path)
        return self._info(path, known) if known else self.inner.head(path)

    def get(self, path: str) -> tuple[bytes, ObjectInfo]:
        known = self._expected(path)
        if known is None:
            return self.inner.get(path)
        info = self._info(path, known)
        check_small(info, self.location(path))
        return b"".join(self._read(path, known, 0, known.length)), info

    def get_range(self, path: str, start: int, length: int) -> bytes:
        known = self._expected(path)
        if known is None:
            return self.inner.get_range(path, start, length)
        if start + length > known.length:
            raise VerificationError(
                f"{self.location(path)} ends at byte {known.length}, before byte {start + length} that was asked for"
            )
        return b"".join(self._read(path, known, start, start + length))

    def open(self, path: str) -> BinaryIO:
        known = self._expected(path)
        if known is None:
            return self.inner.open(path)
        self._count("open")
        # A file that asks for many ranges, which are parts of one reading; or a whole copy.
        file = self._hot.opened(path, known) or _HotFile(
            lambda start, end: self._hot.pieces(path, known, start, end), known.length
        )
        file.on_read = lambda size: self._count("get", calls=0, read=size)
        return io.BufferedReader(file, _BUFFER)

    def stream(self, path: str, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        known = self._expected(path)
        if known is None:
            return self.inner.stream(path, chunk_size=chunk_size)
        return _cut(self._read(path, known, 0, known.length), chunk_size)

    @cached_property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """A read-only view through this store."""
        from datalayer.stores.view import StoreFileSystem

        return StoreFileSystem(self)

    @cached_property
    def arrow_filesystem(self) -> pyarrow.fs.FileSystem:
        """The same for Arrow: a file of which there is a whole copy on this machine is mapped into memory."""
        from datalayer.stores.hot_arrow import arrow_view

        return arrow_view(self)

    @property
    def original(self) -> Store:
        return self._hot.cold

    def bring(self, path: str) -> Path | None:
        known = self._expected(path)
        return None if known is None else self._hot.whole(path, known)

    def hold(self, path: str) -> AbstractContextManager[Path | None]:
        known = self._expected(path)
        return nullcontext(None) if known is None else self._hot.hold_whole(path, known)

    def local_path(self, path: str) -> Path | None:
        known = self._expected(path)
        return self._hot.local_path(path) if known is None else self._hot.standing(path, known)

    def local_folder(self, path: str, files: Callable[[], Iterable[str]]) -> Path | None:
        folder = self._hot.local_path(path)
        return folder if folder is not None and all(self.local_path(file) is not None for file in files()) else None

    def mappable_path(self, path: str) -> Path | None:
        """Return where a whole copy lies that may be mapped into memory."""
        return self.local_path(path) if self._hot.can_map else None

    def mapped(self) -> None:
        """Note that a whole copy on this machine was mapped into memory: what is read of it is not seen here."""
        self._count("map")

    def _read(self, path: str, known: Expected, start: int, end: int) -> Iterator[bytes]:
        self._count("get")
        for piece in self._hot.pieces(path, known, start, end):
            self._count("get", calls=0, read=len(piece))
            yield piece

    def _count(self, verb: str, *, calls: int = 1, read: int = 0) -> None:
        self._hot.receipt.count(self.tier.value, verb, calls=calls, read=read)

    def _info(self, path: str, known: Expected) -> ObjectInfo:
        version = "" if known.checksum is None else f"{known.checksum:08x}"
        return ObjectInfo(path, known.length, version, datetime.now(UTC))


class _HotFile(PositionedFile):
    """A committed file. What is fetched and not yet read waits in a generator, as long as reads follow each other."""

    def __init__(self, fetch: Callable[[int, int], Iterator[bytes]], length: int) -> None:
        super().__init__(length)
        self._fetch = fetch
        self._window = _FIRST_WINDOW // 2
        self._pieces: Iterator[bytes] = iter(())
        self._rest = memoryview(b"")
        self._next = 0
        self._end = 0

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(view.nbytes, self._size - self._position)
        if wanted <= 0:
            return 0
        if self._position != self._next:
            self._begin(wanted)
        elif not self._rest and self._next == self._end:
            self._window = min(4 * self._window, _LARGEST_WINDOW)
            self._begin(max(wanted, self._window))
        done = 0
        while done < wanted:
            if not self._rest:
                if self._next == self._end:
                    break
                try:
                    self._rest = memoryview(self._piece())
                except Exception:
                    # What came before is read; the next read asks again for the rest.
                    if done:
                        break
                    raise
            part = self._rest[: wanted - done]
            view[done : done + len(part)] = part
            self._rest = self._rest[len(part) :]
            done += len(part)
            self._next += len(part)
        return self.advance(done)

    def _piece(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            # A generator that has failed has ended. Who reads on asks again.
            self._end = self._next
            raise

    def _begin(self, length: int) -> None:
        if self._position != self._next:
            self._window = _FIRST_WINDOW
        self._next = self._position
        self._end = min(self._position + length, self._size)
        self._rest = memoryview(b"")
        self._pieces = self._fetch(self._position, self._end)


def _cut(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        if len(piece) <= size:
            yield piece
        else:
            yield from (piece[at : at + size] for at in range(0, len(piece), size))
