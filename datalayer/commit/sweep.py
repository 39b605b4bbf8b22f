"""``sweep``: removes what abandoned attempts left behind, and pins in the hot tier whose time is over.

An attempt is abandoned when it has not committed, and the newest of its claim, its sign of life and its staged files is older than the
time to live, by the clock of the store that holds them. It is *fenced* before anything of it is removed: should its job still live, its
commit is refused from then on, so nobody ever sees an output that lost its files. An attempt that has committed, superseded or not, is never
touched, and neither is one that shows a sign of life.

The claims of the first and of the highest attempt stay, because new numbers are counted from them.
"""

from __future__ import annotations

import secrets
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from datalayer.addresses import layout
from datalayer.addresses.encoding import decode_component
from datalayer.addresses.keys import TaskKey
from datalayer.addresses.runs import run_segment
from datalayer.commit.claims import read_claim
from datalayer.commit.log import open_log
from datalayer.commit.publisher import LEASE
from datalayer.errors import ConfigError, DataLayerError, InvalidKeyError, NotFoundError, VerificationError
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datalayer.layer import DataLayer
    from datalayer.stores.base import Store

_PARALLEL = 8
# A volume writes also the smallest file through a temporary one. What is younger than this may be a claim that is being made right now.
_YOUNGEST_UPLOAD = timedelta(minutes=10)
_DELETE_BATCH = 1000
# How far the clocks of two stores may be apart before one seems to be the wrong home for the other.
_SKEW = timedelta(hours=1)
_TASK_LEVELS = 3

REMOVED = "removed"
WOULD_REMOVE = "would remove"
ALIVE = "alive"
FAILED = "failed"


class Swept(NamedTuple):
    """What a sweep found in one place, and did about it."""

    outcome: str
    """``removed``, ``would remove`` (a dry run), ``alive`` (left alone), or ``failed`` (left alone, ``detail`` says why)."""
    address: str
    """The task's address; for unfinished uploads alone, the folder they lie below."""
    attempt: int | None = None
    owner: str | None = None
    """The scheduler's task instance, where the claim names it."""
    files: int = 0
    bytes: int = 0
    uploads: int = 0
    """Unfinished uploads that were aborted."""
    idle: timedelta | None = None
    """Since its last sign of life."""
    detail: str = ""


class _Staged(NamedTuple):
    """What an attempt that may be abandoned has staged."""

    idle: timedelta
    files: int
    bytes: int
    claimed: bool


class _Clocked(NamedTuple):
    store: Store
    now: datetime
    """By the store's own clock, when the sweep began."""


def sweep(
    layer: DataLayer,
    prefix: str = "",
    *,
    older_than: timedelta = LEASE,
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Swept]:
    """Sweep, and yield what was found meanwhile. It may be stopped at any time, run again, and run twice at once.

    Args:
        layer: Its home, and every other configured tier that outputs are written to, are swept.
        prefix: An address or the beginning of one, from ``/team`` to one run. Empty for everything.
        older_than: The time to live. Living attempts show themselves four times in the default one. With less than a quarter of it, one
            that is alive may not have had the time to, and will be refused when it commits.
        dry_run: Remove nothing. Unfinished uploads are not looked for then.
        progress: Called with the address of each run that was looked at.

    Raises:
        InvalidKeyError: The prefix is none.
        StoreError: A store cannot be reached. Once the sweep has begun, failures are yielded instead.
    """
    parts = [part for part in prefix.split("/") if part]
    for part in parts[:_TASK_LEVELS]:
        decode_component(part)
    if len(parts) > _TASK_LEVELS:
        TaskKey.parse("/" + "/".join(parts))
    stores = [_Clocked(store, _clock(store, parts[:1])) for store in _stores(layer)]
    sweeper = _Sweeper(layer.home, stores, older_than, dry_run=dry_run)
    with ThreadPoolExecutor(_PARALLEL, "datalayer-sweep") as pool:
        for task in _below(layer.home, parts[:_TASK_LEVELS], _TASK_LEVELS):
            looked: list[str] = []
            unsure: list[str] = []
            runs = (
                ["/".join(parts)]
                if len(parts) > _TASK_LEVELS
                else _below(layer.home, task.split("/"), _TASK_LEVELS + 1)
            )
            for run, found in _side_by_side(pool, sweeper.sweep_run, runs):
                looked.append(run)
                unsure += [one.address[1:] for one in found if one.outcome != REMOVED]
                yield from found
                if progress:
                    progress(f"/{run}")
            if not dry_run:
                whole = task if len(parts) <= _TASK_LEVELS else looked[0]
                yield from sweeper.reap(whole, looked, unsure)
    if not dry_run and Tier.HOT in layer.design.reads:
        yield from _expire(layer, "/".join(parts))


