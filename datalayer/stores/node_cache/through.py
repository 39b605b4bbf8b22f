"""``Through``: a cold store that makes a copy of what is written to it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from google_crc32c import value as crc32c

from datalayer.stores.base import Expected, ObjectInfo, Store, StoreWriter
from datalayer.stores.node_cache import locks
from datalayer.stores.node_cache.about import PAGE, About, header_of
from datalayer.stores.node_cache.entry import Entry, write_all, write_sums
from datalayer.stores.node_cache.places import NEW_ENTRY_BYTES, drop, join_sums, new_files, on_disk, publish, stand
from datalayer.stores.wrapping import WrappingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from datalayer.stores.node_cache.folder import CacheFolder
    from datalayer.stores.node_cache.room import Room
    from datalayer.stores.node_cache.telling import Telling

_GATHERED = 4 << 20
_TRIES = 4


class Through(WrappingStore):
    """A store whose writers keep a copy of what passes, under what will be asked for. A copy that fails is no failure of the write.

    Args:
        cold: The store to write to.
        folder: Where copies are.
        room: What there may be of them.
        tell: Told of a folder that cannot be used.
    """

    def __init__(self, cold: Store, folder: CacheFolder, room: Room, tell: Telling) -> None:
        super().__init__(cold)
        self._folder = folder
        self._room = room
        self._tell = tell

    def put(self, path: str, data: bytes) -> ObjectInfo:
        info = self.inner.put(path, data)
        copy = self._copy(path)
        copy.write(data)
        copy.publish()
        return info

    def writer(self, path: str) -> StoreWriter:
        return _KeptWriter(self.inner.writer(path), self._copy(path))

    def copy(self, source: str, target: str) -> ObjectInfo:
        info = self.inner.copy(source, target)
        self._forget([target])
        return info

    def delete(self, paths: Iterable[str]) -> None:
        wanted = list(paths)
        self.inner.delete(wanted)
        self._forget(wanted)

    def _copy(self, path: str) -> StagedCopy:
        return StagedCopy(self._folder, self._room, path, self._tell.failed)

    def _forget(self, paths: Iterable[str]) -> None:
        try:
            for path in paths:
                self._room.give(drop(self._folder, self._folder.entry(path)))
        except OSError as error:
            self._tell.failed(error)


class _KeptWriter(StoreWriter):
    def __init__(self, inner: StoreWriter, copy: StagedCopy) -> None:
        self._inner = inner
        self._copy = copy

    def write(self, data: bytes | bytearray | memoryview) -> int:
        size = self._inner.write(data)
        self._copy.write(data)
        return size

    def close(self) -> ObjectInfo:
        try:
            info = self._inner.close()
        except BaseException:  # also an interrupt leaves no half copy
            self._copy.discard()
            raise
        self._copy.publish()
        return info

    def discard(self) -> None:
        self._copy.discard()
        self._inner.discard()


class StagedCopy:
    """A copy of a file that is being written. It never raises: one that cannot go on is dropped, and the rest is not kept.

    Args:
        folder: The cache.
        room: Where the copy takes its room.
        path: Of the file.
        failed: Told what the folder cannot do.
    """

    def __init__(self, folder: CacheFolder, room: Room, path: str, failed: Callable[[OSError], object]) -> None:
        self._folder = folder
        self._room = room
        self._path = path
        self._failed = failed
        self._place = folder.root
        self._pages = self._data = -1
        self._sums: list[int] = []
        self._buffer = bytearray()
        self._length = 0
        self._taken = 0
        self._over = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _GATHERED):
            if self._over:
                return
            self._buffer += view[start : start + _GATHERED]
            if len(self._buffer) >= _GATHERED:
                self._go_on(lambda: self._keep(len(self._buffer) // PAGE * PAGE))

    def publish(self) -> None:
        """Make the copy the one that readers of the file find."""
        self._go_on(self._publish)
        self.discard()

    def discard(self) -> None:
        """Drop what is not published."""
        if self._over:
            return
        self._over = True
        self._buffer = bytearray()
        for file in (self._pages, self._data):
            if file >= 0:
                os.close(file)
        if self._pages >= 0:
            shutil.rmtree(self._place, ignore_errors=True)
        try:
            self._room.give(self._taken)
        except OSError as error:
            self._failed(error)

    def __del__(self) -> None:
        self.discard()

    def _go_on(self, step: Callable[[], bool]) -> None:
        if self._over:
            return
        try:
            if step():
                return
        except OSError as error:
            self._failed(error)
        self.discard()

    def _keep(self, size: int) -> bool:
        """Write the first bytes of the buffer; False where there is no room."""
        if self._pages < 0 and not self._begin():
            return False
        taken = on_disk(size)
        if self._taken + taken > self._room.budget or not self._room.take(taken):
            return False
        self._taken += taken
        pages = [bytes(self._buffer[start : start + PAGE]) for start in range(0, size, PAGE)]
        write_all(self._data, pages, self._length)
        self._sums += map(crc32c, pages)
        self._length += size
        del self._buffer[:size]
        return True

    def _begin(self) -> bool:
        self._folder.check_again()
        if not self._room.take(NEW_ENTRY_BYTES):
            return False
        self._taken += NEW_ENTRY_BYTES
        self._place = self._folder.passing("staging")
        self._pages, self._data = new_files(self._place)
        # Whoever clears away what was left behind sees that this was not.
        locks.take(self._pages, 0, 0)
        return True

    def _publish(self) -> bool:
        if not self._keep(len(self._buffer)):
            return False
        about = About(self._folder.store, self._path, self._length, None)
        about = about._replace(checksum=join_sums(about, 0, self._sums))
        write_all(self._pages, [header_of(about)], 0)
        write_sums(self._pages, 0, self._sums)
        for _ in range(_TRIES):
            if publish(self._folder, self._place, self._path):
                break
            self._room.give(drop(self._folder, self._folder.entry(self._path)))
        else:
            return False
        self._taken = 0
        locks.release(self._pages)
        entry = Entry.open(self._folder.entry(self._path))
        if entry is not None:
            with entry:
                stand(entry, self._folder, Expected(about.length, about.checksum, None))
        return True
