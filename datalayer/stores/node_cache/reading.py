"""``Reading``: one range of a committed file, from the copy where that is good, else from the cold store."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from datalayer.errors import DataLayerError
from datalayer.stores.node_cache import telling
from datalayer.stores.node_cache.about import DamagedError, WrongBlockError
from datalayer.stores.node_cache.entry import Entry
from datalayer.stores.node_cache.places import NEW_ENTRY_BYTES, create, drop, stand
from datalayer.stores.node_cache.serving import PastError, Serving
from datalayer.stores.node_cache.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from datalayer.stores.base import Expected, Store
    from datalayer.stores.node_cache.folder import CacheFolder
    from datalayer.stores.node_cache.room import Room
    from datalayer.stores.node_cache.telling import Telling

# A copy that is damaged, or dropped, again and again is better left alone.
_TRIES = 4
_TRIES_TO_OPEN = 50


class Reading:
    """A reading of one file.

    Args:
        cold: The store that has it.
        folder: Where copies are.
        room: What there may be of them.
        tell: Told of hits and misses.
        path: The file.
        expected: What was committed.
        stuck: As for :class:`~datalayer.stores.node_cache.serving.Serving`.
    """

    def __init__(
        self,
        cold: Store,
        folder: CacheFolder,
        room: Room,
        tell: Telling,
        path: str,
        expected: Expected,
        stuck: dict[Path, int],
    ) -> None:
        self._source = Source(cold, path, expected)
        self._folder = folder
        self._room = room
        self._tell = tell
        self._path = path
        self._expected = expected
        self._serving = Serving(self._source, room, tell, stuck)
        self._missed = self._serving.missed
        self._is_past = False

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``end``. Before the last of them everything is done, and closed.

        Raises:
            StoreError: As the cold store says.
            VerificationError: It has not the file that was committed.
        """
        at, tries = start, _TRIES
        try:
            while tries and not self._is_past and (at < end or tries == _TRIES):
                tries, before = tries - 1, at
                for piece in self._through_copy(start, at, end):
                    at += len(piece)
                    yield piece
                if before < at < end:
                    tries = _TRIES
            if at < end:
                if not self._is_past:
                    self._missed.add(telling.DROPPED)
                self._tell_misses()
                yield from self._serving.past(at, end)
        finally:
            self._tell_misses()

    def whole(self) -> Path | None:
        """Make the copy whole, and return where it stands; None where there can be none.

        Raises:
            StoreError: As for :meth:`pieces`.
            VerificationError: As for :meth:`pieces`.
        """
        # A copy that is found damaged in the middle is dropped with its beginning, which then comes the second time.
        for _ in range(2):
            for _ in self.pieces(0, self._expected.length):
                pass
            path = self.standing()
            if path is not None or self._is_past:
                return path
        return None

    def standing(self) -> Path | None:
        """Return where the copy stands, if it is whole."""
        entry = None
        try:
            entry = Entry.open(self._folder.entry(self._path))
            if entry is None:
                return None
            with entry:
                return stand(entry.mark(), self._folder, self._expected) if entry.about.fits(self._expected) else None
        except DamagedError as error:
            self._damaged(error, entry)
            self._tell_misses()
        except OSError as error:
            self._tell.failed(error)
        return None

    def _through_copy(self, start: int, at: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from ``at`` on, as far as the copy is good; those from ``start`` on are handed out already.

        A reader may leave when it has the last: that comes after all else.
        """
        entry, held = None, b""
        try:
            entry = self._entry()
            with entry:
                for piece in self._serving.pieces(entry, at, end):
                    if held:
                        yield held
                    held = piece
                    at += len(piece)
                self._stand(entry, end)
        except DataLayerError:
            raise
        except PastError:
            self._is_past = True
        except DamagedError as error:
            self._damaged(error, entry)
            if isinstance(error, WrongBlockError) and error.overlaps(start, at):
                raise self._source.wrong(error.begin, error.end, "Read it again") from error
        except OSError as error:
            self._failed(error, entry)
        if at >= end:
            self._tell_misses()
        if held:
            yield held

    def _entry(self) -> Entry:
        """Return the file's entry, made if need be.

        Raises:
            PastError: There is no room for it.
        """
        place = self._folder.entry(self._path)
        for _ in range(_TRIES_TO_OPEN):
            entry = Entry.open(place)
            if entry is not None:
                if entry.about.fits(self._expected):
                    return entry.mark()
                # Another file was there once.
                entry.close()
                self._room.give(drop(self._folder, place, entry))
            self._folder.check_again()
            if self._expected.length + NEW_ENTRY_BYTES > self._room.budget or not self._room.take(NEW_ENTRY_BYTES):
                self._missed.add(telling.NO_ROOM)
                raise PastError
            try:
                made = create(self._folder, self._path, self._expected)
            except BaseException:  # also after an interrupt the room is free again
                self._room.give(NEW_ENTRY_BYTES)
                raise
            if not made:
                self._room.give(NEW_ENTRY_BYTES)
        raise OSError(f"{place} is removed as often as it is made")

    def _stand(self, entry: Entry, end: int) -> None:
        """See whether the copy is whole now; that it cannot stand in the tree is no failure of a read."""
        if self._missed or (end == self._expected.length and not entry.stands()):
            try:
                stand(entry, self._folder, self._expected)
            except OSError as error:
                if not entry.is_gone():
                    self._tell.failed(error)

    def _damaged(self, error: DamagedError, entry: Entry | None) -> None:
        self._missed.add(telling.CORRUPT)
        self._tell.corrupt(self._source.location, error)
        try:
            self._room.give(drop(self._folder, self._folder.entry(self._path), entry))
        except OSError as failure:
            self._tell.failed(failure)
            self._is_past = True

    def _failed(self, error: OSError, entry: Entry | None) -> None:
        if isinstance(error, FileNotFoundError) and entry is not None and entry.is_gone():
            return  # It was dropped, and is opened anew.
        if error.errno == errno.EBADF and entry is not None and entry.is_closed:
            return  # This process was forked from the one that opened it; likewise.
        self._missed.add(self._tell.failed(error))
        self._is_past = True
        if entry is None or error.errno not in telling.BROKEN:
            return
        try:
            self._room.give(drop(self._folder, entry.place, entry))
            if error.errno in telling.FULL:
                self._room.shrink()
        except OSError:  # Told already: the folder cannot be used.
            return

    def _tell_misses(self) -> None:
        """Count why the cold store was asked; that a page is not there only where nothing worse was."""
        if len(self._missed) > 1:
            self._missed.discard(telling.NOT_CACHED)
        for reason in self._missed:
            self._tell.miss(reason)
        self._missed.clear()
