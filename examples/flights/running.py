"""The workflow under one storage design, task by task, each a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import DataLayerError
from examples.flights.configurations import as_toml
from examples.flights.measure import run_measured
from examples.flights.results import check_deliveries, checksum
from examples.flights.workflow import plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from datalayer.config import Config
    from examples.flights.server import S3Server
    from examples.flights.workflow import TaskPlan

_TAIL_LINES = 25


class DesignResult(NamedTuple):
    """What one design took, and what came out."""

    design: str
    requests: int
    """At the S3 server."""
    bytes_down: int
    """From the S3 server."""
    bytes_up: int
    """To the S3 server."""
    seconds: float
    read_again: int
    """Bytes of committed files from the S3 server when the tasks that read run a second time."""
    peak_memory: int
    """Bytes: of all processes of a task together, the largest of the tasks."""
    checksum: str
    """Of the results' rows."""
    delivered: int
    """Files, compared with what was committed."""


class TaskFailedError(DataLayerError):
    """A task of the demo did not end well."""


def run_design(
    config: Config, server: S3Server, by_airport: Path, work: Path, told: Callable[[str, float | None], None]
) -> DesignResult:
    """Run the whole workflow under one design, and then the tasks that read once more, and return what it took.

    Args:
        config: The design's configuration.
        server: The S3 server, which counts.
        by_airport: The compiled program.
        work: An empty folder for job_configs, reports and logs.
        told: Called with a task's id when it begins, and again with its seconds when it has ended.

    Raises:
        TaskFailedError: A task failed; the message ends with the last it said.
        VerificationError: What was delivered is not what was committed.
    """
    settings = work / "datalayer.toml"
    settings.write_text(as_toml(config))
    tasks = plan(config.design, by_airport)
    before, started = server.counts(), time.monotonic()
    peak = _run_tasks(tasks, settings, work, told)
    seconds, first = time.monotonic() - started, server.counts().since(before)
    before = server.counts()
    reading = [task for task in tasks if "input" in task.job_config]
    _run_tasks(reading, settings, work, lambda task_id, seconds: told(f"{task_id}, again", seconds))
    again = server.counts().since(before)
    # Only now, so that looking at the results is not counted.
    return DesignResult(
        config.design,
        first.requests,
        first.bytes_down,
        first.bytes_up,
        seconds,
        again.data_down,
        peak,
        checksum(config),
        check_deliveries(config),
    )


def datalayer_program() -> Path:
    """Return the path of the command ``datalayer`` of this interpreter's environment."""
    return Path(sys.executable).with_name("datalayer")


def _run_tasks(tasks: list[TaskPlan], settings: Path, work: Path, told: Callable[[str, float | None], None]) -> int:
    """Run tasks one after the other and return their peak memory."""
    peak = 0
    for task in tasks:
        told(task.task_id, None)
        begun = time.monotonic()
        peak = max(peak, _run_task(task, settings, work))
        told(task.task_id, time.monotonic() - begun)
    return peak


def _run_task(task: TaskPlan, settings: Path, work: Path) -> int:
    job_config, report, log = (work / f"{task.task_id}.{ending}" for ending in ("job.json", "report.json", "log"))
    job_config.write_text(json.dumps(task.job_config, indent=2))
    run = [str(datalayer_program()), "run", "--task", str(task.key), "--job-config", str(job_config)]
    code, peak = run_measured([*run, "--report", str(report), "--", *task.command], _environment(settings), log)
    if code:
        words = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        said = "\n".join(words)
        raise TaskFailedError(f"task {task.task_id!r} failed with exit code {code}. The last it said:\n{said}")
    return peak


def _environment(settings: Path) -> dict[str, str]:
    """Return this process's environment without the user's own configuration of datalayer, which would win over the demo's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DATALAYER_") or name == "DATALAYER_CACHE"
    }
    return kept | {"DATALAYER_CONFIG": str(settings)}
