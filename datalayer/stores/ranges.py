"""``RangeFile``: a read-only file over a range of an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datalayer.stores.positioned import PositionedFile

if TYPE_CHECKING:
    from datalayer.stores.base import Store


class RangeFile(PositionedFile):
    """A seekable view of ``length`` bytes from ``start`` of an object."""

    def __init__(self, store: Store, path: str, start: int, length: int) -> None:
        super().__init__(length)
        self._store = store
        self._path = path
        self._start = start

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # any writable buffer
        size = max(0, min(len(view), self._size - self._position))
        if size:
            view[:size] = self._store.get_range(self._path, self._start + self._position, size)
        return self.advance(size)
