"""Pins that outlive a try: a retry reads the attempts that the first try has found.

They lie in Airflow's own task state store (``context["task_state_store"]``, per task instance of a run): XComs are cleared when a task is tried
again, and so is an attempt's folder when its job starts anew. Airflow removes them with the run.
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
    owner: str
    """The try that found them."""
    generation: int
    """Airflow raises the limit of tries when a task is cleared, and leaves it for a retry: so it tells a clear from a retry."""
    inputs: dict[str, InputSpec]


def recall_inputs(declared: Declared, context: Context) -> dict[str, InputSpec]:
    """Return the inputs that were found before: all by this very try, those of other runs by an earlier one. None after a clear.

    Inputs of the task's own run are looked up anew by each try: they change only if somebody has cleared the upstream task, who then wants that.
    """
    instance: Any = context["ti"]
    stored = context["task_state_store"].get(_STATE) if declared.inputs else None
    if stored is None:
        return {}
    try:
        found = msgspec.convert(stored, _Remembered)
    except msgspec.ValidationError:
        return {}  # Of another version of this library.
    if found.generation != instance.max_tries:
        return {}
    same_try = found.owner == str(instance.id)
    return {
        alias: spec
        for alias, spec in found.inputs.items()
        if alias in declared.inputs and (same_try or not is_own_run(declared.inputs[alias], instance.dag_id))
    }


def remember_inputs(inputs: dict[str, InputSpec], context: Context) -> None:
    """Keep what was found for the retries of this task instance."""
    instance: Any = context["ti"]
    found = _Remembered(str(instance.id), instance.max_tries, inputs)
    context["task_state_store"].set(_STATE, msgspec.to_builtins(found))
