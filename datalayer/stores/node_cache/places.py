"""Making, sealing and removing entries: what happens to them as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from typing import TYPE_CHECKING

from datalayer.stores.checksum import joined
from datalayer.stores.node_cache import locks
from datalayer.stores.node_cache.about import (
    HEADER,
    PAGES_PER_BLOCK,
    RECORD,
    About,
    DamagedError,
    WrongBlockError,
    header_of,
    read_about,
    this_boot,
)
from datalayer.stores.node_cache.entry import Entry, write_all

if TYPE_CHECKING:
    from pathlib import Path

    from datalayer.stores.base import Expected
    from datalayer.stores.node_cache.folder import CacheFolder

_DISK_BLOCK = 4096
_FOLDER_BYTES = _DISK_BLOCK
NEW_ENTRY_BYTES = _FOLDER_BYTES + _DISK_BLOCK
"""Of the disk, for an entry without a page."""

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST})
# Far above the pages, each of which is locked by the byte of its number. Who makes room locks all bytes of an entry that goes.
_HELD = 1 << 41
# Only somebody who makes and removes the same thing at the same time needs another try.
_TRIES = 100


def create(folder: CacheFolder, path: str, expected: Expected) -> bool:
    """Make the entry of a file, with no page in it; False where somebody else just did."""
    about = About(folder.store, path, expected.length, expected.checksum)
    header = header_of(about)
    staged = folder.passing("staging")
    pages, data = new_files(staged)
    try:
        try:
            write_all(pages, [header], 0)
            os.ftruncate(pages, HEADER + RECORD * about.pages)
            os.ftruncate(data, about.length)
        finally:
            os.close(pages)
            os.close(data)
        return publish(folder, staged, path)
    finally:
        # Renamed, it is not there any more.
        shutil.rmtree(staged, ignore_errors=True)


def new_files(staged: Path) -> tuple[int, int]:
    """Make a folder with the two files of an entry, and return their descriptors: pages and data."""
    staged.mkdir(0o700)
    pages = os.open(staged / "pages", _NEW, 0o600)
    try:
        return pages, os.open(staged / "data", _NEW, 0o600)
    except BaseException:  # also an interrupt leaves nothing open
        os.close(pages)
        raise


def publish(folder: CacheFolder, staged: Path, path: str) -> bool:
    """Put a new entry in its place, and say whether that was empty."""
    place = folder.entry(path)
    place.parent.mkdir(0o700, parents=True, exist_ok=True)
    try:
        staged.rename(place)
    except OSError as error:
        # A folder replaces an empty one only.
        if error.errno in _NOT_EMPTY:
            return False
        raise
    return True


def stand(entry: Entry, folder: CacheFolder, expected: Expected | None = None) -> Path | None:
    """Return where a file stands in the tree, if all of it is there; the first time, it is compared with what was committed.

    Raises:
        DamagedError: It is not the file that was committed.
        OSError: The tree cannot hold it.
    """
    about = entry.about
    target = folder.linked(about.path)
    if entry.stands() and entry.is_linked(target):
        return target
    known = [value for value in entry.sums(0, about.pages) if value is not None]
    if len(known) < about.pages:
        return None
    with entry.sealing() as mine:
        if not mine:
            return None
        if entry.stands() and entry.is_linked(target):
            return target
        entry.check_length()
        _compare(about, known, expected)
        if not entry.stands() and (entry.is_sealed or entry.boot != this_boot()):
            # Written to by somebody, or before the machine went down: what the records say is not enough.
            for page, value in enumerate(known):
                entry.read(page, value)
        if not _link(entry, target):
            return None
        entry.seal()
    return target


def drop(folder: CacheFolder, place: Path, entry: Entry | None = None) -> int:
    """Remove the entry in a place, and return how many bytes of the disk that frees. Who has it open reads on.

    Args:
        folder: The cache.
        place: Of the entry.
        entry: Leave it, if it is not this one any more.
    """
    with contextlib.suppress(FileNotFoundError):
        if entry is not None and entry.is_gone():
            return 0
        gone = folder.passing("trash")
        place.rename(gone)
        return remove(folder, gone)
    return 0


def hold(place: Path) -> int | None:
    """Keep the entry in a place from being dropped to make room, as long as the returned descriptor is open; None where there is none."""
    try:
        file = os.open(place / "pages", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if locks.share(file, _HELD):
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat((place / "pages").stat(), os.fstat(file)):
                    kept, file = file, -1
                    return kept
    finally:
        if file >= 0:
            os.close(file)
    return None


def remove(folder: CacheFolder, gone: Path) -> int:
    """Remove what lies in ``trash`` or ``staging``, and return how many bytes of the disk that frees."""
    size = size_of(gone)
    # The name in the tree, too. Who is killed before leaves it to whoever makes room.
    _unlink(folder, gone)
    if gone.is_symlink() or gone.is_file():
        gone.unlink(missing_ok=True)
    else:
        shutil.rmtree(gone, ignore_errors=True)
    return size


def size_of(place: Path) -> int:
    """Return how many bytes of the disk an entry takes."""
    size = _FOLDER_BYTES
    for name in ("pages", "data"):
        with contextlib.suppress(FileNotFoundError):
            size += (place / name).lstat().st_blocks * 512
    return size


def on_disk(size: int) -> int:
    """Return how many bytes of the disk a page, or pages, of ``size`` bytes take."""
    return -(-size // _DISK_BLOCK) * _DISK_BLOCK


def _compare(about: About, sums: list[int], expected: Expected | None) -> None:
    if expected is not None and expected.blocks is not None:
        for block, checksum in enumerate(expected.blocks):
            first = block * PAGES_PER_BLOCK
            if join_sums(about, first, sums[first : first + PAGES_PER_BLOCK]) != checksum:
                raise WrongBlockError(block)
    elif about.checksum is not None and join_sums(about, 0, sums) != about.checksum:
        raise DamagedError("it is not the file that was committed")


def join_sums(about: About, first: int, sums: list[int]) -> int:
    """Return the checksum of pages that follow each other."""
    value = 0
    for page, checksum in enumerate(sums, first):
        value = joined(value, checksum, about.size(page, 1))
    return value


def _link(entry: Entry, target: Path) -> bool:
    """Give an entry's data its name in the tree; False where the entry was dropped meanwhile."""
    for _ in range(_TRIES):
        try:
            entry.link(target)
        except FileExistsError:
            if entry.is_linked(target):
                return True
            target.unlink(missing_ok=True)
        except FileNotFoundError:
            if entry.is_gone():
                return False
            # Whoever drops the last file of a folder removes that as well, perhaps just now.
            with contextlib.suppress(FileNotFoundError):
                target.parent.mkdir(0o700, parents=True, exist_ok=True)
        else:
            return True
    raise OSError(f"{target} is removed as often as it is made")


def _unlink(folder: CacheFolder, place: Path) -> None:
    """Take an entry's data out of the tree, and the folders that are empty then."""
    about = read_about(place / "pages")
    if about is None:
        return
    target = folder.linked(about.path, about.store)
    with contextlib.suppress(OSError):
        if os.path.samestat(target.lstat(), (place / "data").lstat()):
            target.unlink()
            for parent in target.parents:
                if parent == folder.root / "tree":
                    break
                parent.rmdir()
