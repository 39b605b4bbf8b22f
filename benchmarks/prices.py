"""``Prices``: what requests, bytes and hours cost, from a table that the user can edit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

_OURS = Path(__file__).parent / "prices.toml"
_GB = 1e9
_WRITES = frozenset({"PUT", "COPY", "POST", "LIST"})


class S3Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object store's prices in dollars."""

    get_per_1000: float
    put_per_1000: float
    delete_per_1000: float
    storage_gb_month: float
    transfer_gb: float = 0.0

    def requests(self, counts: Mapping[str, float]) -> float:
        """Return what requests cost, by kind as the front counts them. A kind without a price of its own costs what a GET does."""
        return sum(self._each(kind) * count for kind, count in counts.items())

    def transfer(self, size: float) -> float:
        """Return what it costs to bring bytes to their reader."""
        return size / _GB * self.transfer_gb

    def _each(self, kind: str) -> float:
        if kind == "DELETE":
            return self.delete_per_1000 / 1000
        return (self.put_per_1000 if kind in _WRITES else self.get_per_1000) / 1000


class VolumePrices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A shared volume's prices in dollars."""

    read_gb: float
    write_gb: float
    storage_gb_month: float

    def moved(self, *, read: float = 0.0, written: float = 0.0) -> float:
        """Return what it costs to read and write so many bytes."""
        return read / _GB * self.read_gb + written / _GB * self.write_gb


class NodePrices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of a machine in dollars."""

    hour: float
    memory_gb: float

    def hours(self, seconds: float, nodes: float = 1.0) -> float:
        """Return what so many machines cost for so long."""
        return self.hour * nodes * seconds / 3600


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All prices, and of when and where they are."""

    as_of: str
    region: str
    s3: S3Prices
    efs: VolumePrices
    node: NodePrices

    def __str__(self) -> str:
        return f"list prices of {self.region}, {self.as_of}"


def prices(path: Path | None = None) -> Prices:
    """Return the prices from a TOML file, by default ``benchmarks/prices.toml``.

    Raises:
        ValueError: The file is no price table, or has a name that means nothing.
    """
    file = path or _OURS
    try:
        return msgspec.toml.decode(file.read_bytes(), type=Prices)
    except msgspec.DecodeError as error:
        raise ValueError(f"{file} is no price table: {error}") from error
