"""Paths of the ``task://`` file system, read into their parts.

::

    team/dag_id/task_id/run[/map_index-N][@attempt]/output/file…

``latest`` in the run's place is the newest committed dated run. A path without ``@attempt`` means the attempt that is committed now. Names
that a listing gives must lie below the path that was listed, and must mean the same attempt later, so they carry their pin as a component
of its own: what was listed as ``…/latest/default`` is named ``…/latest/default/20130101T000000Z@3/part-0.parquet``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from datalayer.addresses.encoding import decode_component
from datalayer.addresses.keys import TaskKey
from datalayer.addresses.runs import LATEST, run_date, run_segment
from datalayer.errors import InvalidKeyError

_LEVELS = ("team", "dag_id", "task_id")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_MAPPED = re.compile(r"map_index-(?P<index>0|[1-9][0-9]{0,9})(?:@(?P<attempt>[1-9][0-9]{0,17}))?", re.ASCII)


class TaskPath(NamedTuple):
    """A path's parts."""

    text: str
    """As it was asked, without protocol and outer slashes."""
    ids: tuple[str, ...]
    """Team, DAG and task, decoded; fewer for a path above a task."""
    run: str | None = None
    """The run's segment, or ``latest``; None for a path above a run."""
    map_index: int | None = None
    attempt: int | None = None
    """The attempt that the path is pinned to."""
    rest: tuple[str, ...] = ()
    """What follows: the output's name, and the components of a file's."""

    @property
    def key(self) -> TaskKey:
        """The task whose output the path names. Only for paths at or below a run that is not ``latest``."""
        team, dag_id, task_id = self.ids
        return TaskKey(team, dag_id, task_id, self.run or "", self.map_index)

    def pinned(self, run: str, attempt: int) -> str:
        """Return a path below which every name means this attempt: the path itself where it is pinned already."""
        return self.text if self.attempt is not None else f"{self.text}/{run}@{attempt}"

    def pinned_file(self, run: str, attempt: int) -> str:
        """Return a file's path with the pin before its last component."""
        if self.attempt is not None:
            return self.text
        folder, _, name = self.text.rpartition("/")
        return f"{folder}/{run}@{attempt}/{name}"


def parse_path(text: str) -> TaskPath:
    """Return the parts of a path.

    Raises:
        InvalidKeyError: A component cannot be what its place says.
    """
    parts = text.split("/") if text else []
    if len(parts) >= len(_LEVELS) and "@" in parts[2]:
        raise InvalidKeyError(
            f"task://{text}: the short form TASK@RUN has no place in a URI: write task://team/dag/task/RUN/output, where RUN is latest or "
            "as 'datalayer ls' prints it, such as 20130101T000000Z"
        )
    ids = tuple(decode_component(part, what) for part, what in zip(parts, _LEVELS, strict=False))
    if len(parts) <= len(_LEVELS):
        return TaskPath(text, ids)
    run, at, number = parts[3].partition("@")
    rest = parts[4:]
    attempt = map_index = None
    if at:
        if run == LATEST or not _ATTEMPT.fullmatch(number):
            raise InvalidKeyError(
                f"{parts[3]!r} in task://{text} is no run: write RUN, RUN@ATTEMPT with a number from 1, or latest"
            )
        attempt = int(number)
    elif rest and (match := _MAPPED.fullmatch(rest[0])):
        map_index = int(match["index"])
        attempt = int(match["attempt"]) if match["attempt"] else None
        rest = rest[1:]
    if run != LATEST:
        run_segment(run)
    if attempt is None:
        for place, component in enumerate(rest):
            if pin := _pin(component, run):
                run, attempt = pin
                del rest[place]
                break
    return TaskPath(text, ids, run, map_index, attempt, tuple(rest))


def _pin(component: str, run: str) -> tuple[str, int] | None:
    """Return the run and attempt of a pin that stands as a component of its own in a path to ``run``."""
    pinned, at, number = component.partition("@")
    if not at or not _ATTEMPT.fullmatch(number):
        return None
    if run == LATEST:
        try:
            if run_date(run_segment(pinned)) is None:
                return None
        except InvalidKeyError:
            return None
    elif pinned != run:
        return None
    return pinned, int(number)
