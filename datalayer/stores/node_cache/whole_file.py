"""``WholeFile``: a whole copy, read as the plain file that it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from datalayer.stores.positioned import PositionedFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import WriteableBuffer


class WholeFile(PositionedFile):
    """A file over a copy that was found right as a whole. If it is written to meanwhile, or the disk fails, the pieces are read instead.

    Args:
        file: A descriptor, closed with this file.
        length: Bytes.
        hit: Told how many bytes came from the copy.
        pieces: Gives the bytes of a range, compared.
    """

    def __init__(
        self,
        file: int,
        length: int,
        hit: Callable[[int], None],
        pieces: Callable[[int, int], Iterator[bytes]],
    ) -> None:
        super().__init__(length)
        self._file = file
        self._changed_at = os.fstat(file).st_mtime_ns
        self._hit = hit
        self._otherwise = pieces

    def readinto(self, buffer: WriteableBuffer) -> int:
        start = self._position
        view = memoryview(buffer).cast("B")
        if len(view) > self._size - start:
            view = view[: max(0, self._size - start)]
            if not view:
                return 0
        try:
            got = os.preadv(self._file, [view], start)
            stands = os.fstat(self._file).st_mtime_ns == self._changed_at
        except OSError:
            stands = False
        if stands and got:
            self._hit(got)
            return self.advance(got)
        at = 0
        for piece in self._otherwise(start, start + view.nbytes):
            view[at : at + len(piece)] = piece
            at += len(piece)
        return self.advance(at)

    def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
        super().close()
