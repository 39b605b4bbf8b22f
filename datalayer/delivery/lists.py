"""File lists of deliveries: what lies at a destination because of us.

::

    <path>/_delivery/<team>/<dag_id>/<task_id>[/map_index-N]/<output>.json            what was delivered last, written last
    <path>/_delivery/<team>/<dag_id>/<task_id>[/map_index-N]/<output>.pending.json    what a delivery under way is about to write

A list names no run: the next run's delivery of the same output takes the place of this one's. Put the run into the destination's path to
keep them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from datalayer.addresses.encoding import encode_component
from datalayer.addresses.layout import check_file_name
from datalayer.commit import wire
from datalayer.errors import InvalidKeyError, NotFoundError, VerificationError

if TYPE_CHECKING:
    from datetime import datetime

    from datalayer.addresses.keys import TaskKey
    from datalayer.stores.base import Store

LISTS = "_delivery"
PENDING = ".pending.json"


class DeliveredFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file at a destination."""

    name: str
    length: int
    checksum: str | None = None


class DeliveryList(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one delivery put, or is about to put, at a destination. Wire version 1.0."""

    version: str
    key: str
    attempt: int
    digest: str
    output: str
    files: list[DeliveredFile]
    leftovers: list[str] = []
    """In a pending list: files of earlier deliveries, to be removed if they are not delivered again."""


class Found(msgspec.Struct):
    """A list as it was read."""

    content: DeliveryList
    version: str
    """Of the object, to replace exactly this one."""
    modified: datetime
    """By the destination's clock."""


def list_path(key: TaskKey, output: str) -> str:
    """Where an output's list lies below the destination's path."""
    ids = (encode_component(key.team), encode_component(key.dag_id), encode_component(key.task_id))
    return "/".join((LISTS, *ids, *mapped_folder(key), f"{output}.json"))


def pending_path(key: TaskKey, output: str) -> str:
    """Where the list of a delivery under way lies below the destination's path."""
    return list_path(key, output).removesuffix(".json") + PENDING


def mapped_folder(key: TaskKey) -> list[str]:
    """The folder of a mapped task's files below the destination's path, as path components; none for a task that is not mapped."""
    return [] if key.map_index is None else [f"map_index-{key.map_index}"]


def read_list(store: Store, path: str) -> Found | None:
    """Return a list, or None where there is none.

    Raises:
        VerificationError: What is there is no list, or names a file outside the destination.
    """
    try:
        data, info = store.get(path)
    except NotFoundError:
        return None
    where = f"the delivery list {store.location(path)}"
    content = wire.decode(data, DeliveryList, where)
    try:
        for name in (*(file.name for file in content.files), *content.leftovers):
            check_file_name(name)
    except InvalidKeyError as error:
        raise VerificationError(f"{where} names a file outside its destination: {error}") from error
    return Found(content, info.version, info.modified)