class _Sweeper:
    def __init__(self, home: Store, stores: list[_Clocked], older_than: timedelta, *, dry_run: bool) -> None:
        self._home = home
        self._stores = stores
        self._older_than = older_than
        self._dry_run = dry_run

    def sweep_run(self, run: str) -> list[Swept]:
        """Sweep a run's folder: its unmapped task instance and its mapped ones. A failure becomes a finding."""
        try:
            names, _ = self._home.children(run)
        except DataLayerError as error:
            return [Swept(FAILED, f"/{run}", detail=str(error))]
        paths = [run] if layout.ATTEMPTS in names else []
        found = []
        for path in paths + [f"{run}/{name}" for name in names if name.startswith("map_index-")]:
            try:
                key = TaskKey.parse(f"/{path}")
            except InvalidKeyError:
                continue  # Not ours.
            try:
                found += self._sweep_key(key)
            except DataLayerError as error:
                found.append(Swept(FAILED, f"/{path}", detail=str(error)))
        return found

    def _sweep_key(self, key: TaskKey) -> list[Swept]:
        numbers = self._numbers(self._home, key)
        committed = open_log(self._home, key).head()
        current = {committed.manifest.attempt} if committed else set()
        if not numbers - current:
            return []
        highest = next((number for number in sorted(numbers, reverse=True) if self._has_claim(key, number)), 0)
        # A folder above every claim was never claimed here. One below may hold what a job still wrote after its attempt had been swept.
        found = []
        for number in sorted(number for number in numbers - current if number <= highest):
            try:
                one = self._sweep_attempt(key, number, keep_claim=number in {1, highest})
            except DataLayerError as error:
                one = Swept(FAILED, str(key), number, detail=str(error))
            if one:
                found.append(one)
        return found

    def _sweep_attempt(self, key: TaskKey, number: int, *, keep_claim: bool) -> Swept | None:
        staged = self._look(key, number)
        if staged is None:
            return None
        abandoned = staged.idle >= self._older_than
        removable = staged.files or (staged.claimed and not keep_claim)
        log = open_log(self._home, key)
        if (abandoned and not removable) or log.attempt(number) is not None:
            return None
        claim = read_claim(self._home, key, number)
        owner = claim.owner if claim else None
        found = Swept(ALIVE, str(key), number, owner, staged.files, staged.bytes, idle=staged.idle)
        if not abandoned:
            return found
        if self._dry_run:
            return found._replace(outcome=WOULD_REMOVE)
        if not log.fence(number):
            return None  # It has committed since.
        return found._replace(outcome=REMOVED, uploads=self._remove(key, number, staged, keep_claim=keep_claim))

    def _look(self, key: TaskKey, number: int) -> _Staged | None:
        """Return what lies in an attempt's folders, or None where nothing does, or the kept head of one that was superseded.

        Raises:
            VerificationError: What lies on another store than the home was not made under the claim.
        """
        folder = layout.attempt_path(key, number)
        files = size = 0
        claimed: datetime | None = None
        idle: timedelta | None = None
        for store, now in self._stores:
            if store is not self._home and claimed is None:
                continue
            for info in store.list(folder):
                if info.path == f"{folder}/{layout.HEAD}":
                    return None
                since = now - info.modified
                idle = since if idle is None else min(idle, since)
                if info.path == f"{folder}/{layout.CLAIM}":
                    claimed = info.modified
                    continue
                files, size = files + 1, size + info.size
                if store is not self._home and claimed and info.modified < claimed - _SKEW:
                    raise VerificationError(
                        f"{store.location(info.path)} is older than the claim of its attempt: is {self._home.location()} the home that it "
                        "was made under? If it is, remove the attempt's folder by hand",
                        key=str(key),
                        attempt=number,
                    )
        return None if idle is None else _Staged(idle, files, size, claimed is not None)

    def _remove(self, key: TaskKey, number: int, staged: _Staged, *, keep_claim: bool) -> int:
        """Remove what lies in a fenced attempt's folders; return how many uploads were aborted."""
        folder = layout.attempt_path(key, number)
        claim = f"{folder}/{layout.CLAIM}"
        uploads = 0
        for store, _ in self._stores:
            if store is not self._home and not staged.claimed:
                continue
            uploads += len(store.reap_uploads(folder, _YOUNGEST_UPLOAD))
            doomed = (info.path for info in store.list(folder) if info.path != claim)
            while batch := list(islice(doomed, _DELETE_BATCH)):
                store.delete(batch)
        if not keep_claim:
            # Last, so that the next sweep takes up one that was cut short.
            self._home.delete([claim])
        return uploads

    def reap(self, whole: str, runs: list[str], unsure: list[str]) -> Iterator[Swept]:
        """Abort uploads begun longer ago than the time to live. Where an attempt lives they stay: its upload may take longer than that."""
        folders = [whole]
        if unsure:
            folders = [run for run in runs if not any(f"{path}/".startswith(f"{run}/") for path in unsure)]
        for store, _ in self._stores:
            for folder in folders:
                try:
                    uploads = len(store.reap_uploads(folder, max(self._older_than, _YOUNGEST_UPLOAD)))
                except DataLayerError as error:
                    yield Swept(FAILED, f"/{folder}", detail=str(error))
                    continue
                if uploads:
                    yield Swept(REMOVED, f"/{folder}", uploads=uploads, detail="unfinished uploads")

    def _has_claim(self, key: TaskKey, number: int) -> bool:
        try:
            self._home.head(f"{layout.attempt_path(key, number)}/{layout.CLAIM}")
        except NotFoundError:
            return False
        return True

    @staticmethod
    def _numbers(store: Store, key: TaskKey) -> set[int]:
        names, _ = store.children(layout.attempts_path(key))
        digits = (name for name in names if name.isascii() and name.isdigit())
        return {int(name) for name in digits if name == str(int(name)) and name != "0"}


