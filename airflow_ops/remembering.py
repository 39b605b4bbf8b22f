"""Pins that outlive a try: a retry reads the attempts of other DAGs and runs that the first try has found.

They lie in Airflow's own task state store (``context["task_state_store"]``, per task instance of a run): XComs are cleared when a task is tried
again, and so is an attempt's folder when its job starts anew. Airflow removes them with the run.

Inputs of the task's own run are not among them, and are looked up by each try. They change only if somebody has cleared the upstream task, who then
wants that; and a task that reads nothing else asks Airflow for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_ops.inputs import Declared, is_own_run
from datalayer.handoff.context import InputSpec

if TYPE_CHECKING:
    from airflow.sdk import Context

_STATE = "datalayer.inputs"


class _Remembered(msgspec.Struct, frozen=True):
    generation: int
    """Airflow raises the limit of tries when a task is cleared, and leaves it for a retry: so it tells a clear from a retry."""
    inputs: dict[str, InputSpec]


def recall_inputs(declared: Declared, context: Context) -> dict[str, InputSpec]:
    """Return the inputs that were found before, by this try or an earlier one. None after a clear."""
    instance: Any = context["ti"]
    wanted = _kept(declared, instance.dag_id)
    stored = context["task_state_store"].get(_STATE) if wanted else None
    if stored is None:
        return {}
    try:
        found = msgspec.convert(stored, _Remembered)
    except msgspec.ValidationError:
        return {}  # Of another version of this library.
    if found.generation != instance.max_tries:
        return {}
    return {alias: spec for alias, spec in found.inputs.items() if alias in wanted}


def remember_inputs(
    declared: Declared, inputs: dict[str, InputSpec], recalled: dict[str, InputSpec], context: Context
) -> None:
    """Keep what was found for the retries of this task instance, unless all of it is kept already."""
    instance: Any = context["ti"]
    kept = {alias: inputs[alias] for alias in _kept(declared, instance.dag_id)}
    if kept.keys() != recalled.keys():
        found = _Remembered(instance.max_tries, kept)
        context["task_state_store"].set(_STATE, msgspec.to_builtins(found))


def _kept(declared: Declared, dag_id: str) -> list[str]:
    return [alias for alias, one in declared.inputs.items() if not is_own_run(one, dag_id)]
