"""``Entry``: the copy of one file, page by page.

The file ``pages`` has, behind its header, a record of eight bytes for each page: its checksum, and once more so that no other bytes can pass for a
record. A record is written after its page. A process that is killed leaves at most a page without a record; a machine that goes down may leave
a record without its page, which the checksum then shows.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import stat
import time
import weakref
from typing import TYPE_CHECKING

from google_crc32c import value as crc32c

from datalayer.stores.node_cache import locks
from datalayer.stores.node_cache.about import HEADER, PAGE, RECORD, SEAL_AT, DamagedError, parse_header, seal_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_PRESENT = 0x5EA1ED00
# Far above the pages, each of which is locked by the byte of its number.
_SEALING = 1 << 40
_SEALING_SECONDS = 2.0
_MARK_SECONDS = 0.1

_NO_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP})

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry:
    """An entry that is open. What is removed meanwhile stays readable until it is closed."""

    def __init__(self, place: Path, folder: int, pages: int, data: int) -> None:
        self.place = place
        self._folder = folder
        self._pages = pages
        self._data = data
        self._writable = -1
        self.about, self.boot, self._seal = parse_header(os.pread(pages, HEADER, 0))
        status = os.fstat(pages)
        if status.st_size != HEADER + RECORD * self.about.pages:
            raise DamagedError("its records are cut short")
        self._inode = status.st_ino
        self._used = status.st_mtime
        _open.add(self)

    @classmethod
    def open(cls, place: Path) -> Entry | None:
        """Return the entry in a place; None where there is none.

        Raises:
            DamagedError: What is there is no whole entry.
        """
        try:
            folder = os.open(place, _FOLDER)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _NO_FOLDER and os.path.lexists(place):
                raise DamagedError("it is no folder") from error
            raise
        files = [folder]
        try:
            files.append(os.open("pages", _WRITE, dir_fd=folder))
            files.append(os.open("data", _READ, dir_fd=folder))
            return cls(place, *files)
        except BaseException as error:  # also an interrupt leaves nothing open
            missing = isinstance(error, FileNotFoundError)
            dropped = missing and not _is_at(folder, place)
            for file in files:
                os.close(file)
            if dropped:
                return None
            if missing:
                raise DamagedError("a file of it is missing") from error
            raise

    def mark(self) -> Self:
        """Note that the entry is used now: what was not used for longest goes first."""
        if not 0 <= time.time() - self._used < _MARK_SECONDS:
            os.utime(self._pages)
        return self

    def again(self) -> Entry:
        """Return this entry, open once more: it has the same locks, until both are closed."""
        files: list[int] = []
        try:
            files.extend(os.dup(file) for file in (self._folder, self._pages, self._data))
            return Entry(self.place, *files)
        except BaseException:  # also an interrupt leaves nothing open
            for file in files:
                os.close(file)
            raise

    # Pages

    def sums(self, first: int, count: int) -> list[int | None]:
        """Return the checksums of pages; None for each that is not there."""
        raw = os.pread(self._pages, count * RECORD, HEADER + first * RECORD)
        if len(raw) != count * RECORD:
            raise DamagedError("its records are cut short")
        numbers = array.array("I", raw)
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        return [value if value ^ _PRESENT == again else None for value, again in pairs]

    def record(self, first: int, sums: list[int]) -> None:
        """Note that pages are there."""
        write_sums(self._pages, first, sums)

    def read(self, page: int, checksum: int) -> bytes:
        """Return a page.

        Raises:
            DamagedError: It is not the one that was recorded.
        """
        size = self.about.size(page, 1)
        data = os.pread(self._data, size, page * PAGE)
        if len(data) != size:
            raise DamagedError(f"it ends at byte {page * PAGE + len(data)} of {self.about.length}")
        if crc32c(data) != checksum:
            raise DamagedError(f"the bytes from {page * PAGE} on are not the ones that were put there")
        return data

    def read_part(self, start: int, end: int) -> bytes:
        """Return bytes of a file that stands, without looking at their checksum.

        Raises:
            DamagedError: There are fewer.
        """
        data = os.pread(self._data, end - start, start)
        if len(data) != end - start:
            raise DamagedError(f"it ends at byte {start + len(data)} of {self.about.length}")
        return data

    def write(self, first: int, pages: list[bytes]) -> None:
        """Write pages that follow each other; they count once they are recorded.

        Raises:
            FileNotFoundError: Also where the entry was dropped.
        """
        if self._writable < 0:
            self._writable = os.open("data", _WRITE, dir_fd=self._folder)
        write_all(self._writable, pages, first * PAGE)

    # Who fetches which page

    def take(self, first: int, count: int) -> int:
        """Lock as many of the pages as nobody else holds, from the first on, and return how many."""
        while count and not locks.take(self._pages, first, count):
            begin = locks.taken_from(self._pages, first, count)
            # It may have been released since; the next try tells.
            count = count if begin is None else min(count, begin - first)
        return count

    def is_taken(self, page: int) -> bool:
        """Whether somebody else holds a page."""
        return locks.taken_from(self._pages, page) is not None

    def release(self, first: int = 0, count: int = 0) -> None:
        """Give pages back; by default everything."""
        locks.release(self._pages, first, count)

    @contextlib.contextmanager
    def sealing(self) -> Iterator[bool]:
        """Be the one who seals while the block runs; False where somebody else has done so for long. What they did is known then."""
        with locks.held(self._pages, _SEALING, _SEALING_SECONDS) as mine:
            self._seal = parse_header(os.pread(self._pages, HEADER, 0))[2]
            yield mine

    # The data file

    def check_length(self) -> None:
        """Make sure that the data file is as long as the file.

        Raises:
            DamagedError: It is not.
        """
        size = os.fstat(self._data).st_size
        if size != self.about.length:
            raise DamagedError(f"it has {size} bytes instead of {self.about.length}")

    def written_at(self) -> int:
        """Return when data was last written, in nanoseconds."""
        return os.fstat(self._data).st_mtime_ns

    def is_gone(self) -> bool:
        """Whether the entry was dropped since it was opened, or closed."""
        try:
            return (self.place / "pages").lstat().st_ino != self._inode
        except (FileNotFoundError, NotADirectoryError):
            return True

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, as in a process that was forked from the one that had it open."""
        return self._pages < 0

    @property
    def is_sealed(self) -> bool:
        """Whether the data file was ever found right as a whole."""
        return any(self._seal)

    def stands(self) -> bool:
        """Whether the data file was found right as a whole, in this run of the machine, and was not written to since."""
        status = os.fstat(self._data)
        return status.st_size == self.about.length and seal_of(status) == self._seal

    def seal(self) -> None:
        """Note that the data file was found right as a whole, and let nobody write to it."""
        os.fchmod(self._data, stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        # A time in the past, so that a write in this very moment changes it.
        before = time.time_ns() - 1_000_000_000
        os.utime(self._data, ns=(before, before))
        self._seal = seal_of(os.fstat(self._data))
        write_all(self._pages, [self._seal], SEAL_AT)

    def link(self, target: Path) -> None:
        """Give the data file a second name."""
        os.link("data", target, src_dir_fd=self._folder, follow_symlinks=False)

    def is_linked(self, target: Path) -> bool:
        """Whether the data file stands under that name."""
        try:
            return os.path.samestat(target.lstat(), os.fstat(self._data))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def detached(self) -> int:
        """Return a descriptor of the data file that stays open when the entry is closed."""
        return os.dup(self._data)

    def close(self) -> None:
        """Close, and give all locks back. Closing twice is closing once."""
        files = (self._writable, self._data, self._pages, self._folder)
        self._writable = self._data = self._pages = self._folder = -1
        for file in files:
            if file >= 0:
                os.close(file)
        _open.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_sums(pages: int, first: int, sums: list[int]) -> None:
    """Write the records of pages to a file ``pages``."""
    numbers = array.array("I")
    for value in sums:
        numbers.extend((value, value ^ _PRESENT))
    write_all(pages, [numbers.tobytes()], HEADER + first * RECORD)


def write_all(file: int, parts: list[bytes], start: int) -> None:
    """Write all of some bytes, wherever the file stands."""
    done = os.pwritev(file, parts, start)
    whole = sum(map(len, parts))
    if done < whole:  # The disk was nearly full, or there was a signal: the next call tells.
        rest = memoryview(b"".join(parts))
        while done < whole:
            done += os.pwrite(file, rest[done:], start + done)


def _is_at(folder: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(folder), place.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False


_open: weakref.WeakSet[Entry] = weakref.WeakSet()


def _close_all() -> None:
    """A forked child must not keep its parent's locks when the parent ends."""
    for entry in list(_open):
        entry.close()


os.register_at_fork(after_in_child=_close_all)
