"""``Filling``: one run of pages on its way from the cold store to its reader, and into the copy."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

from datalayer.stores.node_cache.about import PAGE, PAGES_PER_BLOCK
from datalayer.stores.node_cache.places import on_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datalayer.stores.node_cache.entry import Entry
    from datalayer.stores.node_cache.room import Room
    from datalayer.stores.node_cache.source import Group, Source

# Up to here a run is fetched and kept before its first page is handed out: then nothing is locked while the reader is busy.
SMALL = 2 * PAGES_PER_BLOCK
# Of a longer run, so many pages are locked ahead of the one that comes next; a cold store has up to 40 MiB on the way. Others that want what lies
# behind fetch it themselves, and need not wait until the run gets there.
AHEAD = (64 << 20) // PAGE
_LEAST_AHEAD = (40 << 20) // PAGE
# Groups that wait to be written: with those on the way from the store, less than 64 MiB.
_WAITING = 3
_POLL_SECONDS = 0.2
# A reader who is busy for longer gives up its locks.
_AWAY_SECONDS = 1.0


class NoRoomError(Exception):
    """There is no room for another page."""


class Filling:
    """A run of pages that are not there, whose first ones this reader has locked.

    Args:
        entry: The copy.
        source: The file on the cold store.
        room: Where the copy takes its room.
        locked: The page after the last one that is locked.
    """

    def __init__(self, entry: Entry, source: Source, room: Room, first: int, end: int, locked: int) -> None:
        self._entry = entry
        self._source = source
        self._room = room
        self._next = first
        self._end = end
        self._locked = locked
        self.error: Exception | None = None
        """Why not all of the pages that were handed out were kept."""

    def pages(self) -> Iterator[bytes]:
        """Yield the pages, in order, up to the end or to one that somebody else has, or is fetching.

        Raises:
            WrongBlockError: The pages of it that were there before may be why.
            StoreError: As the cold store says.
        """
        return self._small() if self._end - self._next <= SMALL else self._large()

    def _small(self) -> Iterator[bytes]:
        self._end = min(self._end, self._locked)
        groups = list(self._source.groups(self._next, self._end))
        keeping = _Keeping(self._entry, self._room)
        try:
            for group in groups:
                self._source.check_group(self._entry, group)
                keeping.keep(group)
        except (NoRoomError, OSError) as error:
            self.error = error
        finally:
            self._entry.release()
        for group in groups:
            yield from group.pages

    def _large(self) -> Iterator[bytes]:
        groups = self._source.groups(self._next, self._end)
        keeper = _Keeper(_Keeping(self._entry, self._room))
        try:
            while self._reach(keeper):
                group = next(groups)
                if group.end > self._end:
                    count = self._end - group.first
                    group = group._replace(pages=group.pages[:count], sums=group.sums[:count])
                self._source.check_group(self._entry, group)
                keeper.send(group)
                self._next = group.end
                yield from keeper.away(group.pages)
                if keeper.has_left:
                    return
        finally:
            groups.close()
            keeper.finish()
            self.error = keeper.error

    def _reach(self, keeper: _Keeper) -> bool:
        """Lock what comes next, where others have not; False where nothing more is this reader's."""
        if keeper.error is not None:
            # Nothing more is kept: the rest is only read.
            return self._next < self._end
        if self._locked < self._end and self._locked - self._next < _LEAST_AHEAD:
            wanted = min(self._next + AHEAD, self._end) - self._locked
            got = self._entry.take(self._locked, wanted)
            there = next((at for at, value in enumerate(self._entry.sums(self._locked, got)) if value is not None), got)
            if there < got:
                self._entry.release(self._locked + there, got - there)
            self._locked += there
            if there < wanted:
                self._end = self._locked
        return self._next < self._end


class _Keeping:
    def __init__(self, entry: Entry, room: Room) -> None:
        self._entry = entry
        self._room = room

    def keep(self, group: Group) -> None:
        """Write pages and record them.

        Raises:
            NoRoomError: There is no room.
        """
        if self._entry.is_gone():
            return
        size = on_disk(sum(map(len, group.pages)))
        if not self._room.take(size):
            raise NoRoomError
        try:
            self._entry.write(group.first, group.pages)
            self._entry.record(group.first, group.sums)
        except BaseException:
            self._room.give(size)
            raise

    def release(self, group: Group) -> None:
        self._entry.release(group.first, len(group.pages))

    def release_all(self) -> None:
        self._entry.release()


class _Keeper:
    """Keeps groups in a thread of its own, beside what the reader does."""

    def __init__(self, keeping: _Keeping) -> None:
        self._keeping = keeping
        self._groups: queue.Queue[Group | None] = queue.Queue(maxsize=_WAITING)
        self._away_since: float | None = None
        self.has_left = False
        """Whether the reader was busy for so long that its locks were given up."""
        self.error: Exception | None = None
        # A daemon, so that a reader who forgot it does not keep the process alive. A write that is cut off is not recorded.
        self._thread = threading.Thread(target=self._run, name="datalayer-cache", daemon=True)
        self._thread.start()

    def send(self, group: Group) -> None:
        """Hand a group over, waiting for room in the queue."""
        self._put(group)

    def away(self, pages: list[bytes]) -> Iterator[bytes]:
        """Yield pages to the reader, and know how long it is busy."""
        for page in pages:
            self._away_since = time.monotonic()
            yield page
            self._away_since = None

    def finish(self) -> None:
        """Wait until all is kept."""
        self._away_since = None
        self._put(None)
        self._thread.join()

    def _put(self, group: Group | None) -> None:
        while self._thread.is_alive():
            try:
                self._groups.put(group, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return

    def _run(self) -> None:
        try:
            while not self.has_left:
                try:
                    group = self._groups.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    since = self._away_since
                    self.has_left = since is not None and time.monotonic() - since > _AWAY_SECONDS
                    continue
                if group is None:
                    return
                self._keeping.keep(group)
                self._keeping.release(group)
        except Exception as error:  # noqa: BLE001  # told by whoever reads
            self.error = error
        finally:
            self._keeping.release_all()
