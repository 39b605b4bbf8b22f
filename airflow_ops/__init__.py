"""Airflow on top: operators, decorators, sensors and hooks for tasks whose outputs are committed once and read in place.

Names load on first use, so that ``import airflow_ops`` costs nothing: not even Airflow.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from airflow_ops.decorators import output_writer, task
    from airflow_ops.hooks import DataLayerHook
    from airflow_ops.operators.execution_environment import ExecutionEnvironmentOperator
    from airflow_ops.operators.spark import SparkExecutionEnvironmentOperator
    from airflow_ops.references import S3Destination, input_of, task_output
    from airflow_ops.sensors import TaskOutputSensor
    from airflow_ops.tasks import publish_output, reference_output

_HOMES = {
    "DataLayerHook": "airflow_ops.hooks",
    "ExecutionEnvironmentOperator": "airflow_ops.operators.execution_environment",
    "S3Destination": "airflow_ops.references",
    "SparkExecutionEnvironmentOperator": "airflow_ops.operators.spark",
    "TaskOutputSensor": "airflow_ops.sensors",
    "input_of": "airflow_ops.references",
    "output_writer": "airflow_ops.decorators",
    "publish_output": "airflow_ops.tasks",
    "reference_output": "airflow_ops.tasks",
    "task": "airflow_ops.decorators",
    "task_output": "airflow_ops.references",
}

__all__ = [
    "DataLayerHook",
    "ExecutionEnvironmentOperator",
    "S3Destination",
    "SparkExecutionEnvironmentOperator",
    "TaskOutputSensor",
    "input_of",
    "output_writer",
    "publish_output",
    "reference_output",
    "task",
    "task_output",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'airflow_ops' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
