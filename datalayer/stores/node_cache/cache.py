"""``NodeCache``: the store of copies in a folder of this machine."""

from __future__ import annotations

import contextlib
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from datalayer.stores.hot import HotStore
from datalayer.stores.node_cache.about import DamagedError
from datalayer.stores.node_cache.entry import Entry
from datalayer.stores.node_cache.folder import CacheFolder
from datalayer.stores.node_cache.places import NEW_ENTRY_BYTES, drop, hold, on_disk, stand
from datalayer.stores.node_cache.reading import Reading
from datalayer.stores.node_cache.room import Room
from datalayer.stores.node_cache.telling import Telling
from datalayer.stores.node_cache.through import Through
from datalayer.stores.node_cache.whole_file import WholeFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from datalayer.stores.base import Expected, Store
    from datalayer.stores.counting import Receipt
    from datalayer.stores.positioned import PositionedFile


class Usage(NamedTuple):
    """How full a cache is."""

    held: int
    """Bytes of the disk that copies take; after a process was killed a little too many, until room is made the next time."""
    budget: int
    """Bytes that they may take."""


class NodeCache(HotStore):
    """Copies of a cold store's committed files, shared by the processes of one user on this machine.

    Each page of 256 KiB is fetched once, whoever asks; it is compared with its checksum whenever it is read. A file that is there as a whole
    also stands in a folder under its own name. What the folder cannot do never fails a read: the cold store is read instead, the receipt says
    why, and one warning too.

    Args:
        cold: The store whose files they are.
        receipt: Told of hits and misses.
        folder: Where copies are held; made when first used. It must be this user's, and nobody else may write to it.
        budget: Bytes of the disk that copies may take, those of other stores in the same folder included. What was not used for longest goes
            first. A file that is larger is not held.

    Raises:
        ConfigError: The folder is somebody else's, or others may write to it.
    """

    verifies = True
    overhead = NEW_ENTRY_BYTES + on_disk(1)

    def __init__(self, cold: Store, receipt: Receipt, folder: Path, *, budget: int) -> None:
        super().__init__(cold, receipt)
        # The cold store's may: what is dropped here to make room has no path any more.
        self.paths_last = False
        self._folder = CacheFolder(Path(os.path.abspath(folder)), cold.identity)  # noqa: PTH100  # links stay
        self._room = Room(self._folder, budget)
        self._tell = Telling(receipt, self.tier.value, self._folder)
        self._stuck: dict[Path, int] = {}
        try:
            self._folder.check()
        except OSError as error:
            self._tell.failed(error)

    @property
    def folder(self) -> Path:
        """Where copies are held."""
        return self._folder.root

    def pieces(self, path: str, expected: Expected, start: int, end: int) -> Iterator[bytes]:
        if start >= end and expected.length:
            return iter(())
        return self._reading(path, expected).pieces(start, end)

    def opened(self, path: str, expected: Expected) -> PositionedFile | None:
        if not expected.length:
            return None
        try:
            entry = Entry.open(self._folder.entry(path))
            if entry is None:
                return None
            with entry:
                if not entry.mark().about.fits(expected) or not entry.stands():
                    return None
                return WholeFile(
                    entry.detached(),
                    expected.length,
                    self._tell.hit,
                    lambda start, end: self.pieces(path, expected, start, end),
                )
        except (DamagedError, OSError):
            return None  # Reading page by page finds out what it is, and says so.

    @cached_property
    def through(self) -> Store:
        """The cold store, which makes a copy of what is written to it."""
        return Through(self.cold, self._folder, self._room, self._tell)

    def whole(self, path: str, expected: Expected) -> Path | None:
        return self._reading(path, expected).whole()

    @contextlib.contextmanager
    def hold_whole(self, path: str, expected: Expected) -> Iterator[Path | None]:
        where, file = self.whole(path, expected), None
        if where is not None:
            try:
                file = hold(self._folder.entry(path))
            except OSError as error:
                self._tell.failed(error)
        try:
            yield where if file is not None else None
        finally:
            if file is not None:
                os.close(file)

    def standing(self, path: str, expected: Expected) -> Path | None:
        return self._reading(path, expected).standing()

    def local_path(self, path: str) -> Path | None:
        """Return where a file stands, if all of it is there; or where a folder does, of which not all files need to be there."""
        place = self._folder.entry(path)
        entry = None
        try:
            entry = Entry.open(place)
            if entry is not None:
                with entry:
                    return stand(entry.mark(), self._folder)
            folder = self._folder.linked(path)
            return folder if folder.is_dir() else None
        except DamagedError as error:
            self._tell.corrupt(self.cold.location(path), error)
            self._drop([path])
        except OSError as error:
            self._tell.failed(error)
        return None

    def resident(self, path: str, length: int) -> int:
        try:
            entry = Entry.open(self._folder.entry(path))
            if entry is None:
                return 0
            with entry:
                about = entry.about
                if about.length != length:
                    return 0
                sums = entry.sums(0, about.pages)
                return sum(about.size(page, 1) for page, value in enumerate(sums) if value is not None)
        except (DamagedError, OSError):
            return 0

    def out_of_service(self) -> str | None:
        try:
            self._folder.check_again()
            self._room.held()
        except OSError as error:
            return f"{self._tell.failed(error)}: {self.folder} ({error.strerror or error})"
        return self.unavailable()

    def usage(self) -> Usage:
        """Return how much the copies take, and may take."""
        try:
            return Usage(self._room.held(), self._room.budget)
        except OSError as error:
            self._tell.failed(error)
            return Usage(0, self._room.budget)

    def evict(self, paths: Iterable[str]) -> None:
        try:
            self._drop(paths)
        except OSError as error:
            self._tell.failed(error)

    def pin(self, paths: Iterable[str], until: datetime) -> None:
        end = until.timestamp()
        try:
            self._folder.check()
            for path in paths:
                pin = self._folder.pin(self._folder.name(path))
                pin.parent.mkdir(0o700, exist_ok=True)
                pin.touch(0o600)
                os.utime(pin, (end, end))
        except OSError as error:
            self._tell.failed(error)

    def unpin(self, paths: Iterable[str]) -> None:
        try:
            for path in paths:
                self._folder.pin(self._folder.name(path)).unlink(missing_ok=True)
        except OSError as error:
            self._tell.failed(error)
        self._room.look_again()

    def _drop(self, paths: Iterable[str]) -> None:
        self._room.give(sum(drop(self._folder, self._folder.entry(path)) for path in paths))

    def _reading(self, path: str, expected: Expected) -> Reading:
        return Reading(self.cold, self._folder, self._room, self._tell, path, expected, self._stuck)
