"""``Resolver``: which attempt of a task is committed, and which tier can serve it.

A resolve is one request, for the head. Nothing lists on this path; ``latest`` is the exception, and its result is pinned.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from datalayer.addresses import layout
from datalayer.addresses.encoding import encode_component
from datalayer.addresses.keys import TaskKey
from datalayer.addresses.location import Location
from datalayer.addresses.runs import run_date
from datalayer.commit.log import Committed, open_log
from datalayer.commit.manifest import FILES, REFERENCE, Output
from datalayer.errors import ConfigError, InvalidKeyError, NotPublishedError, ResolutionError, VerificationError
from datalayer.resolve.resolution import Resolution
from datalayer.resolve.serving import Miss, Served
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Callable

    import fsspec

    from datalayer.resolve.remembered import RememberedManifests
    from datalayer.stores.base import Store

_MAX_PINNED = 4096
_TIERS = frozenset(tier.value for tier in Tier)


class Resolver:
    """Finds committed attempts, and serves each output from the fastest tier that has it."""

    def __init__(
        self,
        home: Store,
        reads: tuple[Tier, ...],
        store: Callable[[Tier], Store],
        reference_store: Callable[[Location], Store],
        filesystem: Callable[[], fsspec.AbstractFileSystem],
        remembered: RememberedManifests | None = None,
    ) -> None:
        self._home = home
        self._reads = reads
        self._store = store
        self._reference_store = reference_store
        self._filesystem = filesystem
        self._remembered = remembered
        self._pinned: OrderedDict[tuple[TaskKey, int], Resolution] = OrderedDict()

    def resolve(self, key: TaskKey, *, attempt: int | None = None, digest: str | None = None) -> Resolution:
        """Return the committed attempt of a task.

        Args:
            key: The task.
            attempt: Pin: this attempt and no other, head or not. Only pinned resolves are ever answered from memory.
            digest: Pin: the manifest must have this digest.

        Raises:
            NotPublishedError: Nothing is committed there, or not this attempt.
            VerificationError: The manifest is not valid, or not the pinned one.
        """
        if attempt is None:
            committed = open_log(self._home, key).head()
            if committed is None:
                raise NotPublishedError(
                    self._nothing(key), key=str(key), misses=[Miss(self._home.tier, "no attempt has committed there")]
                )
            return self._remember(key, committed, digest)
        pinned = self._pinned.get((key, attempt))
        if pinned is None:
            found = self._remembered.load(key, attempt) if self._remembered else None
            if found is None:
                found = open_log(self._home, key).attempt(attempt)
                if found is None:
                    message = (
                        f"attempt {attempt} of {key} has not committed, or its manifest is gone from "
                        f"{self._home.location()}. Resolve without a pin for the current one"
                    )
                    raise NotPublishedError(
                        message,
                        key=str(key),
                        misses=[Miss(self._home.tier, f"attempt {attempt} is not committed there")],
                    )
                if self._remembered:
                    self._remembered.save(key, found)
            return self._remember(key, found, digest)
        if digest is not None:
            self._check_digest(key, pinned.digest, digest)
        return pinned

    def known(self, key: TaskKey, committed: Committed) -> Resolution:
        """Return the resolution of an attempt that this process has just committed: no request."""
        return self._remember(key, committed, None)

    def latest(self, team: str, dag_id: str, task_id: str, map_index: int | None = None) -> Resolution:
        """Return the newest committed run of a task by logical date. Runs without a logical date have no place in that order.

        Raises:
            NotPublishedError: No dated run has committed.
        """
        folder = "/".join(
            encode_component(text, what) for text, what in ((team, "team"), (dag_id, "dag_id"), (task_id, "task_id"))
        )
        for key in self.runs(team, dag_id, task_id, map_index):
            committed = open_log(self._home, key).head()
            if committed is not None:
                return self._remember(key, committed, None)
        message = (
            f"/{folder}@latest: no dated run of this task has committed below {self._home.location()}. "
            "Runs without a logical date are found by their run id only"
        )
        raise NotPublishedError(
            message, key=f"/{folder}@latest", misses=[Miss(self._home.tier, "no dated run has committed there")]
        )

    def runs(self, team: str, dag_id: str, task_id: str, map_index: int | None = None) -> list[TaskKey]:
        """Return the keys of a task's dated runs, newest first, committed or not."""
        folder = "/".join(
            encode_component(text, what) for text, what in ((team, "team"), (dag_id, "dag_id"), (task_id, "task_id"))
        )
        names, _ = self._home.children(folder)
        dated = []
        for name in names:
            try:
                date = run_date(name)
                key = TaskKey(team, dag_id, task_id, name, map_index)
            except (InvalidKeyError, ValueError):
                continue  # A folder that is no run of ours.
            if date is not None:
                dated.append((date, key))
        return [key for _, key in sorted(dated, key=lambda pair: pair[0], reverse=True)]

    def _remember(self, key: TaskKey, committed: Committed, digest: str | None) -> Resolution:
        if digest is not None:
            self._check_digest(key, committed.digest, digest)
        pin = (key, committed.manifest.attempt)
        there = self._pinned.get(pin)
        if there is not None and there.document == committed.raw:
            return there
        resolution = Resolution(
            key,
            committed,
            self._home,
            lambda name, output: self._serve(key, committed.manifest.attempt, name, output),
            self._filesystem,
        )
        self._pinned[pin] = resolution
        if len(self._pinned) > _MAX_PINNED:
            self._pinned.popitem(last=False)
        return resolution

    def _check_digest(self, key: TaskKey, found: str, expected: str) -> None:
        if found != expected:
            raise VerificationError(
                f"the manifest of {key} is not the pinned one: expected {expected}, found {found}. Was the root emptied and used again?",
                key=str(key),
            )

    def _serve(self, key: TaskKey, attempt: int, name: str, output: Output) -> Served:
        if output.kind == REFERENCE:
            if output.location is None:
                raise VerificationError(f"{key}, output {name!r}: the reference names no location", key=str(key))
            return Served(self._reference_store(Location.parse(output.location)), "", ())
        if output.kind != FILES or output.tier not in _TIERS:
            what = f"kind {output.kind!r}" if output.kind != FILES else f"tier {output.tier!r}"
            raise ResolutionError(
                f"output {name!r} of {key} is of the {what}, which this library does not know. Upgrade datalayer-tasks here",
                key=str(key),
            )
        data = Tier(output.tier)
        folder = layout.output_path(key, attempt, name)
        misses: list[Miss] = []
        for tier in dict.fromkeys((*self._reads, data)):
            if tier is Tier.HOT and data is Tier.COLD:
                hot = self._store(tier)
                reason = hot.unavailable()
                if reason is None:
                    return Served(hot, folder, tuple(misses))
                misses.append(Miss(tier, reason))
                _count_miss(hot)
                continue
            if tier is not data:
                misses.append(Miss(tier, f"the output was written to {data.value} and is not copied there"))
                continue
            try:
                store = self._store(tier)
            except ConfigError as error:
                misses.append(Miss(tier, str(error)))
                continue
            local = store.local_path("")
            if local is not None and not local.is_dir():
                misses.append(Miss(tier, f"{store.root} is not mounted here"))
                continue
            return Served(store, folder, tuple(misses))
        reasons = "; ".join(map(str, misses))
        raise ResolutionError(
            f"no tier can serve output {name!r} of {key}: {reasons}. Configure or mount one of them",
            key=str(key),
            misses=misses,
        )

    def _nothing(self, key: TaskKey) -> str:
        return (
            f"{key} has not been published: no attempt has committed at {self._home.location(key.path)} ({self._home.tier.value}). "
            "Run the upstream task, or check team, DAG, task and run"
        )


def _count_miss(hot: Store) -> None:
    from datalayer.stores.hot import HotStore  # Most deployments have none.

    if isinstance(hot, HotStore):
        hot.receipt.miss(hot.tier.value, "unavailable")
