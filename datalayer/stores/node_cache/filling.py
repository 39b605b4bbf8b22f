"""Runs of pages that are not there: fetched from the cold store, kept, and handed out.

A short run is fetched and kept before its first page is handed out. A long one is fetched by a thread of its own, as fast as the store gives it:
whoever else waits for it does not wait for its reader. What the reader is too slow to take from memory, it reads from the copy.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from datalayer.stores.node_cache.about import PAGE, PAGES_PER_BLOCK
from datalayer.stores.node_cache.places import on_disk
from datalayer.stores.s3_reading import AT_ONCE, RANGE

if TYPE_CHECKING:
    from datalayer.stores.node_cache.entry import Entry
    from datalayer.stores.node_cache.room import Room
    from datalayer.stores.node_cache.source import Group, Source

SHORT = 2 * PAGES_PER_BLOCK
"""Pages of a run that is fetched before it is handed out."""
# More than a store has on the way: what is fetched and not locked, another process would fetch, too.
_LEAST_AHEAD = (AT_ONCE * RANGE + (8 << 20)) // PAGE
AHEAD = _LEAST_AHEAD + (24 << 20) // PAGE
"""Pages of a run that are locked ahead of the one that comes next. Whoever wants one behind them fetches it, and need not wait."""
# Groups that wait for their reader, beside those on the way.
_WAITING = 3


class NoRoomError(Exception):
    """There is no room for another page."""


class DroppedError(Exception):
    """The entry was dropped meanwhile: what is put there now, nobody finds."""


def fetch_short(entry: Entry, source: Source, room: Room, first: int, end: int) -> tuple[list[Group], Exception | None]:
    """Return a run whose pages are all locked, and what kept some of them from being kept; give them back.

    Raises:
        WrongBlockError: The pages of it that were there before may be why.
        StoreError: As the cold store says.
    """
    try:
        groups = list(source.groups(first, end))
        try:
            for group in groups:
                source.check_group(entry, group)
                _keep(entry, room, group)
        except (NoRoomError, DroppedError, OSError) as error:
            return groups, error
        return groups, None
    finally:
        entry.release()


class Filling:
    """A long run, fetched beside its reader.

    Args:
        entry: The copy; the first pages of the run are locked through it.
        source: The file on the cold store.
        room: Where the copy takes its room.
        first: The run's first page.
        end: The page after its last.
        locked: The page after the last one that is locked.

    Raises:
        OSError: It cannot begin.
    """

    def __init__(self, entry: Entry, source: Source, room: Room, first: int, end: int, locked: int) -> None:
        # Shares the locks, and is closed by the thread: its reader may leave while the store lets it wait.
        self._entry = entry.again()
        self._source = source
        self._room = room
        self._next = first
        self._end = end
        self._locked = locked
        self._ready: deque[Group] = deque()
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._stopped = False
        self._failure: BaseException | None = None
        self.kept = first
        """The page after the last one that is in the copy."""
        self.is_over = False
        self.error: Exception | None = None
        """Why not all pages were kept."""
        # A daemon, so that a store that does not answer does not keep the process alive.
        thread = threading.Thread(target=self._run, name="datalayer-cache", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._entry.close()
            raise OSError(errno.EAGAIN, "no thread can be started") from error

    @property
    def is_here(self) -> bool:
        """Whether its thread belongs to this process; one that was forked has none, and would wait for ever."""
        return self._process == os.getpid()

    def take(self, page: int) -> Group | None:
        """Wait for a page, and return the group it is in; None where it is in the copy, or does not come.

        Raises:
            WrongBlockError: The pages of its block that were there before may be why.
            StoreError: As the cold store says.
        """
        with self._changed:
            while True:
                while self._ready and self._ready[0].end <= page:
                    self._ready.popleft()
                if self._ready and self._ready[0].first <= page:
                    self._changed.notify_all()
                    return self._ready.popleft()
                if page < self.kept:
                    return None
                if self.is_over:
                    if self._failure is not None:
                        raise self._failure
                    return None
                self._changed.wait()

    def finish(self) -> None:
        """Wait until all that was fetched is kept."""
        if not self.is_here:
            return
        with self._changed:
            self._changed.wait_for(lambda: self.is_over)

    def stop(self) -> None:
        """Fetch no more than what is on the way."""
        if not self.is_here:
            return
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            with self._entry:
                self._fetch()
        except BaseException as error:  # noqa: BLE001  # raised in the thread that reads
            self._failure = error
        finally:
            with self._changed:
                self.is_over = True
                self._changed.notify_all()

    def _fetch(self) -> None:
        groups = self._source.groups(self._next, self._end)
        try:
            while not self._stopped and self._reach():
                group = next(groups).before(self._end)
                self._next = group.end
                if self.error is not None:
                    self._hand_out(group)
                    continue
                self._source.check_group(self._entry, group)
                handed = self._hand_out_if_awaited(group)
                try:
                    _keep(self._entry, self._room, group)
                except (NoRoomError, DroppedError, OSError) as error:
                    # From here on all is handed out, and nobody need wait for it.
                    self.error = error
                    self._entry.release()
                    if not handed:
                        self._hand_out(group)
                else:
                    with self._changed:
                        self.kept = group.end
                        self._changed.notify_all()
        finally:
            groups.close()
            # Its reader may keep the entry open for long yet.
            self._entry.release()

    def _reach(self) -> bool:
        """Lock what comes next, where nobody else has it; False where nothing more is to be fetched."""
        if self.error is None and self._locked < self._end and self._locked - self._next < _LEAST_AHEAD:
            wanted = min(self._next + AHEAD, self._end) - self._locked
            got = self._entry.take(self._locked, wanted)
            sums = self._entry.sums(self._locked, got)
            missing = next((at for at, value in enumerate(sums) if value is not None), got)
            if missing < got:
                self._entry.release(self._locked + missing, got - missing)
            self._locked += missing
            if missing < wanted:
                self._end = self._locked
        return self._next < self._end

    def _hand_out_if_awaited(self, group: Group) -> bool:
        """Give a group to the reader, unless others wait for it already."""
        with self._changed:
            if len(self._ready) >= _WAITING:
                return False
            self._ready.append(group)
            self._changed.notify_all()
            return True

    def _hand_out(self, group: Group) -> None:
        """Give a group to the reader, when it has taken others."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._ready) < _WAITING)
            self._ready.append(group)
            self._changed.notify_all()


def _keep(entry: Entry, room: Room, group: Group) -> None:
    """Write pages and record them.

    Raises:
        NoRoomError: There is no room.
        DroppedError: Nor is the entry there any more.
    """
    if entry.is_gone():
        raise DroppedError
    size = on_disk(sum(map(len, group.pages)))
    if not room.take(size):
        raise NoRoomError
    try:
        entry.write(group.first, group.pages)
        entry.record(group.first, group.sums)
    except BaseException:  # also after an interrupt the room is free again
        room.give(size)
        raise
