"""``Reading``: one range of a committed file, from the copy where that is good, else from the cold store."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from datalayer.errors import ConfigError, DataLayerError
from datalayer.stores.node_cache import telling
from datalayer.stores.node_cache.about import PAGE, PAGES_PER_BLOCK, DamagedError, WrongBlockError
from datalayer.stores.node_cache.entry import Entry
from datalayer.stores.node_cache.filling import AHEAD, SHORT, DroppedError, Filling, NoRoomError, fetch_short
from datalayer.stores.node_cache.places import NEW_ENTRY_BYTES, create, drop, stand
from datalayer.stores.node_cache.source import Group, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from datalayer.stores.base import Expected, Store
    from datalayer.stores.node_cache.folder import CacheFolder
    from datalayer.stores.node_cache.room import Room
    from datalayer.stores.node_cache.telling import Telling

# Records that are looked at together: of 256 MiB.
_LOOK = 1024
# Somebody who fetches a page, and gets nothing done for so long, is stopped, or waits for a store that does not answer.
_PATIENCE_SECONDS = 10.0
_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.01
# A copy that is damaged, or dropped, again and again is better left alone.
_TRIES = 4


class _PastError(Exception):
    """The rest is better read past the copy."""


class Reading:
    """A reading of one file.

    Args:
        cold: The store that has it.
        folder: Where copies are.
        room: What there may be of them.
        tell: Told of hits and misses.
        path: The file.
        expected: What was committed.
    """

    def __init__(
        self, cold: Store, folder: CacheFolder, room: Room, tell: Telling, path: str, expected: Expected
    ) -> None:
        self._source = Source(cold, path, expected)
        self._location = cold.location(path)
        self._folder = folder
        self._room = room
        self._tell = tell
        self._path = path
        self._expected = expected
        self._missed: set[str] = set()
        self._is_past = False

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``end``. Before the last of them everything is done, and closed.

        Raises:
            StoreError: As the cold store says.
            VerificationError: It has not the file that was committed.
        """
        at = start
        try:
            for _ in range(_TRIES):
                for piece in self._through_copy(start, at, end):
                    at += len(piece)
                    yield piece
                if at >= end or self._is_past:
                    break
            if at < end:
                self._tell_misses()
                yield from self._past(at, end)
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
                for piece in self._from(entry, at, end):
                    if held:
                        yield held
                    held = piece
                    at += len(piece)
                self._stand(entry)
        except DamagedError as error:
            self._damaged(error, entry)
            if isinstance(error, WrongBlockError) and max(start, error.begin) < at:
                raise self._source.wrong(error.begin, at, "Read it again") from error
        except _PastError:
            self._is_past = True
        except DataLayerError:
            raise
        except OSError as error:
            self._failed(error, entry)
        if at >= end:
            self._tell_misses()
        if held:
            yield held

    def _entry(self) -> Entry:
        """Return the file's entry, made if need be.

        Raises:
            _PastError: There is no room for it.
        """
        place = self._folder.entry(self._path)
        for _ in range(_TRIES):
            entry = Entry.open(place)
            if entry is not None:
                if entry.about.fits(self._expected):
                    return entry.mark()
                # Another file was there once.
                entry.close()
                self._room.give(drop(self._folder, place, entry))
            self._check_folder()
            if self._expected.length > self._room.budget or not self._room.take(NEW_ENTRY_BYTES):
                self._missed.add(telling.NO_ROOM)
                raise _PastError
            try:
                made = create(self._folder, self._path, self._expected)
            except BaseException:
                self._room.give(NEW_ENTRY_BYTES)
                raise
            if not made:
                self._room.give(NEW_ENTRY_BYTES)
        raise OSError(f"{place} is removed as often as it is made")

    def _from(self, entry: Entry, at: int, end: int) -> Iterator[bytes]:
        """Yield the bytes, up to the end or until the entry is dropped."""
        last = -(-end // PAGE)
        stands = entry.stands()
        while at < end:
            page = at // PAGE
            sums = entry.sums(page, min(last - page, _LOOK))
            if sums[0] is not None:
                for piece in self._there(entry, sums, at, end, stands=stands):
                    at += len(piece)
                    self._tell.hit(len(piece))
                    yield piece
                continue
            missing = _leading_gap(sums)
            wanted = min(missing, AHEAD)
            locked = entry.take(page, wanted)
            if not locked:
                self._wait(entry, page)
                continue
            if entry.is_gone():
                return
            # Somebody may have fetched them since the first look.
            run = _leading_gap(entry.sums(page, missing))
            if run < locked:
                entry.release(page + run, locked - run)
                locked = run
            if not run:
                continue
            self._missed.add(telling.NOT_CACHED)
            stop = page + (run if locked == wanted else locked)
            for piece in self._fetched(entry, page, stop, page + locked, at, end):
                at += len(piece)
                yield piece

    def _fetched(self, entry: Entry, first: int, stop: int, locked: int, at: int, end: int) -> Iterator[bytes]:
        """Yield what is to be fetched: the pages from ``first`` to before ``stop``, of which those before ``locked`` are locked."""
        if stop - first <= SHORT:
            groups, error = fetch_short(entry, self._source, self._room, first, min(stop, locked))
            yield from self._parts(groups, at, end)
            self._check(error)
            return
        filling = Filling(entry, self._source, self._room, first, stop, locked)
        try:
            while at < min(end, stop * PAGE):
                group = filling.take(at // PAGE)
                if group is not None:
                    pieces = self._parts([group], at, end)
                elif at // PAGE < filling.kept:
                    sums = entry.sums(at // PAGE, filling.kept - at // PAGE)
                    if sums[0] is None:
                        raise DamagedError("a record that was written is not there")
                    pieces = self._there(entry, sums, at, end, stands=False)
                else:
                    break
                for piece in pieces:
                    at += len(piece)
                    yield piece
            filling.finish()
        finally:
            filling.stop()
        self._check(filling.error)

    def _parts(self, groups: list[Group], at: int, end: int) -> Iterator[bytes]:
        """Yield what a reader who is at ``at`` wants of groups that follow each other."""
        for group in groups:
            for data in group.pages[max(0, at // PAGE - group.first) :]:
                piece = _part(data, at, end)
                if not piece:
                    return
                at += len(piece)
                yield piece

    def _there(self, entry: Entry, sums: Sequence[int | None], at: int, end: int, *, stands: bool) -> Iterator[bytes]:
        """Yield what is there from ``at`` on."""
        for page, value in enumerate(sums, at // PAGE):
            if value is None:
                return
            stop = min((page + 1) * PAGE, end)
            if not stands:
                self._source.check_block(entry, page // PAGES_PER_BLOCK)
            if stands and stop - at < entry.about.size(page, 1):
                yield entry.read_part(at, stop)
            else:
                yield _part(entry.read(page, value), at, end)
            at = stop

    def _wait(self, entry: Entry, page: int) -> None:
        """Wait until a page is there, or nobody fetches it.

        Raises:
            _PastError: Whoever fetches it has got nothing done for long.
        """
        moved, pause = entry.written_at(), _FIRST_PAUSE
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while entry.is_taken(page) and entry.sums(page, 1)[0] is None:
            if entry.written_at() != moved:
                moved, deadline = entry.written_at(), time.monotonic() + _PATIENCE_SECONDS
            if time.monotonic() > deadline:
                self._missed.add(telling.WAITED)
                self._tell.stuck(self._location)
                raise _PastError
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _past(self, at: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from the cold store alone."""
        for group in self._source.groups(at // PAGE, -(-end // PAGE)):
            for piece in self._parts([group], at, end):
                at += len(piece)
                yield piece

    def _check(self, error: Exception | None) -> None:
        """Raise what kept pages from being kept; a dropped entry is opened anew when the next one is looked for."""
        if isinstance(error, NoRoomError):
            self._missed.add(telling.NO_ROOM)
            raise _PastError
        if error is not None and not isinstance(error, DroppedError):
            raise error

    def _stand(self, entry: Entry) -> None:
        """See whether the copy is whole now; that it cannot stand in the tree is no failure of a read."""
        if self._missed or not self._expected.length:
            try:
                stand(entry, self._folder, self._expected)
            except OSError as error:
                self._tell.failed(error)

    def _damaged(self, error: DamagedError, entry: Entry | None) -> None:
        self._missed.add(telling.CORRUPT)
        self._tell.corrupt(self._location, error)
        try:
            self._room.give(drop(self._folder, self._folder.entry(self._path), entry))
        except OSError as failure:
            self._tell.failed(failure)
            self._is_past = True

    def _failed(self, error: OSError, entry: Entry | None) -> None:
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

    def _check_folder(self) -> None:
        try:
            self._folder.check()
        except ConfigError as error:
            # It was right when the cache was opened; a reader need not suffer from what became of it.
            raise PermissionError(errno.EPERM, error.message) from error

    def _tell_misses(self) -> None:
        """Count why the cold store was asked; that a page is not there only where nothing worse was."""
        if len(self._missed) > 1:
            self._missed.discard(telling.NOT_CACHED)
        for reason in self._missed:
            self._tell.miss(reason)
        self._missed.clear()


def _leading_gap(sums: Sequence[int | None]) -> int:
    return next((at for at, value in enumerate(sums) if value is not None), len(sums))


def _part(data: bytes, at: int, end: int) -> bytes:
    """Return the part of a page that a reader wants who is at ``at``."""
    begin = at // PAGE * PAGE
    return data[at - begin : end - begin]
