"""What the demo knows of the DAG in ``dags/flights.py``: its one run, and the results that are compared."""

from __future__ import annotations

from datalayer import TaskKey

TEAM, DAG, RUN = "aviation", "flights", "20130101T000000Z"
SOURCES = ("extract", "weather")
"""The tasks that read no other task's output."""
RESULTS = ("by_airport", "delays")
REPORTS_BUCKET = "reports"
REPORTS_CONNECTION = "reports"


def task_key(task_id: str) -> TaskKey:
    """Return the address of a task in the demo's run."""
    return TaskKey(TEAM, DAG, task_id, run=RUN)


def delivery_path(task_id: str) -> str:
    """Return the folder of the reports' bucket that a result is delivered to."""
    return f"{DAG}/{task_id}"
