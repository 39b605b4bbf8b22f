"""``TaskKey`` and ``OutputKey``: the logical address of what one task instance produces.

The address is ``/{team}/{dag_id}/{task_id}/{run}``, and ``/map_index-N`` after it for a mapped task. It names no attempt: a retry and a
re-run supersede each other under the same address.
"""

from __future__ import annotations

import re
from datetime import datetime

from datalayer.addresses.encoding import decode_component, encode_component
from datalayer.addresses.runs import LATEST, RunId, run_date, run_from_person, run_segment
from datalayer.errors import InvalidKeyError

MAX_KEY_BYTES = 1024
"""Longest address, in bytes: the length S3 allows for a whole object key."""

DEFAULT_OUTPUT = "default"

_MAP_INDEX = re.compile(r"map_index-(0|[1-9][0-9]{0,9})", re.ASCII)
_OUTPUT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)
_SHORT = re.compile(r"(?P<path>[^@]+)@(?P<run>[^\[\]]+?)(?:\[(?P<index>\d{1,10})\])?", re.ASCII)
# Names beside the output folders inside an attempt, and the segment that would read as a mapped task's.
_RESERVED_OUTPUTS = frozenset({"index"})


class TaskKey:
    """Logical address of what one task instance produces. Immutable, hashable, ordered by its text.

    Args:
        team: The owning team. Like ``dag_id`` and ``task_id``, any non-empty text: it is encoded.
        dag_id: The DAG.
        task_id: The task.
        run: A segment's text, an aware datetime (the logical date), or a :class:`RunId`.
        map_index: The index of a mapped task instance, from 0; None (and Airflow's -1) for a task that is not mapped.

    Raises:
        InvalidKeyError: A part cannot be addressed, or the whole address is over 1,024 bytes.
    """

    __slots__ = ("_hash", "_text", "dag_id", "map_index", "run", "task_id", "team")

    team: str
    dag_id: str
    task_id: str
    run: str
    map_index: int | None
    _text: str
    _hash: int

    def __init__(
        self, team: str, dag_id: str, task_id: str, run: str | datetime | RunId, map_index: int | None = None
    ) -> None:
        if map_index == -1:
            map_index = None
        if map_index is not None and (type(map_index) is not int or not 0 <= map_index < 10**10):
            raise InvalidKeyError(f"map_index {map_index!r} is not a whole number from 0 to 9999999999")
        segment = run_segment(run)
        text = f"/{encode_component(team, 'team')}/{encode_component(dag_id, 'dag_id')}/{encode_component(task_id, 'task_id')}/{segment}"
        if map_index is not None:
            text += f"/map_index-{map_index}"
        if len(text) > MAX_KEY_BYTES:
            raise InvalidKeyError(
                f"the address {text[:80]}… takes {len(text)} bytes; the limit is {MAX_KEY_BYTES}. Use shorter ids"
            )
        store = object.__setattr__
        store(self, "team", team)
        store(self, "dag_id", dag_id)
        store(self, "task_id", task_id)
        store(self, "run", segment)
        store(self, "map_index", map_index)
        store(self, "_text", text)
        store(self, "_hash", hash(text))

    @classmethod
    def parse(cls, text: str) -> TaskKey:
        """Return the key that ``str(key)`` spells.

        Raises:
            InvalidKeyError: The text is no address in canonical form.
        """
        parts = text.split("/") if isinstance(text, str) else []
        if len(parts) not in {5, 6} or parts[0]:
            raise InvalidKeyError(
                f"{text!r} is not an address: expected /team/dag_id/task_id/run, with /map_index-N after it for a mapped task"
            )
        map_index = None
        if len(parts) == 6:
            match = _MAP_INDEX.fullmatch(parts[5])
            if not match:
                raise InvalidKeyError(f"{text!r} is not an address: its last part must be map_index-N")
            map_index = int(match[1])
        team, dag_id, task_id = (
            decode_component(part, what) for part, what in zip(parts[1:4], ("team", "dag_id", "task_id"), strict=True)
        )
        return cls(team, dag_id, task_id, parts[4], map_index)

    @property
    def logical_date(self) -> datetime | None:
        """The run's logical date in UTC, or None for a run that has none."""
        return run_date(self.run)

    @property
    def path(self) -> str:
        """The address without its leading slash: where the task's folder lies below a root."""
        return self._text[1:]

    def output(self, name: str = DEFAULT_OUTPUT) -> OutputKey:
        """Return the key of one named output of this task."""
        return OutputKey(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"TaskKey is immutable: cannot set {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"TaskKey is immutable: cannot delete {name}")

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        index = "" if self.map_index is None else f", map_index={self.map_index}"
        return f"TaskKey({self.team!r}, {self.dag_id!r}, {self.task_id!r}, run={self.run!r}{index})"

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, TaskKey) else NotImplemented

    def __lt__(self, other: TaskKey) -> bool:
        return self._text < other._text if isinstance(other, TaskKey) else NotImplemented

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[object, ...]:
        return TaskKey.parse, (self._text,)


