"""From what a context asks for to what is there: inputs resolved, once, to the attempts that a job will read."""

from __future__ import annotations

import logging
import re
from itertools import product
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from datalayer.addresses.encoding import decode_component, encode_component
from datalayer.addresses.keys import TaskKey
from datalayer.addresses.runs import LATEST
from datalayer.errors import ConfigError, InvalidKeyError, NotPublishedError, ResolutionError
from datalayer.handoff.context import InputSpec, Pin, TaskContext
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from datalayer.layer import DataLayer
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.resolve.resolution import Resolution

_log = logging.getLogger("datalayer")
_LATEST = re.compile(r"/([^/]+)/([^/]+)/([^/]+)/latest(?:/map_index-(0|[1-9][0-9]{0,9}))?", re.ASCII)


class PinnedInput:
    """One upstream task instance of an input: what was found, and where it goes below the input directory."""

    def __init__(self, alias: str, spec: InputSpec, resolution: Resolution) -> None:
        self.alias = alias
        self.spec = spec
        self.resolution = resolution

    @property
    def folder(self) -> PurePosixPath:
        """``<alias>[/<run>][/<map_index>]``, relative to ``$DATALAYER_IN``. The alias is encoded as ids are in addresses."""
        key = self.resolution.key
        levels = [encode_component(self.alias, "alias")]
        if self.spec.runs is not None:
            levels.append(key.run)
        if self.spec.map_indexes is not None:
            levels.append(str(key.map_index))
        return PurePosixPath(*levels)

    @property
    def outputs(self) -> list[ResolvedOutput]:
        """The outputs that are read, by name.

        Raises:
            ResolutionError: One that was asked for is not there.
        """
        names = sorted(self.resolution) if self.spec.outputs is None else self.spec.outputs
        return [self.resolution[name] for name in names]


def pin_inputs(layer: DataLayer, context: TaskContext) -> list[PinnedInput]:
    """Return every upstream task instance that a job reads, resolved. What is pinned already stays as it is.

    Raises:
        NotPublishedError: An upstream that is not optional has not committed.
        ConfigError: An input names no task, or the same run twice.
        VerificationError: What a pin names is not what is there.
    """
    key = context.task_key
    found = []
    passed_over: dict[str, list[str]] = {}
    for alias, spec in context.inputs.items():
        for resolution in _resolved(layer, key, alias, spec):
            pinned = PinnedInput(alias, spec, resolution)
            # A missing output is an error now, not in the middle of the job.
            for output in pinned.outputs:
                for miss in output.misses:
                    if miss.tier is not Tier.HOT:  # Those are counted where they are met.
                        layer.receipt.miss(miss.tier.value, miss.reason)
                    passed_over.setdefault(str(miss), []).append(str(output.key))
            found.append(pinned)
    for reason, outputs in passed_over.items():
        more = f" and {len(outputs) - 1} more" if len(outputs) > 1 else ""
        _log.warning("input %s%s is read from a slower tier (%s)", outputs[0], more, reason)
    return found


def with_pins(context: TaskContext, pinned: list[PinnedInput]) -> dict[str, InputSpec]:
    """Return a context's inputs with what was found written into them."""
    pins: dict[str, list[Pin]] = {alias: [] for alias in context.inputs}
    for one in pinned:
        tiers = {output.tier.value for output in one.outputs}
        tier = tiers.pop() if len(tiers) == 1 else None
        pins[one.alias].append(Pin(str(one.resolution.key), one.resolution.attempt, one.resolution.digest, tier))
    return {alias: msgspec.structs.replace(spec, pins=pins[alias]) for alias, spec in context.inputs.items()}


def _resolved(layer: DataLayer, key: TaskKey, alias: str, spec: InputSpec) -> list[Resolution]:
    if spec.pins is not None:
        return [layer.resolve(TaskKey.parse(pin.key), attempt=pin.attempt, digest=pin.digest) for pin in spec.pins]
    team, dag_id, task_id, run, own_index = _address(key, alias, spec)
    if spec.map_indexes is not None and own_index is not None:
        raise ConfigError(f"inputs.{alias}: the key names one map index, so map_indexes cannot name others")
    indexes: list[int | None] = [own_index] if spec.map_indexes is None else [*spec.map_indexes]
    runs = [run] if spec.runs is None else spec.runs
    try:
        dated = [_newest(layer, (team, dag_id, task_id), indexes, spec) if one == LATEST else one for one in runs]
        wanted = [
            TaskKey(team, dag_id, task_id, one, index) for one, index in product(dated, indexes) if one is not None
        ]
    except InvalidKeyError as error:
        raise ConfigError(f"inputs.{alias}: {error}") from error
    if len(set(wanted)) < len(wanted):
        raise ConfigError(f"inputs.{alias}: the same run or map index is named twice")
    found = []
    for one in wanted:
        try:
            found.append(layer.resolve(one))
        except NotPublishedError as error:
            if not spec.optional:
                raise NotPublishedError(f"input {alias!r}: {error}", key=error.key, misses=error.misses) from error
    return found


def _address(key: TaskKey, alias: str, spec: InputSpec) -> tuple[str, str, str, str, int | None]:
    """Return the raw parts of an input's address; its run may be ``latest``."""
    if spec.key is None:
        return key.team, key.dag_id, alias, key.run, None
    try:
        if match := _LATEST.fullmatch(spec.key):
            team, dag_id, task_id = (decode_component(part) for part in match.groups()[:3])
            return team, dag_id, task_id, LATEST, None if match[4] is None else int(match[4])
        other = TaskKey.parse(spec.key)
    except InvalidKeyError as error:
        raise ConfigError(f"inputs.{alias}.key: {error}") from error
    return other.team, other.dag_id, other.task_id, other.run, other.map_index


def _newest(layer: DataLayer, task: tuple[str, str, str], indexes: list[int | None], spec: InputSpec) -> str | None:
    """Return the newest dated run of a task for which every wanted map index has committed."""
    try:
        for candidate in layer.runs(*task, indexes[0] if indexes else None):
            keys = [TaskKey(*task, candidate.run, index) for index in indexes]
            if all(_is_committed(layer, one) for one in keys):
                return candidate.run
        return layer.latest(*task, indexes[0]).key.run if indexes else None
    except ResolutionError:
        if spec.optional:
            return None
        raise


def _is_committed(layer: DataLayer, key: TaskKey) -> bool:
    try:
        layer.resolve(key)
    except NotPublishedError:
        return False
    return True
