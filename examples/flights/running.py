"""The DAG under one storage design."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from examples.flights.configurations import as_toml
from examples.flights.results import check_deliveries, checksum
from examples.flights.workflow import SOURCES

if TYPE_CHECKING:
    from datalayer.config import Config
    from examples.flights.dag_process import DagProcess, Told
    from examples.flights.server import S3Server


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
    """Of the tasks."""
    read_again: int
    """Bytes of committed files from the S3 server when the tasks that read run a second time."""
    peak_memory: int
    """Bytes: of all processes of a job together, the largest of the jobs."""
    checksum: str
    """Of the results' rows."""
    delivered: int
    """Files, compared with what was committed."""


def run_design(config: Config, server: S3Server, airflow: DagProcess, told: Told) -> DesignResult:
    """Run the whole DAG under one design, and then the tasks that read once more, and return what it took.

    Args:
        config: The design's configuration.
        server: The S3 server, which counts.
        airflow: What runs the DAG.
        told: Told of each task; the second time without what the operators say.

    Raises:
        TaskFailedError: A task failed; the message ends with the last it said.
        VerificationError: What was delivered is not what was committed.
    """
    airflow.settings.write_text(as_toml(config))
    before = server.counts()
    run = airflow.run(told)
    first = server.counts().since(before)
    before = server.counts()
    airflow.run(_again(told), skip="|".join(SOURCES))
    again = server.counts().since(before)
    # Only now, so that looking at the results is not counted.
    return DesignResult(
        config.design,
        first.requests,
        first.bytes_down,
        first.bytes_up,
        run.seconds,
        again.data_down,
        run.peak_memory,
        checksum(config),
        check_deliveries(config),
    )


def _again(told: Told) -> Told:
    def once_more(task_id: str, *, words: str | None = None, seconds: float | None = None) -> None:
        if words is None:
            told(f"{task_id}, again", seconds=seconds)

    return once_more


def datalayer_program() -> Path:
    """Return the path of the command ``datalayer`` of this interpreter's environment."""
    return Path(sys.executable).with_name("datalayer")
