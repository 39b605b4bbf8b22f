"""Caches in folders, over stores that count, for the tests of what they promise."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datalayer.stores.base import Expected, Store
from datalayer.stores.checksum import Crc32c, parse_blocks, parse_checksum
from datalayer.stores.counting import CountingStore, Receipt
from datalayer.stores.memory import MemoryStore
from datalayer.stores.node_cache import NodeCache

if TYPE_CHECKING:
    from datalayer.stores.counting import TierReceipt

MIB = 1 << 20
PAGE = 256 << 10
BLOCK = 4 * MIB


def some_bytes(size: int) -> bytes:
    """Bytes of which no two pages are alike."""
    return os.urandom(size)


def expected_of(data: bytes, *, blocks: bool = True) -> Expected:
    """What a manifest says of a file: with its blocks, or as one that was written before there were any."""
    crc = Crc32c()
    crc.update(data)
    checksum = parse_checksum(crc.text())
    assert checksum is not None
    text = crc.blocks()
    known = parse_blocks(text, len(data)) if text is not None else (checksum,) if data else ()
    return Expected(len(data), checksum, known if blocks else None)


@dataclass
class Copies:
    """A cold store, and a cache in a folder."""

    folder: Path
    budget: int = 10**9
    cold: Store = field(default_factory=MemoryStore)
    files: dict[str, Expected] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.receipt = Receipt()
        self.cache = NodeCache(CountingStore(self.cold, self.receipt), self.receipt, self.folder, budget=self.budget)
        self.view = self.cache.verifying(self.files.get)

    def again(self) -> Copies:
        """Another process's view of the same folder: nothing is shared but the files."""
        return Copies(self.folder, self.budget, self.cold, self.files)

    def commit(self, path: str, data: bytes, *, blocks: bool = True) -> None:
        """Put a file into the cold store, past the cache."""
        with self.cold.writer(path) as writer:
            writer.write(data)
        self.files[path] = expected_of(data, blocks=blocks)

    def resident(self, path: str) -> int:
        return self.cache.resident(path, self.files[path].length)

    @property
    def hot(self) -> TierReceipt:
        return self.receipt.by_tier()["hot"]

    @property
    def fetched(self) -> int:
        """Bytes that came from the cold store."""
        found = self.receipt.by_tier().get(self.cold.tier.value)
        return found.bytes_read if found else 0

    def data_file(self, path: str) -> Path:
        """Where the bytes of the copy lie."""
        return self.cache._folder.entry(path) / "data"

    def change(self, path: str, act: Callable[[int], object]) -> None:
        """Do something to the file with a copy's bytes, sealed or not."""
        file = os.open(self.data_file(path), os.O_RDWR)
        try:
            act(file)
        finally:
            os.close(file)


def on_disk(folder: Path) -> int:
    """Bytes of the disk that a cache's entries take."""
    files = [file.lstat() for name in ("objects", "staging", "trash") for file in (folder / name).rglob("*")]
    return sum(status.st_blocks * 512 for status in files)
