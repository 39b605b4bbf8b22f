"""``RangeFile``: a read-only file over a range of an object."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datalayer.stores.base import Store


class RangeFile(io.RawIOBase):
    """A seekable view of ``length`` bytes from ``start`` of an object."""

    def __init__(self, store: Store, path: str, start: int, length: int) -> None:
        super().__init__()
        self._store = store
        self._path = path
        self._start = start
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise ValueError("seek before the beginning of the file")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # any writable buffer
        size = max(0, min(len(view), self._length - self._position))
        if size:
            view[:size] = self._store.get_range(self._path, self._start + self._position, size)
            self._position += size
        return size
