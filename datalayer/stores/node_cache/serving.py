"""``Serving``: the bytes of an open entry, and of the cold store where pages are not there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from datalayer.stores.node_cache import telling
from datalayer.stores.node_cache.about import PAGE, PAGES_PER_BLOCK, DamagedError
from datalayer.stores.node_cache.filling import AHEAD, SHORT, DroppedError, Filling, NoRoomError, fetch_short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from datalayer.stores.node_cache.entry import Entry
    from datalayer.stores.node_cache.room import Room
    from datalayer.stores.node_cache.source import Group, Source
    from datalayer.stores.node_cache.telling import Telling

# Records that are looked at together: of 256 MiB.
_LOOK = 1024
# Somebody who fetches a page, and gets nothing done for so long, is stopped, or waits for a store that does not answer.
_PATIENCE_SECONDS = 10.0
_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.01


class PastError(Exception):
    """The rest is better read past the copy."""


class Serving:
    """What one reading gets from a file's entries.

    Args:
        source: The file on the cold store.
        room: What there may be of copies.
        tell: Told of hits.
        stuck: When data was last written to entries in which somebody got nothing done for long; of all readings of a cache.
    """

    def __init__(self, source: Source, room: Room, tell: Telling, stuck: dict[Path, int]) -> None:
        self._source = source
        self._stuck = stuck
        self._room = room
        self._tell = tell
        self.missed: set[str] = set()
        """Why the cold store was asked, as far as that was not told yet."""

    def pieces(self, entry: Entry, at: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from ``at`` on, up to ``end`` or until the entry is dropped.

        Raises:
            DamagedError: The copy is not what was recorded of it, or committed.
            PastError: The rest is better read past the copy.
            StoreError: As the cold store says.
        """
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
            if entry.is_sealed:
                raise DamagedError("not all of its records are there, though all of it was")
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
            self.missed.add(telling.NOT_CACHED)
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
            while at < min(end, stop * PAGE) and filling.is_here:
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

    def past(self, at: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from the cold store alone."""
        for group in self._source.groups(at // PAGE, -(-end // PAGE)):
            for piece in self._parts([group], at, end):
                at += len(piece)
                yield piece

    def _wait(self, entry: Entry, page: int) -> None:
        """Wait until a page is there, or nobody fetches it.

        Raises:
            PastError: Whoever fetches it has got nothing done for long.
        """
        moved, pause = entry.written_at(), _FIRST_PAUSE
        # A file is often read in many small parts: whoever holds it up is waited for once, as long as they get nothing done.
        patience = 0.0 if self._stuck.get(entry.place) == moved else _PATIENCE_SECONDS
        deadline = time.monotonic() + patience
        while entry.is_taken(page) and entry.sums(page, 1)[0] is None:
            if entry.written_at() != moved:
                moved, deadline = entry.written_at(), time.monotonic() + _PATIENCE_SECONDS
            if time.monotonic() > deadline:
                self._stuck[entry.place] = moved
                self.missed.add(telling.WAITED)
                self._tell.stuck(self._source.location)
                raise PastError
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _check(self, error: Exception | None) -> None:
        """Raise what kept pages from being kept; a dropped entry is opened anew when the next one is looked for."""
        if isinstance(error, NoRoomError):
            self.missed.add(telling.NO_ROOM)
            raise PastError
        if error is not None and not isinstance(error, DroppedError):
            raise error


def _leading_gap(sums: Sequence[int | None]) -> int:
    return next((at for at, value in enumerate(sums) if value is not None), len(sums))


def _part(data: bytes, at: int, end: int) -> bytes:
    """Return the part of a page that a reader wants who is at ``at``."""
    begin = at // PAGE * PAGE
    return data[at - begin : end - begin]
