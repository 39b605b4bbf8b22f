"""References: data that already lies elsewhere, pinned by version and size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datalayer.commit.manifest import Entry
from datalayer.errors import NotFoundError

if TYPE_CHECKING:
    from datalayer.addresses.location import Location
    from datalayer.stores.base import Store


def pin_location(store: Store, location: Location) -> list[Entry]:
    """Return entries for the object at a location, or for every object below it.

    Args:
        store: A store whose root is the location or lies above it.
        location: What to pin.

    Raises:
        NotFoundError: Nothing lies there.
    """
    path = location.path.removeprefix(store.root.path).lstrip("/")
    if path:
        try:
            info = store.head(path)
        except NotFoundError:
            pass
        else:
            return [Entry(path.rpartition("/")[2], info.size, object=str(location), version=info.version)]
    prefix = f"{path}/" if path else ""
    found = sorted(store.list(path), key=lambda info: info.path)
    if not found:
        raise NotFoundError(f"nothing lies at {location} to refer to", tier=store.tier.value, location=str(location))
    return [
        Entry(info.path.removeprefix(prefix), info.size, object=str(store.location(info.path)), version=info.version)
        for info in found
    ]