class OutputKey:
    """One named output of a task: ``str()`` is the task's address, a slash and the name."""

    __slots__ = ("name", "task")

    task: TaskKey
    name: str

    def __init__(self, task: TaskKey, name: str = DEFAULT_OUTPUT) -> None:
        object.__setattr__(self, "task", task)
        object.__setattr__(self, "name", check_output_name(name))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"OutputKey is immutable: cannot set {name}")

    def __str__(self) -> str:
        return f"{self.task}/{self.name}"

    def __repr__(self) -> str:
        return f"OutputKey({self.task!r}, {self.name!r})"

    def __eq__(self, other: object) -> bool:
        return (self.task, self.name) == (other.task, other.name) if isinstance(other, OutputKey) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.task, self.name))

    def __reduce__(self) -> tuple[object, ...]:
        return OutputKey, (self.task, self.name)


def check_output_name(name: str) -> str:
    """Return an output's name unchanged if it can be one.

    Raises:
        InvalidKeyError: The name is not 1 to 100 characters of ``[A-Za-z0-9_-]`` that begin with a letter or digit, or is reserved.
    """
    if not isinstance(name, str) or not _OUTPUT_NAME.fullmatch(name):
        raise InvalidKeyError(
            f"output name {name!r} must be 1 to 100 characters of [A-Za-z0-9_-] and begin with a letter or a digit"
        )
    if name in _RESERVED_OUTPUTS or _MAP_INDEX.fullmatch(name):
        raise InvalidKeyError(f"output name {name!r} is reserved; choose another")
    return name


def parse_short(text: str) -> tuple[str, str, str, str, int | None]:
    """Split the short form that people write into its raw parts: team, dag_id, task_id, run segment or ``latest``, map index.

    ``aviation/flights/extract@2013-01-01``, ``…@latest``, ``…@run_id-manual__1``, ``…@2013-01-01[3]``. Ids are written encoded, as
    addresses print them.

    Raises:
        InvalidKeyError: The text has no such form.
    """
    match = _SHORT.fullmatch(text.removeprefix("/")) if isinstance(text, str) else None
    parts = match["path"].split("/") if match else []
    if match is None or len(parts) != 3:
        raise InvalidKeyError(
            f"{text!r} is not a short address: write team/dag_id/task_id@RUN, where RUN is a date, run_id-…, or latest. "
            "A full address is read by TaskKey.parse(text), and an attempt pinned with layer.resolve(key, attempt=…)"
        )
    if "@" in match["run"]:
        raise InvalidKeyError(
            f"{text!r}: an attempt is pinned in the full address only: /team/dag_id/task_id/RUN@ATTEMPT, as 'datalayer ls' and "
            "'datalayer show' print RUN; in Python layer.resolve(key, attempt=…)"
        )
    if "/" in match["run"]:
        raise InvalidKeyError(
            f"{text!r} goes on after the run: in Python take an output from what the short address gives, layer[address][output]"
        )
    run = match["run"] if match["run"] == LATEST else run_from_person(match["run"])
    team, dag_id, task_id = (
        decode_component(part, what) for part, what in zip(parts, ("team", "dag_id", "task_id"), strict=True)
    )
    return team, dag_id, task_id, run, None if match["index"] is None else int(match["index"])
