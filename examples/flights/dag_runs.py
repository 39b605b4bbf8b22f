"""The process that runs the DAG: an Airflow of its own on SQLite, without a scheduler, that runs the DAG as often as it is asked to.

An Airflow takes some seconds to start, so that one serves all designs. It reads a JSON line for each run from standard input, and answers with
one for whatever happens, until its input ends. All else that it and the jobs say goes to standard error.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from examples.flights.source import DAG_FILE
from examples.flights.workflow import RUN

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from airflow.sdk.types import RuntimeTaskInstanceProtocol

OPERATORS = "airflow.task.operators.airflow_ops."
"""What the loggers of our operators begin with."""


def main() -> None:
    """Run the DAG for each line of standard input."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    from airflow.listeners import hookimpl
    from airflow.sdk.listener import get_listener_manager
    from airflow.utils.db import initdb

    class Listener:
        """Tells when a task begins and ends. Airflow calls it by these names."""

        @hookimpl
        def on_task_instance_running(self, task_instance: RuntimeTaskInstanceProtocol) -> None:
            _answer(answers, begun=task_instance.task_id)

        @hookimpl
        def on_task_instance_success(self, task_instance: RuntimeTaskInstanceProtocol) -> None:
            _answer(answers, committed=task_instance.task_id)

        @hookimpl
        def on_task_instance_failed(self, task_instance: RuntimeTaskInstanceProtocol) -> None:
            _answer(answers, failed=task_instance.task_id)

    initdb()
    get_listener_manager().add_listener(Listener())  # type: ignore[no-untyped-call]  # Airflow's own has none
    _tell_story(answers)
    dag = runpy.run_path(str(DAG_FILE))["dag"]
    _answer(answers, ready=True)
    date = datetime.fromisoformat(RUN)
    for line in sys.stdin:
        run = dag.test(logical_date=date, mark_success_pattern=json.loads(line)["skip"])
        _answer(answers, ended=str(run.state))


def _tell_story(answers: TextIO) -> None:
    """Have what our operators log answered, too."""
    import structlog

    def tell(_logger: Any, _level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if str(event.get("logger", "")).startswith(OPERATORS) and event.get("level") == "info":
            _answer(answers, said=str(event["event"]))
        return event

    *finding, writing = structlog.get_config()["processors"]
    structlog.configure(processors=[*finding, tell, writing])


def _answer(answers: TextIO, **what: Any) -> None:
    answers.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    main()
