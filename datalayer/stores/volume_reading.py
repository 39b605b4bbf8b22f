"""Reading files of a volume: stale handles are opened anew, and bytes that end too soon are an error."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, TypeVar

from datalayer.errors import StoreError, VerificationError
from datalayer.stores.positioned import PositionedFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

    from datalayer.addresses.location import Location
    from datalayer.stores.base import ObjectInfo

_T = TypeVar("_T")
_TRIES = 4


def reopening(operation: Callable[[], _T]) -> _T:
    """Run an operation that opens what it works on; again, a few times, while the volume's server says that its handle is stale.

    A network file system gives ``ESTALE`` when what it remembers of a path is out of date; opening anew looks the path up again.
    """
    try:
        return operation()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    # Imported here because it costs more than most processes' whole use of a volume.
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    stale = retry_if_exception(lambda error: isinstance(error, OSError) and error.errno == errno.ESTALE)
    return Retrying(
        retry=stale,
        stop=stop_after_attempt(_TRIES - 1),
        wait=wait_random_exponential(multiplier=0.02, max=0.5),
        reraise=True,
    )(operation)


def read_exactly(file: int, start: int, length: int, location: Location) -> bytes:
    """Return ``length`` bytes of an open file from ``start``.

    Raises:
        VerificationError: The file ends before.
    """
    data = os.pread(file, length, start)
    if len(data) == length:
        return data
    # One call gives at most 2 GiB, and less after a signal.
    parts = [data]
    got = len(data)
    while got < length:
        data = os.pread(file, length - got, start + got)
        if not data:
            raise VerificationError(
                f"{location} ends at byte {start + got}, before byte {start + length} that was asked for"
            )
        parts.append(data)
        got += len(data)
    return b"".join(parts)


class VolumeFile(PositionedFile):
    """A file of a volume, read by position.

    Args:
        opening: Opens the file and returns its descriptor and info.
        failing: Maps an error of the operating system.
    """

    def __init__(self, opening: Callable[[], tuple[int, ObjectInfo]], failing: Callable[[OSError], Exception]) -> None:
        # Before anything can fail: closing an object that was never opened must find it so.
        self._file = -1
        self._opening = opening
        self._failing = failing
        self._file, self._info = opening()
        super().__init__(self._info.size)

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        if not view.nbytes or self._position >= self._size:
            return 0
        view = view[: self._size - self._position]
        try:
            got = reopening(lambda: self._read(view))
        except StoreError:
            raise
        except OSError as error:
            raise self._failing(error) from error
        if not got:
            raise VerificationError(
                f"{self._info.path} ends at byte {self._position}, before its size of {self._size} bytes when it was opened"
            )
        return self.advance(got)

    def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
        super().close()

    def _read(self, view: memoryview) -> int:
        try:
            return os.preadv(self._file, [view], self._position)
        except OSError as error:
            if error.errno == errno.ESTALE:
                self._reopen()
            raise

    def _reopen(self) -> None:
        file, info = self._opening()
        if info.version != self._info.version:
            os.close(file)
            raise VerificationError(f"{self._info.path} was replaced while it was being read")
        os.close(self._file)
        self._file = file
