"""``Served``: which store an output is read from, and why faster ones were passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from datalayer.stores.base import Tier  # a tuple's fields are looked up

if TYPE_CHECKING:
    from datalayer.stores.base import Store


class Miss(NamedTuple):
    """Why a faster tier was passed over."""

    tier: Tier
    reason: str

    def __str__(self) -> str:
        return f"{self.tier.value}: {self.reason}"


class Served(NamedTuple):
    """Which store serves an output, and what was passed over on the way to it."""

    store: Store
    folder: str
    """Path of the output's folder in the store."""
    misses: tuple[Miss, ...]
