"""``PositionedFile``: what the read-only, seekable files of all stores have in common."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class PositionedFile(io.RawIOBase):
    """A read-only file of a known size that is read by position. Subclasses read, and call :meth:`advance`.

    Args:
        size: Bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._position = 0
        self.on_read: Callable[[int], None] | None = None
        """Told how many bytes each read brought."""

    def advance(self, size: int) -> int:
        """Note that ``size`` bytes were read from where the file stands, and return that number."""
        self._position += size
        if self.on_read:
            self.on_read(size)
        return size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        target = offset + (0, self._position, self._size)[whence]
        if target < 0:
            raise ValueError(f"negative position {target}")
        self._position = target
        return target
