"""The workflow: four tasks of team ``aviation``, each described by the ``job_config`` that a DAG author would write."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from datalayer import TaskKey

if TYPE_CHECKING:
    from pathlib import Path

TEAM, DAG, RUN = "aviation", "flights", "20130101T000000Z"
RESULTS = ("by_airport", "delays")
REPORTS_BUCKET = "reports"
REPORTS_CONNECTION = "reports"


class TaskPlan(NamedTuple):
    """One task: what it is called, what it reads and delivers, and the program that does the work."""

    task_id: str
    job_config: dict[str, Any]
    command: list[str]

    @property
    def key(self) -> TaskKey:
        """The task's address."""
        return task_key(self.task_id)


def task_key(task_id: str) -> TaskKey:
    """Return the address of a task of this workflow's one run."""
    return TaskKey(TEAM, DAG, task_id, run=RUN)


def plan(design: str, by_airport: Path) -> list[TaskPlan]:
    """Return the workflow's tasks in an order that they can run in.

    Args:
        design: The storage design, which names the folder that results are delivered to.
        by_airport: The compiled program.
    """
    # Spark and Python read through the SDK, so where the design reads in place nothing has to be put into a directory for them.
    in_place = {"access": "in-place"}
    return [
        TaskPlan("extract", {"output": {"default": {}, "csv": {}}}, _python("extract")),
        TaskPlan("weather", {}, _python("weather")),
        TaskPlan(
            "by_airport",
            {
                "input": {"operators": [{"task_id": "extract", "outputs": ["csv"]}]},
                "output": _delivered(design, "by_airport"),
            },
            [str(by_airport)],
        ),
        TaskPlan(
            "delays",
            {
                "input": {
                    "operators": [
                        {"task_id": "extract", "outputs": ["default"], **in_place},
                        {"task_id": "weather", **in_place},
                    ]
                },
                "output": _delivered(design, "delays"),
            },
            _python("delays"),
        ),
    ]


def delivery_path(design: str, task_id: str) -> str:
    """Return the folder of the reports' bucket that a result is delivered to."""
    return f"{DAG}/{design}/{task_id}"


def _python(task_id: str) -> list[str]:
    return [sys.executable, "-m", f"examples.flights.jobs.{task_id}"]


def _delivered(design: str, task_id: str) -> dict[str, Any]:
    place = {
        "bucket": REPORTS_BUCKET,
        "path": delivery_path(design, task_id),
        "aws_conn_id": REPORTS_CONNECTION,
    }
    return {"default": {"destinations": [{"type": "s3", "data": place}]}}
