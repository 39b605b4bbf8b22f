"""What is looked at in every DAG once it is parsed. Airflow loads this module through the entry point ``airflow.policy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.policies import hookimpl

if TYPE_CHECKING:
    from airflow.sdk import DAG


@hookimpl
def dag_policy(dag: DAG) -> None:
    """Make sure that mapped tasks of ours wait for what they read; the others see to it themselves.

    Raises:
        AirflowClusterPolicyViolation: One does not; it becomes an import error of the DAG's file.
    """
    mapped = [task for task in dag.tasks if task.is_mapped]
    if not mapped:
        return
    from airflow.exceptions import AirflowClusterPolicyViolation

    from airflow_ops.inputs import check_upstream
    from airflow_ops.reading import declared_by
    from datalayer.errors import DataLayerError

    for task in mapped:
        try:
            declared = declared_by(task)
            if declared is not None:
                check_upstream(task, declared)
        except DataLayerError as error:
            raise AirflowClusterPolicyViolation(f"{type(error).__name__}: {error}") from error
