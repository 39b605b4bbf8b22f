"""``PositionedFile``: what the read-only, seekable files of all stores have in common."""

from __future__ import annotations

import io
import os


class PositionedFile(io.RawIOBase):
    """A read-only file of a known size that is read by position. Subclasses read, and move ``_position``.

    Args:
        size: Bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._position = 0

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
