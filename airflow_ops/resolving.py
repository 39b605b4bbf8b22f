"""What references stand for in one run: the task instances that are read, found and pinned."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ops.inputs import Declared, is_own_run
from airflow_ops.reading import is_mapped, map_indexes_of, taking_part
from datalayer.addresses.encoding import decode_component
from datalayer.addresses.keys import TaskKey
from datalayer.addresses.runs import LATEST, run_from_person
from datalayer.errors import ConfigError, InvalidKeyError, NotPublishedError
from datalayer.handoff.context import InputSpec, Pin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from airflow_ops.references import OutputReference
    from datalayer.layer import DataLayer
    from datalayer.resolve.resolution import Resolution

_log = logging.getLogger("airflow_ops")
_MAP_INDEX = "map_index-"


class Found(NamedTuple):
    """One input, resolved."""

    resolutions: list[Resolution]
    by_run: bool
    """Whether each run goes into a folder of its own."""
    by_index: bool
    """Whether each map index does."""


def resolve_inputs(
    declared: Declared, key: TaskKey, layer: DataLayer, context: Context, pins: dict[str, InputSpec]
) -> dict[str, InputSpec]:
    """Return a task's inputs, each pinned to the attempts that will be read.

    Args:
        declared: What the task reads.
        key: The task.
        layer: Where to look.
        context: Airflow's context of the running task: it knows which map indexes an upstream task has.
        pins: Inputs that were found before; they stay as they are.

    Raises:
        ConfigError: A reference cannot be used, like the same logical date for a run that has none.
        NotPublishedError: An upstream has not committed; ``retryable`` says whether it still may.
    """
    specs = dict(pins)
    for alias, reference in declared.inputs.items():
        if alias in specs:
            continue
        try:
            found = _Finder(reference, key, layer, context).find()
        except InvalidKeyError as error:
            raise ConfigError(f"inputs.{alias}: {error}") from error
        except ConfigError as error:
            raise ConfigError(f"inputs.{alias}: {error}") from error
        except NotPublishedError as error:
            missing = NotPublishedError(f"input {alias!r}: {error}", key=error.key, misses=error.misses)
            # In its own run the upstream has ended before this task began; one of another DAG may still come.
            missing.retryable = not is_own_run(reference, key.dag_id)
            raise missing from error
        specs[alias] = _spec(reference, found)
    return {alias: specs[alias] for alias in declared.inputs}


def missing_of(references: Iterable[OutputReference], key: TaskKey, layer: DataLayer, context: Context) -> str | None:
    """Return what has not committed of the outputs that a task waits for, in a person's words; None once all of it has.

    Args:
        references: What it waits for. ``last=N`` means that there are N runs; ``optional`` means nothing here.
        key: The task that waits.
        layer: Where to look.
        context: Airflow's context; of it only ``ti`` is used.

    Raises:
        ConfigError: A reference cannot be used.
    """
    for reference in references:
        try:
            found = _Finder(replace(reference, optional=False), key, layer, context).find()
        except InvalidKeyError as error:
            raise ConfigError(f"{reference}: {error}") from error
        except NotPublishedError as error:
            return str(error)
        runs = len({one.key.run for one in found.resolutions})
        if reference.last is not None and runs < reference.last:
            return f"{reference}: {runs} of {reference.last} runs have committed"
        for name in reference.outputs or ():
            for one in found.resolutions:
                _ = one[name]
    return None


def _spec(reference: OutputReference, found: Found) -> InputSpec:
    keys = [one.key for one in found.resolutions]
    indexes = sorted({one.map_index for one in keys if one.map_index is not None})
    return InputSpec(
        key=str(keys[0]) if keys else None,
        runs=list(dict.fromkeys(one.run for one in keys)) if found.by_run else None,
        map_indexes=indexes if found.by_index else None,
        outputs=None if reference.outputs is None else list(reference.outputs),
        optional=reference.optional,
        access=reference.access,
        pins=[Pin(str(one.key), one.attempt, one.digest) for one in found.resolutions],
    )


class _Finder:
    """One reference, as one task instance means it."""

    def __init__(self, reference: OutputReference, key: TaskKey, layer: DataLayer, context: Context) -> None:
        self._reference = reference
        self._own = key
        self._layer = layer
        self._context: Any = context
        self._task = (reference.team or key.team, reference.dag_id or key.dag_id, reference.task_id)

    def find(self) -> Found:
        """Return what the reference stands for.

        Raises:
            NotPublishedError: It is not there, and not optional.
        """
        reference = self._reference
        if reference.key is not None:
            return self._address(reference.key)
        if reference.last is not None or reference.latest:
            return self._newest()
        if reference.runs is not None:
            parts = [self._run(run_from_person(one)) for one in reference.runs]
            return Found(
                [one for part in parts for one in part.resolutions], True, any(part.by_index for part in parts)
            )
        if is_own_run(reference, self._own.dag_id):
            return self._in_own_run()
        if reference.run is None and self._own.logical_date is None:
            raise ConfigError(
                f"{reference} means the run of the same logical date, and this run ({self._own.run}) has none. Say which one is read: "
                "run=, last= or latest=True"
            )
        return self._run(self._own.run if reference.run is None else run_from_person(reference.run))

    def _address(self, text: str) -> Found:
        parts = text.split("/")
        if len(parts) == 5 and parts[-1] == LATEST:
            team, dag_id, task_id = map(decode_component, parts[1:4])
            self._task = (team, dag_id, task_id)
            self._reference = replace(self._reference, latest=True)
            return self._newest()
        key = TaskKey.parse(text)
        self._task = (key.team, key.dag_id, key.task_id)
        runs = None if self._reference.runs is None else [run_from_person(one) for one in self._reference.runs]
        if key.map_index is not None:
            return Found(
                self._committed([TaskKey(*self._task, run, key.map_index) for run in runs or [key.run]]),
                runs is not None,
                False,
            )
        each = [self._run(run) for run in runs or [key.run]]
        found = [one for part in each for one in part.resolutions]
        return Found(found, runs is not None, any(part.by_index for part in each))

    def _in_own_run(self) -> Found:
        """Return the upstream of this very run: Airflow knows whether it is mapped, and into how many."""
        dag = self._context["dag"]
        upstream = dag.get_task(self._reference.task_id)
        group = upstream.get_closest_mapped_task_group()
        reader = dag.get_task(self._own.task_id)
        if self._reference.map_indexes is not None:
            return self._indexes(self._own.run, self._reference.map_indexes)
        if group is not None and group is reader.get_closest_mapped_task_group() and self._own.map_index is not None:
            return Found(self._committed([TaskKey(*self._task, self._own.run, self._own.map_index)]), False, False)
        if is_mapped(upstream):
            return self._indexes(self._own.run, map_indexes_of(self._reference.task_id, self._context))
        return Found(self._committed([TaskKey(*self._task, self._own.run)]), False, False)

    def _run(self, run: str) -> Found:
        """Return one run of a task whose DAG is not at hand: not mapped, or else all indexes that Airflow or the store know."""
        if self._reference.map_indexes is not None:
            return self._indexes(run, self._reference.map_indexes)
        key = TaskKey(*self._task, run)
        try:
            return Found([self._layer.resolve(key)], False, False)
        except NotPublishedError:
            indexes = self._known_indexes(key)
            if indexes:
                return self._indexes(run, indexes)
            if self._reference.optional:
                return Found([], False, False)
            raise

    def _known_indexes(self, key: TaskKey) -> list[int]:
        stored = self._stored_indexes(key)
        if not stored or key.logical_date is None:
            return stored
        # An index that has not begun is nowhere in the store. Where this Airflow runs that DAG too, it knows of all.
        states = self._context["ti"].get_task_states(
            dag_id=key.dag_id, task_ids=[key.task_id], logical_dates=[key.logical_date]
        )
        known = [index for run in states.values() for index in taking_part(key.task_id, run)]
        return sorted(set(known)) or stored

    def _stored_indexes(self, key: TaskKey) -> list[int]:
        folders, _ = self._layer.home.children(key.path)
        names = (name.removeprefix(_MAP_INDEX) for name in folders if name.startswith(_MAP_INDEX))
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _indexes(self, run: str, indexes: Any) -> Found:
        return Found(self._committed([TaskKey(*self._task, run, index) for index in indexes]), False, True)

    def _newest(self) -> Found:
        """Return the newest runs that have committed: one whatever its date, or several that are not later than the reader's own."""
        count = self._reference.last or 1
        limit = None if self._reference.latest else self._own.logical_date
        parts: list[Found] = []
        for candidate in self._layer.runs(*self._task):
            date = candidate.logical_date
            if limit is not None and date is not None and date > limit:
                continue
            if part := self._whole(candidate):
                parts.append(part)
            if len(parts) == count:
                break
        if not parts and not self._reference.optional:
            bound = f" until {limit.isoformat()}" if limit else ""
            raise NotPublishedError(
                f"{self._reference}: no dated run{bound} has committed below {self._layer.home.location()}. Runs without a logical date "
                "are found by their run id only",
                key="/" + "/".join(self._task),
            )
        if 0 < len(parts) < count:
            _log.warning("%s: only %d runs have committed", self._reference, len(parts))
        found = [one for part in parts for one in part.resolutions]
        return Found(found, not self._reference.latest, any(part.by_index for part in parts))

    def _whole(self, key: TaskKey) -> Found | None:
        """Return a run if all of it has committed."""
        try:
            found = self._run(key.run)
        except NotPublishedError:
            return None
        whole = self._reference.map_indexes is None or len(found.resolutions) == len(self._reference.map_indexes)
        return found if found.resolutions and whole else None

    def _committed(self, keys: list[TaskKey]) -> list[Resolution]:
        found = []
        for key in keys:
            try:
                found.append(self._layer.resolve(key))
            except NotPublishedError:
                if not self._reference.optional:
                    raise
        return found
