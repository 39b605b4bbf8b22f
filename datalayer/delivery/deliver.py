"""``deliver``: an output's files copied to its destinations. Safe to repeat, and to interrupt anywhere.

The steps: an intent that names every file about to be written; the files, each visible whole or not at all; the list; then what earlier
deliveries of the same output left behind is removed, and the intent with it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from datalayer.commit import wire
from datalayer.delivery.copying import FileCopier
from datalayer.delivery.lists import (
    LISTS,
    PENDING,
    DeliveredFile,
    DeliveryList,
    Found,
    list_path,
    mapped_folder,
    pending_path,
    read_list,
)
from datalayer.errors import (
    AlreadyExistsError,
    CommitConflictError,
    NotFoundError,
    PreconditionFailedError,
    StoreUnavailableError,
    VerificationError,
)
from datalayer.handoff.destinations import check_destination
from datalayer.handoff.inputs import Progress
from datalayer.handoff.report import Delivered
from datalayer.stores.base import Tier
from datalayer.stores.counting import CountingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from datalayer.handoff.destinations import Destination
    from datalayer.layer import DataLayer
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.resolve.resolution import Resolution
    from datalayer.stores.base import Store

# Another delivery of the same output came between: begin again, a bounded number of times.
_MAX_ROUNDS = 4


def deliver(
    layer: DataLayer,
    resolution: Resolution,
    output: str,
    destinations: Iterable[Destination],
    *,
    stream: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> list[Delivered]:
    """Copy one committed output to its destinations and return what became of each.

    Args:
        layer: Knows the destinations' connections.
        resolution: The attempt to deliver; it must still be the task's head.
        output: The output's name.
        destinations: Where to.
        stream: Whether bytes may go through this process. Without, the server copies by itself, or nothing is written.
        progress: Called now and then while bytes are copied.

    Raises:
        ConfigError: A destination cannot be used, or its connection is not configured.
        CommitConflictError: A newer attempt has committed: it delivers, this one must not.
        NotSupportedError: Bytes may not go through this process, and the server cannot copy to one of the destinations.
        StoreError: A destination failed. Each file there is whole; delivering again cleans up.
    """
    source = resolution[output]
    wanted = list(destinations)
    stores = [open_destination(layer, destination, f"outputs.{output}") for destination in wanted]
    deliveries = [
        _Delivery(layer, source, destination, store, progress, stream=stream)
        for destination, store in zip(wanted, stores, strict=True)
    ]
    if not stream:
        for delivery in deliveries:
            delivery.check_server()
    return [delivery.run() for delivery in deliveries]


def open_destination(layer: DataLayer, destination: Destination, path: str) -> Store:
    """Return a store over a destination's folder. Nothing is contacted yet.

    Args:
        layer: Knows the connection.
        destination: The destination.
        path: The field it stands in, for errors.

    Raises:
        ConfigError: The destination cannot be used, or its connection is not configured.
    """
    from datalayer.stores.s3 import S3Store

    check_destination(destination, path)
    connection = layer.connection(destination.data.aws_conn_id)
    return _CountedDestination(S3Store(destination.location, tier=Tier.COLD, connection=connection), layer.receipt)


class _CountedDestination(CountingStore):
    """Counted apart from the tiers."""

    def count(self, verb: str, *, calls: int = 1, read: int = 0, written: int = 0) -> None:
        self._receipt.count("destination", verb, calls=calls, read=read, written=written)


class _Delivery:
    """One output to one destination."""

    def __init__(
        self,
        layer: DataLayer,
        source: ResolvedOutput,
        destination: Destination,
        store: Store,
        progress: Callable[[Progress], None] | None,
        *,
        stream: bool,
    ) -> None:
        self._layer = layer
        self._source = source
        self._destination = destination
        self._store = store
        self._progress = progress
        self._stream = stream
        self._key = source.key.task
        self._base = "".join(f"{part}/" for part in mapped_folder(self._key))
        self._list_path = list_path(self._key, source.key.name)
        self._pending_path = pending_path(self._key, source.key.name)
        self._lock = threading.Lock()
        self._done = 0

    def check_server(self) -> None:
        """Make sure that the server can copy by itself.

        Raises:
            NotSupportedError: It cannot.
        """
        self._copier().check_server()

    def _copier(self) -> FileCopier:
        return FileCopier(self._source, self._store, self._base, self._layer.receipt, self._moved, stream=self._stream)

    def run(self) -> Delivered:
        for name in self._source.files:
            if not self._base and name.split("/", 1)[0] == LISTS:
                raise VerificationError(
                    f"{self._source.key}: the file {name!r} would lie among the delivery lists of {self._store.location()}; rename it"
                )
        for _ in range(_MAX_ROUNDS):
            try:
                return self._round()
            except (AlreadyExistsError, PreconditionFailedError):
                continue
        raise StoreUnavailableError(
            f"{self._store.location(self._list_path)} kept changing: other deliveries of {self._source.key} to the same destination are "
            "under way. Deliver again when they are done",
            tier=self._store.tier,
            location=str(self._store.location(self._list_path)),
        )

    def _round(self) -> Delivered:
        store, files = self._store, self._source.files
        self._refuse_if_superseded()
        old, interrupted = read_list(store, self._list_path), read_list(store, self._pending_path)
        leftovers = self._leftovers(old, interrupted)
        content = DeliveryList(
            version=wire.VERSION,
            key=str(self._key),
            attempt=self._source.resolution.attempt,
            digest=self._source.resolution.digest,
            output=self._source.key.name,
            files=[DeliveredFile(entry.name, entry.length, entry.checksum) for entry in files.values()],
            leftovers=sorted(leftovers),
        )
        intent = self._replace(self._pending_path, wire.encode(content), interrupted)
        copier = self._copier()
        self._done = 0
        copier.copy_all()
        self._refuse_if_superseded()
        self._replace(self._list_path, wire.encode(_without_leftovers(content)), old)
        removed = self._remove(leftovers - files.keys())
        self._remove_intent(intent)
        return Delivered(
            output=self._source.key.name,
            destination=self._destination,
            location=str(store.location(self._base.rstrip("/"))),
            files=len(files),
            bytes=self._source.output.bytes,
            copied_by_server=copier.copied_by_server,
            removed=removed,
        )

    def _leftovers(self, old: Found | None, interrupted: Found | None) -> set[str]:
        """Return the files that earlier deliveries of this output left at the destination."""
        known = {file.name for file in old.content.files} if old else set()
        if interrupted is None:
            return known
        known.update(interrupted.content.leftovers)
        for file in interrupted.content.files:
            # It was only about to be written. What is older than that intent is somebody else's.
            if file.name not in known:
                try:
                    there = self._store.head(self._base + file.name)
                except NotFoundError:
                    continue
                if there.size == file.length and there.modified >= interrupted.modified:
                    known.add(file.name)
        return known

    def _replace(self, path: str, data: bytes, expected: Found | None) -> str:
        """Write a list if what was read is still there; return the new one's version.

        Raises:
            AlreadyExistsError: Another delivery came between.
            PreconditionFailedError: Likewise.
        """
        if expected is None:
            return self._store.put_exclusive(path, data).version
        return self._store.compare_and_put(path, data, expected.version).version

    def _remove(self, names: set[str]) -> int:
        if not names:
            return 0
        mine = {self._base + name for name in names} - self._claimed_by_others(names)
        self._store.delete(sorted(mine))
        return len(mine)

    def _claimed_by_others(self, names: set[str]) -> set[str]:
        """Return what other lists of the same destination name: another task or output may have delivered under a name since."""
        levels = {name.split("/", 1)[0] for name in names if name.startswith("map_index-")}
        relevant = set(mapped_folder(self._key)) or levels
        claimed: set[str] = set()
        for info in self._store.list(LISTS):
            if info.path in {self._list_path, self._pending_path} or info.path.endswith(PENDING):
                continue
            folder = info.path.split("/")[-2]
            is_mapped = info.path.count("/") == 5
            if is_mapped and folder not in relevant:
                continue
            if found := read_list(self._store, info.path):
                base = f"{folder}/" if is_mapped else ""
                claimed.update(base + file.name for file in found.content.files)
        return claimed

    def _remove_intent(self, version: str) -> None:
        try:
            there = self._store.head(self._pending_path)
        except NotFoundError:
            return
        # Another delivery's intent is not ours to remove.
        if there.version == version:
            self._store.delete([self._pending_path])

    def _refuse_if_superseded(self) -> None:
        head, mine = self._layer.resolve(self._key).attempt, self._source.resolution.attempt
        if head != mine:
            raise CommitConflictError(
                f"{self._source.key}: attempt {head} has committed since, so attempt {mine} is not delivered to {self._store.location()}. "
                "Deliver the newer one",
                key=str(self._key),
                attempt=mine,
            )

    def _moved(self, size: int) -> None:
        with self._lock:
            self._done += size
            if self._progress:
                self._progress(Progress("delivery", self._done, self._source.output.bytes))


def _without_leftovers(content: DeliveryList) -> DeliveryList:
    import msgspec

    return msgspec.structs.replace(content, leftovers=[])
