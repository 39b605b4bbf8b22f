"""The ways in which people write an address on a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datalayer.addresses.keys import DEFAULT_OUTPUT, TaskKey, parse_short
from datalayer.addresses.runs import LATEST
from datalayer.errors import InvalidKeyError, NotFoundError

if TYPE_CHECKING:
    from datalayer.layer import DataLayer
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.resolve.resolution import Resolution
    from datalayer.taskfs.paths import TaskPath

_IDS = 3


def parse_address(text: str) -> TaskPath:
    """Return what an address names, whichever way it is written: short, full, pinned or as a URI, down to a file.

    Raises:
        InvalidKeyError: It is none.
    """
    from datalayer.taskfs.paths import TaskPath, parse_path

    plain = text.removeprefix("task://").strip("/")
    before, at, after = plain.partition("@")
    if at and before.count("/") == _IDS - 1:
        run, _, rest = after.partition("/")
        team, dag_id, task_id, segment, map_index = parse_short(f"{before}@{run}")
        return TaskPath(
            plain, (team, dag_id, task_id), segment, map_index, None, tuple(rest.split("/")) if rest else ()
        )
    return parse_path(plain)


def key_of(text: str) -> TaskKey:
    """Return the key that an address names, for what writes: no attempt, no output, and not ``latest``.

    Raises:
        InvalidKeyError: It names something else.
    """
    asked = parse_address(text)
    if asked.run is None or asked.run == LATEST or asked.attempt is not None or asked.rest:
        raise InvalidKeyError(
            f"{text!r} names no task instance to publish: write team/dag/task@RUN with a date or run_id-…"
        )
    return asked.key


def resolve(layer: DataLayer, text: str) -> tuple[Resolution, TaskPath]:
    """Resolve the task instance that an address names, or lies in.

    Raises:
        InvalidKeyError: It names no task instance.
        NotPublishedError: Nothing is committed there.
    """
    asked = parse_address(text)
    if asked.run is None:
        raise InvalidKeyError(
            f"{text!r} names no run: write team/dag/task@RUN, where RUN is a date, run_id-… or latest. See 'datalayer ls {text}'"
        )
    if asked.run == LATEST:
        team, dag_id, task_id = asked.ids
        return layer.latest(team, dag_id, task_id, asked.map_index), asked
    return layer.resolve(asked.key, attempt=asked.attempt), asked


def pick_output(resolution: Resolution, asked: TaskPath, option: str | None) -> ResolvedOutput:
    """Return the output that is meant: named in the address or by the option, else the only one, else ``default``.

    Raises:
        NotFoundError: It is not clear which, or there is none of that name.
    """
    name = asked.rest[0] if asked.rest else option
    if name is None:
        name = next(iter(resolution)) if len(resolution) == 1 else DEFAULT_OUTPUT
    if name not in resolution:
        known = ", ".join(sorted(resolution))
        raise NotFoundError(f"{resolution.key} has no output {name!r}; it has {known}. Name one with --output")
    return resolution[name]
