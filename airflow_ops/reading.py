"""Who reads whom within a DAG, and which map indexes take part in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow_ops.inputs import DataTask, Declared, is_own_run
from datalayer.addresses.keys import TaskKey
from datalayer.errors import DataLayerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

_NO_PART = frozenset({"skipped", "removed"})


def readers_of(key: TaskKey, context: Context) -> list[TaskKey]:
    """Return the task instances of a running task's own run that will read its outputs.

    A mapped reader counts where Airflow has expanded it already; how many there will be of others is not known yet, and they are left out.
    """
    found: list[TaskKey] = []
    for task in context["dag"].tasks:
        try:
            declared = declared_by(task)
        except DataLayerError:
            continue  # It says so itself, and reads nothing.
        if declared is None or task.task_id == key.task_id:
            continue
        if any(one.task_id == key.task_id and is_own_run(one, key.dag_id) for one in declared.inputs.values()):
            indexes = map_indexes_of(task.task_id, context) if is_mapped(task) else [None]
            found += [TaskKey(key.team, key.dag_id, task.task_id, key.run, index) for index in indexes]
    return found


def is_data_task(task: Any) -> bool:
    """Whether a task of a DAG is one of ours, mapped or not."""
    return issubclass(getattr(task, "operator_class", type(task)), DataTask)


def is_mapped(task: Any) -> bool:
    """Whether a task of a DAG has instances by map index: it is mapped, or in a mapped group."""
    return bool(task.is_mapped) or task.get_closest_mapped_task_group() is not None


def map_indexes_of(task_id: str, context: Context) -> list[int]:
    """Return the map indexes that a task of a running task's own run has been expanded to, but for those skipped or removed."""
    instance: Any = context["ti"]
    run = context["run_id"]
    states = instance.get_task_states(dag_id=instance.dag_id, task_ids=[task_id], run_ids=[run])
    return taking_part(task_id, states.get(run, {}))


def taking_part(task_id: str, states: Mapping[str, Any]) -> list[int]:
    """Return a task's map indexes that are neither skipped nor removed.

    Args:
        task_id: The task.
        states: As Airflow gives them for one run: by ``<task_id>_<map_index>``.
    """
    prefix = f"{task_id}_"
    found = []
    for name, state in states.items():
        number = name.removeprefix(prefix)
        if name.startswith(prefix) and number.isascii() and number.isdigit() and str(state) not in _NO_PART:
            found.append(int(number))
    return sorted(found)


def declared_by(task: Any) -> Declared | None:
    """Return what a task of a DAG reads and produces, as far as the DAG file says it; None if it is none of ours.

    Raises:
        ConfigError: What it declares cannot be used.
    """
    if isinstance(task, DataTask):
        return task.declared(rendered=False)
    if task.is_mapped and is_data_task(task):
        return cast("Declared", task.operator_class.declared_when_mapped(task.partial_kwargs))
    return None
