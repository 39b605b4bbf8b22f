"""``RecentBlocks``: the last blocks that were fetched whole for a part of them: the next part is often wanted soon after."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datalayer.stores.alluxio.spans import Span

_BLOCKS = 8
# Enough for a Parquet file's footer and columns; who asks later, asks Alluxio, which may have been told something since.
_SECONDS = 5.0


class RecentBlocks:
    """A few verified blocks. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[str, Span], tuple[float, list[bytes], bool]] = OrderedDict()

    def get(self, path: str, span: Span) -> tuple[list[bytes], bool] | None:
        """Return a block's bytes, if they are here, and whether they are a copy's."""
        with self._lock:
            when, pieces, hot = self._blocks.get((path, span), (0.0, [], False))
            return (pieces, hot) if pieces and time.monotonic() - when < _SECONDS else None

    def keep(self, path: str, span: Span, pieces: list[bytes], *, hot: bool) -> None:
        """Keep a block, and drop the oldest of too many."""
        with self._lock:
            self._blocks[path, span] = (time.monotonic(), pieces, hot)
            self._blocks.move_to_end((path, span))
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)

    def forget(self, path: str) -> None:
        """Drop a file's blocks."""
        with self._lock:
            for key in [key for key in self._blocks if key[0] == path]:
                del self._blocks[key]
