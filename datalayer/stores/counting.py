"""``CountingStore`` and ``Receipt``: what a job asked of each tier, and the bytes it moved."""

from __future__ import annotations

import copy
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from datalayer.stores.base import Expected, ObjectInfo, Store, StoreWriter
from datalayer.stores.positioned import PositionedFile
from datalayer.stores.wrapping import WrappingStore

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator, Mapping


class TierReceipt(msgspec.Struct, omit_defaults=True):
    """What was asked of one tier through this library; of engines that read in place by themselves, the bytes of a job's own local Spark."""

    calls: dict[str, int] = {}
    """Store calls by verb. A long transfer is one call and several requests. ``hedge``: requests that were asked a second time."""
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_hit: int = 0
    """Of a tier of copies: what came from copies. The rest of ``bytes_read`` came from the tier beneath, and is counted there too."""
    misses: dict[str, int] = {}
    """Of a tier of copies: how often the tier beneath was asked, by reason."""


class Receipt:
    """Counters by tier. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tiers: defaultdict[str, TierReceipt] = defaultdict(TierReceipt)

    def count(self, tier: str, verb: str, *, calls: int = 1, read: int = 0, written: int = 0) -> None:
        """Add to a tier's counters."""
        with self._lock:
            receipt = self._tiers[tier]
            if calls:
                receipt.calls[verb] = receipt.calls.get(verb, 0) + calls
            receipt.bytes_read += read
            receipt.bytes_written += written

    def hit(self, tier: str, size: int) -> None:
        """Note bytes that came from copies."""
        with self._lock:
            self._tiers[tier].bytes_hit += size

    def miss(self, tier: str, reason: str) -> None:
        """Note that a tier of copies passed a read on, and why."""
        with self._lock:
            misses = self._tiers[tier].misses
            misses[reason] = misses.get(reason, 0) + 1

    def add(self, tiers: Mapping[str, TierReceipt]) -> None:
        """Add what another receipt counted."""
        with self._lock:
            for tier, other in tiers.items():
                mine = self._tiers[tier]
                mine.bytes_read += other.bytes_read
                mine.bytes_written += other.bytes_written
                mine.bytes_hit += other.bytes_hit
                for counts, more in ((mine.calls, other.calls), (mine.misses, other.misses)):
                    for name, count in more.items():
                        counts[name] = counts.get(name, 0) + count

    def since(self, before: Mapping[str, TierReceipt]) -> dict[str, TierReceipt]:
        """Return what was counted after ``by_tier()`` returned ``before``."""
        found = self.by_tier()
        for tier, old in before.items():
            new = found[tier]
            new.bytes_read -= old.bytes_read
            new.bytes_written -= old.bytes_written
            new.bytes_hit -= old.bytes_hit
            new.calls = {verb: more for verb, count in new.calls.items() if (more := count - old.calls.get(verb, 0))}
            new.misses = {why: more for why, count in new.misses.items() if (more := count - old.misses.get(why, 0))}
        return {tier: receipt for tier, receipt in found.items() if receipt != TierReceipt()}

    def by_tier(self) -> dict[str, TierReceipt]:
        """Return a copy of the counters."""
        with self._lock:
            return copy.deepcopy(dict(self._tiers))


class CountingStore(WrappingStore):
    """A store that writes a receipt."""

    def __init__(self, inner: Store, receipt: Receipt) -> None:
        super().__init__(inner)
        self._receipt = receipt
        inner.tell_hedges(lambda: self.count("hedge"))

    def head(self, path: str) -> ObjectInfo:
        self.count("head")
        return self.inner.head(path)

    def get(self, path: str) -> tuple[bytes, ObjectInfo]:
        self.count("get")
        data, info = self.inner.get(path)
        self.count("get", calls=0, read=len(data))
        return data, info

    def get_range(self, path: str, start: int, length: int) -> bytes:
        data = self.inner.get_range(path, start, length)
        self.count("get", read=len(data))
        return data

    def open(self, path: str) -> BinaryIO:
        self.count("open")
        file = self.inner.open(path)
        raw = getattr(file, "raw", None)
        if isinstance(raw, PositionedFile):
            raw.on_read = lambda size: self.count("get", calls=0, read=size)
        return file

    def stream(self, path: str, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        self.count("get")
        for chunk in self.inner.stream(path, chunk_size=chunk_size):
            self.count("get", calls=0, read=len(chunk))
            yield chunk

    def stream_sized(self, path: str, size: int, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        self.count("get")
        for chunk in self.inner.stream_sized(path, size, chunk_size=chunk_size):
            self.count("get", calls=0, read=len(chunk))
            yield chunk

    def stream_range(self, path: str, start: int, end: int, *, piece: int = 8 << 20) -> Iterator[bytes]:
        self.count("get")
        for chunk in self.inner.stream_range(path, start, end, piece=piece):
            self.count("get", calls=0, read=len(chunk))
            yield chunk

    def put(self, path: str, data: bytes) -> ObjectInfo:
        self.count("put", written=len(data))
        return self.inner.put(path, data)

    def put_exclusive(self, path: str, data: bytes) -> ObjectInfo:
        self.count("put", written=len(data))
        return self.inner.put_exclusive(path, data)

    def compare_and_put(self, path: str, data: bytes, version: str) -> ObjectInfo:
        self.count("put", written=len(data))
        return self.inner.compare_and_put(path, data, version)

    def writer(self, path: str) -> StoreWriter:
        self.count("put")
        return _CountingWriter(self.inner.writer(path), self)

    def copy(self, source: str, target: str) -> ObjectInfo:
        self.count("copy")
        return self.inner.copy(source, target)

    def delete(self, paths: Iterable[str]) -> None:
        self.count("delete")
        self.inner.delete(paths)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self.count("list")
        return self.inner.list(prefix)

    def holds_only(self, prefix: str, path: str) -> bool:
        self.count("list")
        return self.inner.holds_only(prefix, path)

    def children(self, prefix: str) -> tuple[builtins.list[str], builtins.list[ObjectInfo]]:
        self.count("list")
        return self.inner.children(prefix)

    def verifying(self, expected: Callable[[str], Expected | None]) -> Store:
        view = self.inner.verifying(expected)
        # A store of copies counts by itself: it knows hits from misses.
        return self if view is self.inner else view

    def count(self, verb: str, *, calls: int = 1, read: int = 0, written: int = 0) -> None:
        """Add to this tier's part of the receipt."""
        self._receipt.count(self.tier.value, verb, calls=calls, read=read, written=written)


class _CountingWriter(StoreWriter):
    def __init__(self, inner: StoreWriter, store: CountingStore) -> None:
        self._inner = inner
        self._store = store

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._store.count("put", calls=0, written=len(data))
        return self._inner.write(data)

    def close(self) -> ObjectInfo:
        return self._inner.close()

    def discard(self) -> None:
        self._inner.discard()
