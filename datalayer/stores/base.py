"""``Store``: one tier's bytes below a root, and the views engines have of them.

Paths are relative to the store's root, use ``/``, and are literal text. A store maps what its SDK raises to this library's errors, so every
``Raises:`` below is part of the contract that ``datalayer.testing.StoreTests`` proves.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from datalayer.errors import NotSupportedError, VerificationError

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime, timedelta
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import fsspec
    import pyarrow.fs

    from datalayer.addresses.location import Location


class Tier(enum.StrEnum):
    """Where bytes can lie, fastest first."""

    HOT = "hot"
    SHARED = "shared"
    COLD = "cold"


MAX_GET_BYTES = 256 << 20
"""What :meth:`Store.get` takes for a small object at most."""


class ObjectInfo(NamedTuple):
    """What a store says of one object."""

    path: str
    """Relative to the store's root."""
    size: int
    """Bytes."""
    version: str
    """Opaque: compare for equality only. It is never a checksum."""
    modified: datetime
    """By the store's clock, aware."""


class Expected(NamedTuple):
    """What a manifest says of one committed file: what a copy of it elsewhere has to be."""

    length: int
    """Bytes."""
    checksum: int | None
    """The CRC-32C of the file; None where only its length was verified."""
    blocks: tuple[int, ...] | None
    """The CRC-32C of each :data:`~datalayer.stores.checksum.BLOCK` bytes, in order; None where they are not known."""


def check_small(info: ObjectInfo, location: Location) -> None:
    """Make sure that an object may be read whole.

    Raises:
        VerificationError: It is too large.
    """
    if info.size > MAX_GET_BYTES:
        raise VerificationError(
            f"{location} has {info.size} bytes; more than {MAX_GET_BYTES} are not read at once. Open it, or stream it"
        )


