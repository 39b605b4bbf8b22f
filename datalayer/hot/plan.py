"""``ReadPlan``: which tasks of a workflow read which, known before they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datalayer.addresses.keys import TaskKey
from datalayer.errors import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ReadPlan:
    """Who reads whose outputs.

    ::

        plan = ReadPlan({delays: [extract, weather], report: [delays]})
        layer.hot.committed(extract, readers=plan.readers(extract))
        layer.hot.finished(delays, inputs=plan.inputs(delays))

    Args:
        reads: For each task that reads, the tasks whose outputs it reads; keys, or addresses as they are printed.

    Raises:
        InvalidKeyError: One is no key, or a task reads itself.
    """

    def __init__(self, reads: Mapping[TaskKey | str, Iterable[TaskKey | str]]) -> None:
        self._inputs = {key_of(reader): tuple(dict.fromkeys(map(key_of, inputs))) for reader, inputs in reads.items()}
        self._readers: dict[TaskKey, list[TaskKey]] = {}
        for reader, inputs in self._inputs.items():
            for one in inputs:
                if one == reader:
                    raise InvalidKeyError(f"{reader} is said to read its own outputs")
                self._readers.setdefault(one, []).append(reader)

    def readers(self, key: TaskKey | str) -> tuple[TaskKey, ...]:
        """Return the tasks that read a task's outputs; none where nobody does."""
        return tuple(self._readers.get(key_of(key), ()))

    def inputs(self, reader: TaskKey | str) -> tuple[TaskKey, ...]:
        """Return the tasks whose outputs a task reads; none where it reads nothing."""
        return self._inputs.get(key_of(reader), ())


def key_of(key: TaskKey | str) -> TaskKey:
    """Return a key, or the one that an address spells.

    Raises:
        InvalidKeyError: It is neither.
    """
    if isinstance(key, TaskKey):
        return key
    return TaskKey.parse(key)
