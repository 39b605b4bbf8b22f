"""What an entry's file ``pages`` says before its records: which file the entry is a copy of, and what its data was when it was found right."""

from __future__ import annotations

import os
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from datalayer.stores.checksum import BLOCK

if TYPE_CHECKING:
    from datalayer.stores.base import Expected

PAGE = 256 << 10
"""Bytes that are fetched, checked and recorded together."""
PAGES_PER_BLOCK = BLOCK // PAGE
HEADER = 2048
"""Bytes before the first record."""
RECORD = 8
"""Bytes of the record of a page."""
SEAL_AT = 64
"""Where the seal is."""

_MAGIC = b"dlnode1\n"
# Magic, length, checksum, whether it has one, the boot it was begun in, the store's name, the length of its path.
_HEAD = struct.Struct("<8sQIB3x16s16sH")
# Boot, inode, time of change; and a check of these.
_SEAL = struct.Struct("<16sQqI")
_PATH_AT = 128
_LONGEST_PATH = HEADER - _PATH_AT


class DamagedError(Exception):
    """A copy is not what was recorded of it: it is dropped, and made anew."""


class WrongBlockError(DamagedError):
    """A block is not the one that was committed; which of its pages is wrong, nobody knows.

    Args:
        block: Its number.
    """

    def __init__(self, block: int) -> None:
        super().__init__(f"its block {block} is not the one that was committed")
        self.begin = block * BLOCK
        """Its first byte."""
        self.end = self.begin + BLOCK
        """The byte after its last one, where the file is so long."""

    def overlaps(self, start: int, end: int) -> bool:
        """Whether a byte of it is among those from ``start`` to before ``end``."""
        return max(start, self.begin) < min(end, self.end)


class About(NamedTuple):
    """Which file an entry is a copy of."""

    store: str
    """The name of its store in the tree."""
    path: str
    length: int
    checksum: int | None

    def fits(self, expected: Expected) -> bool:
        """Whether this is the file that was committed."""
        if self.length != expected.length:
            return False
        # What is read without a checksum may come from a copy that has one, not the other way round.
        return expected.checksum is None or self.checksum == expected.checksum

    @property
    def pages(self) -> int:
        """How many pages the file has."""
        return -(-self.length // PAGE)

    def size(self, first: int, count: int) -> int:
        """Return how many bytes some pages have."""
        return min((first + count) * PAGE, self.length) - first * PAGE


def header_of(about: About) -> bytes:
    """Return what the file ``pages`` of a new entry begins with.

    Raises:
        OSError: The path is too long for it.
    """
    path = os.fsencode(about.path)
    if len(path) > _LONGEST_PATH:
        raise OSError(f"a path of {len(path)} bytes is too long for the cache")
    known = about.checksum is not None
    head = _HEAD.pack(_MAGIC, about.length, about.checksum or 0, known, this_boot(), about.store.encode(), len(path))
    return head.ljust(_PATH_AT, b"\0") + path.ljust(_LONGEST_PATH, b"\0")


def parse_header(header: bytes) -> tuple[About, bytes, bytes]:
    """Return which file it is about, the boot that the entry was begun in, and the seal.

    Raises:
        DamagedError: It is no header.
    """
    if len(header) != HEADER or not header.startswith(_MAGIC):
        raise DamagedError("it does not say what it is a copy of")
    _, length, checksum, known, boot, store, size = _HEAD.unpack_from(header)
    path = os.fsdecode(header[_PATH_AT : _PATH_AT + size])
    about = About(store.decode("ascii", "replace"), path, length, checksum if known else None)
    return about, boot, header[SEAL_AT : SEAL_AT + _SEAL.size]


def seal_of(status: os.stat_result) -> bytes:
    """Return what tells a data file from what it was before, or in another run of the machine.

    The time of the inode is no part of it: it changes whenever a job's folder gets or loses its link to the file.
    """
    facts = (this_boot(), status.st_ino, status.st_mtime_ns)
    return _SEAL.pack(*facts, zlib.crc32(_SEAL.pack(*facts, 0)))


def read_about(pages: Path) -> About | None:
    """Return which file an entry is a copy of; None where that cannot be told."""
    try:
        with pages.open("rb", buffering=0) as file:
            return parse_header(file.read(HEADER))[0]
    except (OSError, DamagedError):
        return None


@cache
def this_boot() -> bytes:
    """Return what tells this run of the machine from those before it: what was written then may not have reached the disk."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", ""))