class StoreWriter(ABC):
    """A file being written to a store. Nothing is visible under its path until :meth:`close` returns.

    As a context manager it closes when the block ends well, and discards what was written when the block raises.
    """

    @abstractmethod
    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes; return how many.

        Raises:
            StoreFullError: The store has no room.
            TransientStoreError: The store failed; the writer can only be discarded.
        """

    @abstractmethod
    def close(self) -> ObjectInfo:
        """Make the object visible, durable and whole, and return what the store now holds. Closing twice returns the same.

        Raises:
            StoreError: As for :meth:`write`; nothing is visible then.
        """

    @abstractmethod
    def discard(self) -> None:
        """Drop what was written. Nothing becomes visible. Never raises for an object that is not there."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class Store(ABC):
    """One tier's bytes.

    All methods may raise ``PermissionDeniedError``, ``StoreTimeoutError`` and ``StoreUnavailableError`` besides what they name. Every call
    ends within the store's configured deadline.
    """

    root: Location
    """The location that paths are relative to."""

    tier: Tier
    """Which tier these bytes are."""

    paths_last: bool = True
    """Whether a local path stays as long as its file is committed. A cache takes its own back to make room."""

    verifies: bool = False
    """Whether whole files are compared, block by block, with the checksums of their blocks before they are handed out."""

    can_compare_and_put: bool
    """Whether :meth:`compare_and_put` works. A store without it commits by exclusive puts alone."""

    # Reading ------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def head(self, path: str) -> ObjectInfo:
        """Return what the store says of one object.

        Raises:
            NotFoundError: There is none.
        """

    @abstractmethod
    def get(self, path: str) -> tuple[bytes, ObjectInfo]:
        """Return a small object's bytes with the info they were read under, in one request.

        Raises:
            NotFoundError: There is none.
            VerificationError: It has more than ``MAX_GET_BYTES``: whoever may write it must not fill its readers' memory.
        """

    @abstractmethod
    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``.

        Raises:
            NotFoundError: There is no such object.
            VerificationError: The object ends before ``start + length``.
        """

    def stream_range(self, path: str, start: int, end: int, *, piece: int = 8 << 20) -> Iterator[bytes]:
        """Yield an object's bytes from ``start`` up to ``end`` in order, in pieces of exactly ``piece`` bytes, and the rest.

        Raises:
            NotFoundError: There is no such object.
            VerificationError: The object ends before ``end``.
        """
        return (self.get_range(path, at, min(piece, end - at)) for at in range(start, end, piece))

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Return a seekable, read-only file over one object.

        Raises:
            NotFoundError: There is none.
        """

    @abstractmethod
    def stream(self, path: str, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        """Yield an object's bytes in order, in chunks of about ``chunk_size`` bytes, holding only a few of them in memory.

        Raises:
            NotFoundError: There is no such object.
            VerificationError: The bytes end before the object's size.
        """

    def stream_sized(self, path: str, size: int, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:  # noqa: ARG002  # for stores that are far
        """Yield the same of an object that should have ``size`` bytes: a store may begin with all of it at once, where it need not ask for that.

        Raises:
            NotFoundError: There is none.
            VerificationError: As for :meth:`stream`. One of another size may also come as it is.
        """
        return self.stream(path, chunk_size=chunk_size)

    # Writing ------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def put(self, path: str, data: bytes) -> ObjectInfo:
        """Write a small object whole, over whatever was there.

        Raises:
            StoreFullError: The store has no room; what was there before is intact.
        """

    @abstractmethod
    def put_exclusive(self, path: str, data: bytes) -> ObjectInfo:
        """Write a small object if nothing is there: of any number of concurrent callers exactly one succeeds.

        Raises:
            AlreadyExistsError: Something is there. After an answer that was lost on the way it may be the caller's own bytes.
            StoreFullError: The store has no room; nothing is there.
        """

    def compare_and_put(self, path: str, data: bytes, version: str) -> ObjectInfo:  # noqa: ARG002  # for stores that can
        """Replace a small object if its version is still ``version``: of any number of concurrent callers exactly one succeeds.

        Raises:
            PreconditionFailedError: Another version is there, or nothing. After an answer that was lost it may be the caller's own bytes.
            NotSupportedError: The store has no such capability.
        """
        raise NotSupportedError(
            f"{type(self).__name__} has no compare-and-put, so {path!r} was not written",
            tier=self.tier,
            location=str(self.location(path)),
        )

    @abstractmethod
    def writer(self, path: str) -> StoreWriter:
        """Return a writer for an object of any size, in bounded memory."""

    @abstractmethod
    def copy(self, source: str, target: str) -> ObjectInfo:
        """Copy an object within the store, without moving bytes through this process where the store can.

        Raises:
            NotFoundError: There is no source.
        """

    @abstractmethod
    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects. One that is not there is deleted already."""

    # Listing ------------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object below the folder ``prefix`` (``""`` for all), in no promised order. A folder that is not there is empty."""

    def holds_only(self, prefix: str, path: str) -> bool:
        """Return whether nothing lies below the folder ``prefix`` but the object ``path``, which may be missing.

        A store may know a cheaper way than to list: no is said wherever that is not sure.
        """
        return all(info.path == path for info in self.list(prefix))

    @abstractmethod
    def children(self, prefix: str) -> tuple[builtins.list[str], builtins.list[ObjectInfo]]:
        """Return one level of the folder ``prefix``: the names of its folders, sorted, and its objects, sorted by path."""

    def reap_uploads(self, prefix: str, older_than: timedelta) -> builtins.list[str]:  # noqa: ARG002  # for stores that leave some
        """Abort multipart uploads, and remove temporary files of writers, begun below ``prefix`` longer ago than ``older_than``.

        Returns:
            The paths that were being written. A store whose writers leave nothing behind returns none.
        """
        return []

    # Views --------------------------------------------------------------------------------------------------------------------------

    def unavailable(self) -> str | None:
        """Return why this store is known not to serve just now; None where that is not known. Nothing is asked."""
        return None

    @property
    def original(self) -> Store:
        """The store whose bytes these are: this one, unless it holds copies."""
        return self

    def verifying(self, expected: Callable[[str], Expected | None]) -> Store:  # noqa: ARG002  # for stores that hold copies
        """Return the store to read committed files from.

        That is this store itself where it holds what was committed. One that holds copies returns a view that compares what it reads with
        what was committed.

        Args:
            expected: Says of a path what was committed there; None for one that is no committed file.
        """
        return self

    def tell_hedges(self, told: Callable[[], None]) -> None:  # noqa: B027  # most stores ask once
        """Have ``told`` called for each read that is asked for a second time because its answer was late."""

    @property
    def identity(self) -> str:
        """What tells this store's bytes from those of all others: its root, and the service where the root does not name it."""
        return str(self.root)

    def location(self, path: str = "") -> Location:
        """Return the location of a path."""
        return self.root.join(path)

    def local_path(self, path: str) -> Path | None:  # noqa: ARG002  # for stores that are mounted
        """Return where a path lies in this machine's file system, or None where the store is not mounted."""
        return None

    def bring(self, path: str) -> Path | None:
        """Return where a file lies in this machine's file system; a store of copies makes one first, where that is where it keeps them."""
        return self.local_path(path)

    def hold(self, path: str) -> AbstractContextManager[Path | None]:  # noqa: ARG002  # for stores that keep copies on this machine
        """Return :meth:`bring` as a context, for an engine that opens the file later: it stays until the context is left.

        None where files lie on this machine for good, or not at all.
        """
        return nullcontext(None)

    def local_folder(self, path: str, files: Callable[[], Iterable[str]]) -> Path | None:  # noqa: ARG002  # for stores that have only some
        """Return where a folder lies in this machine's file system, or None where not all of its files are there.

        Args:
            path: The folder.
            files: Returns the paths of the files that have to be in it.
        """
        return self.local_path(path)

    def spark_uri(self, path: str) -> str:
        """Return the URI under which Spark reads and writes a path.

        Raises:
            NotSupportedError: Spark has no way to these bytes.
        """
        raise NotSupportedError(
            f"Spark cannot read {type(self).__name__}", tier=self.tier, location=str(self.location(path))
        )

    @property
    @abstractmethod
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """An fsspec file system over the whole store's backend; ``filesystem_path`` gives the paths it takes."""

    @property
    @abstractmethod
    def arrow_filesystem(self) -> pyarrow.fs.FileSystem:
        """A pyarrow file system over the same; native where pyarrow has one."""

    @abstractmethod
    def filesystem_path(self, path: str) -> str:
        """Return the path under which ``filesystem`` and ``arrow_filesystem`` know a path of this store."""
