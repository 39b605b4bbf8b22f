"""Whose task it is: the first part of every address."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from airflow_ops.settings import settings
from datalayer.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context


def team_of(context: Context) -> str:
    """Return the team that a running task belongs to.

    The run's own team (Airflow's multi-team mode), else the first folder of the DAG file below its bundle (``aviation/flights.py`` belongs
    to ``aviation``), else the setting ``[datalayer] team``.

    Raises:
        ConfigError: None of them names one.
    """
    named = getattr(context["dag_run"], "team_name", None)
    if named:
        return str(named)
    dag = context["dag"]
    relative = getattr(dag, "relative_fileloc", None)
    return team_of_file(relative, dag.dag_id)


def team_of_file(relative_path: str | None, dag_id: str) -> str:
    """Return the team of a DAG that no run names one for.

    Args:
        relative_path: The DAG file's path below its bundle.
        dag_id: For the error.

    Raises:
        ConfigError: Neither the path nor the setting names one.
    """
    parts = PurePosixPath(relative_path or "").parts
    if len(parts) > 1 and parts[0] not in {"/", ".."}:
        return parts[0]
    configured = settings().team
    if configured:
        return configured
    raise ConfigError(
        f"no team is known for the DAG {dag_id!r}: set [datalayer] team in Airflow's configuration (AIRFLOW__DATALAYER__TEAM), "
        "or put the DAG's file in a folder of the team's name"
    )
