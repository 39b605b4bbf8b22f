"""A hot tier in this process's memory, for what its verbs do with any: it keeps blocks, and fails when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from datetime import datetime

from datalayer import Config, DataLayer, Tier
from datalayer.errors import StoreUnavailableError
from datalayer.stores.base import Expected, Store
from datalayer.stores.counting import CountingStore, Receipt
from datalayer.stores.hot import HotStore
from datalayer.stores.memory import MemoryStore

BLOCK = 1000


class MemoryHot(HotStore):
    """Keeps blocks of 1,000 bytes. ``failing`` makes it down, ``full`` makes it keep nothing more."""

    def __init__(self, cold: Store, receipt: Receipt) -> None:
        super().__init__(cold, receipt)
        self.blocks: dict[tuple[str, int], bytes] = {}
        self.pinned: dict[str, datetime] = {}
        self.evicted: list[str] = []
        self.read_at_once = 0
        self.asked = receipt
        """What it asked of the cold tier."""
        self.failing: str | None = None
        self.full = False
        self._lock = threading.Lock()
        self._reading = 0

    def pieces(self, path: str, expected: Expected, start: int, end: int) -> Iterator[bytes]:
        with self._lock:
            self._reading += 1
            self.read_at_once = max(self.read_at_once, self._reading)
        try:
            for number in range(start // BLOCK, -(-end // BLOCK)):
                at = number * BLOCK
                data = self.blocks.get((path, number))
                if data is None:
                    data = self.cold.get_range(path, at, min(BLOCK, expected.length - at))
                    self.receipt.miss("hot", "the cache is full" if self.full else "no copy yet")
                    if not self.full:
                        self.blocks[path, number] = data
                else:
                    self.receipt.hit("hot", len(data))
                yield data[max(0, start - at) : end - at]
        finally:
            with self._lock:
                self._reading -= 1

    def fetches(self) -> int:
        """How often the cold tier was asked for bytes of files."""
        return self.asked.by_tier()["cold"].calls["get"] if self.asked.by_tier() else 0

    def resident(self, path: str, length: int) -> int:
        return sum(len(data) for (one, _), data in list(self.blocks.items()) if one == path)

    def evict(self, paths: Iterable[str]) -> None:
        gone = set(paths)
        self.evicted += gone
        # In place: another thread may add a block meanwhile.
        for place in [place for place in list(self.blocks) if place[0] in gone]:
            self.blocks.pop(place, None)

    def pin(self, paths: Iterable[str], until: datetime) -> None:
        self._check()
        self.pinned.update(dict.fromkeys(paths, until))

    def unpin(self, paths: Iterable[str]) -> None:
        self._check()
        for path in paths:
            self.pinned.pop(path, None)

    def unavailable(self) -> str | None:
        return self.failing

    def _check(self) -> None:
        if self.failing:
            raise StoreUnavailableError(f"the hot tier: {self.failing}", tier="hot")


def hot_layer(
    budget: int | str = "10MB",
    *,
    stores: dict[Tier, Store] | None = None,
    store: MemoryHot | None = None,
    **settings: object,
) -> DataLayer:
    """A layer of the design ``hot-cold`` in memory; its hot tier is a :class:`MemoryHot`, perhaps another layer's.

    Args:
        budget: Of the hot tier.
        stores: By default one in memory.
        store: The hot tier.
        **settings: Of the configuration.
    """
    document = {"design": "hot-cold", "hot": {"budget": budget, "write_type": "THROUGH"}} | settings
    layer = DataLayer(Config.from_mapping(document), stores=stores or {Tier.COLD: MemoryStore()})
    if store is None:
        receipt = Receipt()
        store = MemoryHot(CountingStore(layer.store(Tier.COLD), receipt), layer.receipt)
        store.asked = receipt
    layer._hot = store
    return layer


def memory_hot(layer: DataLayer) -> MemoryHot:
    """The layer's hot tier."""
    assert isinstance(layer._hot, MemoryHot)
    return layer._hot
