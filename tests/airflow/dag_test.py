"""Airflow in one process beside the test: DAG files are parsed, and run with `dag.test()`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.services.airflow import airflow_environment

PROCESS = Path(__file__).with_name("dag_test_process.py")
START = """
from datetime import UTC, datetime
from airflow.sdk import DAG, Asset
from airflow_ops import DataLayerHook, S3Destination, TaskOutputSensor, input_of, output_writer, publish_output
from airflow_ops import reference_output, task, task_output
START = datetime(2026, 1, 1, tzinfo=UTC)
"""


@dataclass(frozen=True)
class Ran:
    """What became of a run."""

    run_id: str
    state: str
    tasks: dict[str, dict[str, Any]]
    """By `task` or `task[map_index]`: state and tries."""
    xcoms: dict[str, Any]
    """By `task/key`."""
    events: dict[str, Any]
    """The extra of each task's asset event."""
    log: str = field(repr=False)

    def states(self) -> dict[str, str]:
        return {name: one["state"] for name, one in self.tasks.items()}


class DagTest:
    """The process, and the folder of its DAG files."""

    def __init__(self, home: Path, process: subprocess.Popen[str]) -> None:
        self.home = home
        self._process = process
        self._log = home / "process.log"
        self._read()

    def parse(self, source: str, name: str = "parsed.py") -> dict[str, Any]:
        """Return what the parser of DAG files makes of a file: `import_errors`, and the serialised `tasks`."""
        path = self._written(name, source)
        try:
            answer, _ = self._ask(verb="parse", file=str(path))
        finally:
            path.unlink()
        return answer

    def run(
        self,
        source: str,
        dag_id: str,
        logical_date: str | None = "2026-11-23T08:00:00+00:00",
        *,
        conf: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        name: str = "running.py",
    ) -> Ran:
        """Run a DAG of a file once, as `dag.test()` does, and return what became of it."""
        path = self._written(name, source)
        try:
            answer, log = self._ask(
                verb="run",
                file=str(path),
                dag_id=dag_id,
                logical_date=logical_date,
                conf=conf,
                environment=dict(environment or {}),
            )
        finally:
            path.unlink()
        assert not answer["import_errors"], answer["import_errors"]
        fields = ("run_id", "state", "tasks", "xcoms", "events")
        return Ran(**{name: answer[name] for name in fields}, log=log)

    def _written(self, name: str, source: str) -> Path:
        path = self.home / "dags" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(START + source)
        return path

    def _ask(self, **request: Any) -> tuple[dict[str, Any], str]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"folder": str(self.home / "dags"), **request}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        log = self._log.read_bytes()[answer.pop("begun") :].decode(errors="replace")
        assert "error" not in answer, f"{answer['error']}\n{log}"
        return answer, log

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._log.read_text(errors="replace")[-4000:]
        return dict(json.loads(line))


@contextlib.contextmanager
def dag_test_process(settings: Mapping[str, str]) -> Iterator[DagTest]:
    """An Airflow for `dag.test()` on SQLite, until the block ends.

    Args:
        settings: More environment, such as `AIRFLOW__DATALAYER__…`.
    """
    with tempfile.TemporaryDirectory(prefix="dag-test-") as temp:
        home = Path(temp)
        (home / "dags").mkdir()
        environment = airflow_environment(home, f"sqlite:///{home}/airflow.db") | {
            "PYTHONDONTWRITEBYTECODE": "1",  # Files of one name are written anew within one second.
            **settings,
        }
        process = subprocess.Popen(
            [sys.executable, str(PROCESS), str(home / "process.log")],
            env=environment,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield DagTest(home, process)
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.communicate()