def _expire(layer: DataLayer, prefix: str) -> Iterator[Swept]:
    """Take back the pins of the hot tier whose time is over."""
    try:
        for address, lease in layer.hot.expire(prefix):
            yield Swept(
                REMOVED, address, detail=f"a pin in the hot tier, which ended {lease.expires}, for {lease.holder}"
            )
    except DataLayerError as error:
        yield Swept(FAILED, f"/{prefix}", detail=f"pins in the hot tier whose time is over: {error}")


def _stores(layer: DataLayer) -> list[Store]:
    """Return the home, and every other tier that outputs may have been written to. Never a cache: it must not see uncommitted bytes."""
    stores = [layer.home]
    for tier in (Tier.SHARED, Tier.COLD):
        try:
            store = layer.store(tier)
        except ConfigError:
            continue
        if all(store.root != other.root for other in stores):
            stores.append(store)
    return stores


def _clock(store: Store, folder: list[str]) -> datetime:
    """Return what time it is by a store's clock: when it says that a file made now was made."""
    # `~` is in no encoded name, so nobody takes the probe for a team or a DAG.
    probe = "/".join([*folder, f"sweep~{secrets.token_hex(8)}"])
    store.put(probe, b"")
    try:
        return store.head(probe).modified
    finally:
        store.delete([probe])


def _below(home: Store, parts: list[str], depth: int) -> Iterator[str]:
    """Yield the folders of that depth below some parts that may be addresses."""
    if len(parts) >= depth:
        yield "/".join(parts)
        return
    names, _ = home.children("/".join(parts))
    for name in names:
        try:
            run_segment(name) if len(parts) == _TASK_LEVELS else decode_component(name)
        except InvalidKeyError:
            continue
        yield from _below(home, [*parts, name], depth)


def _side_by_side(
    pool: ThreadPoolExecutor, work: Callable[[str], list[Swept]], items: Iterator[str] | list[str]
) -> Iterator[tuple[str, list[Swept]]]:
    """Yield each item with what came of it, in order, holding only a few of them."""
    pending: deque[tuple[str, Future[list[Swept]]]] = deque()
    for item in items:
        pending.append((item, pool.submit(work, item)))
        if len(pending) >= 4 * _PARALLEL:
            done, future = pending.popleft()
            yield done, future.result()
    for done, future in pending:
        yield done, future.result()
