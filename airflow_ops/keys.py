"""Addresses of running tasks."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from airflow_ops.teams import team_of
from datalayer.addresses.keys import TaskKey
from datalayer.addresses.runs import RunId, run_segment

if TYPE_CHECKING:
    from airflow.sdk import Context


def task_key(context: Context) -> TaskKey:
    """Return the address of what a running task instance produces.

    Its run is the logical date in UTC, or the run id where the run has no logical date. A mapped instance adds its map index.

    Raises:
        ConfigError: No team is known.
        InvalidKeyError: An id cannot be addressed.
    """
    instance = context["ti"]
    index = getattr(instance, "map_index", -1)
    return TaskKey(
        team_of(context),
        instance.dag_id,
        instance.task_id,
        run_of(context["dag_run"]),
        None if index is None or index < 0 else index,
    )


def run_of(dag_run: Any) -> str:
    """Return the run segment of a DAG run: from its logical date, or its run id where it has none.

    Raises:
        InvalidKeyError: The run id cannot be addressed.
    """
    # ``context["logical_date"]`` is absent where there is none; the run has the field always.
    date = dag_run.logical_date
    return run_segment(RunId(dag_run.run_id) if date is None else date.astimezone(UTC))
