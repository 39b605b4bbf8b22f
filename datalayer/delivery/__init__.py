"""Deliveries: copies of a committed output at the destinations that its context names."""

from __future__ import annotations

from datalayer.delivery.deliver import deliver, open_destination

__all__ = ["deliver", "open_destination"]
