"""Starting, asking and ending the process that runs the DAG."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import psutil

from datalayer.errors import DataLayerError
from examples.flights.measure import MemoryWatch
from examples.flights.source import CHECKOUT, DAG_FILE, JOBS, data_folder
from examples.flights.workflow import TEAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

_TAIL_LINES = 25
_GRACE_SECONDS = 10


class TaskFailedError(DataLayerError):
    """A task of the demo did not end well."""


class DagRun(NamedTuple):
    """What one run of the DAG took."""

    seconds: float
    """Of its tasks: Airflow's own time between them is the same under all designs."""
    peak_memory: int
    """Bytes: of all processes of a job together, the largest of the jobs."""


class Told(Protocol):
    """Shows a person what happens."""

    def __call__(self, task_id: str, *, words: str | None = None, seconds: float | None = None) -> None:
        """Show that a task has begun; with ``words`` what its operator says; with ``seconds`` that it has committed."""


class DagProcess:
    """Context manager: the process, ready for runs when the block begins; when it ends, it and all that it started are gone.

    Args:
        work: An empty folder for Airflow's files and log.
        by_airport: The compiled program.
    """

    def __init__(self, work: Path, by_airport: Path) -> None:
        self._work = work
        self._by_airport = by_airport
        self._process: subprocess.Popen[str] | None = None
        self.settings = work / "datalayer.toml"
        """The configuration that a run reads; to be written before it."""
        self.log = work / "airflow.log"

    def run(self, told: Told, *, skip: str | None = None) -> DagRun:
        """Run the DAG once.

        Args:
            told: Told of each task as it begins, speaks and ends.
            skip: A pattern of the ids of tasks that have committed already, and need not run.

        Raises:
            TaskFailedError: A task failed; the message ends with the last it said.
        """
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the process does not run")
        self._process.stdin.write(json.dumps({"skip": skip}) + "\n")
        self._process.stdin.flush()
        task_id, seconds, begun = "", 0.0, 0.0
        with MemoryWatch(self._process.pid) as memory:
            for answer in self._answers():
                match answer:
                    case {"begun": task_id}:
                        begun = time.monotonic()
                        told(task_id)
                    case {"said": words}:
                        told(task_id, words=words)
                    case {"committed": task_id}:
                        took = time.monotonic() - begun
                        seconds += took
                        told(task_id, seconds=took)
                    case {"failed": task_id}:
                        raise TaskFailedError(f"task {task_id!r} failed. The last it said:\n{self._last_words()}")
                    case {"ended": "success"}:
                        break
                    case _:
                        raise TaskFailedError(f"the run of the DAG failed. The last it said:\n{self._last_words()}")
        return DagRun(seconds, memory.peak)

    def __enter__(self) -> Self:
        self.settings.touch()
        with self.log.open("wb") as words:
            # In a session of its own, so that Ctrl-C reaches it through us alone.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.flights.dag_runs"],
                env=self._environment(),
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
                start_new_session=True,
            )
        try:
            ready = next(self._answers(), None)
        except BaseException:  # also an interrupt ends the process
            self.__exit__(*sys.exc_info())
            raise
        if ready is None:
            self.__exit__(None, None, None)
            raise TaskFailedError(f"Airflow did not start. The last it said:\n{self._last_words()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        family = []
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(self._process.pid).children(recursive=True)
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self._process.stdout:
            self._process.stdout.close()
        if kind is not None:
            self._process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS)
        finally:  # also at a second Ctrl-C
            self._process.kill()
            self._process.wait()
            self._process = None
            # Each job is a process group of its own.
            for one in psutil.wait_procs(family, timeout=0)[1]:
                with contextlib.suppress(psutil.Error):
                    one.kill()

    def _answers(self) -> Iterator[dict[str, Any]]:
        if self._process is None or self._process.stdout is None:
            return
        for line in self._process.stdout:
            yield json.loads(line)

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def _environment(self) -> dict[str, str]:
        """Return this process's environment without any other Airflow's or our user's own settings, which would win over the demo's."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "DATALAYER_")) or name == "DATALAYER_CACHE"
        }
        # Where the folders of the jobs' images lie on this machine.
        folders = {"/job": str(JOBS), "/job/data": str(data_folder()), "/job/bin": str(self._by_airport.parent)}
        settings = {
            "AIRFLOW_HOME": str(self._work / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAG_FILE.parent),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATALAYER__TEAM": TEAM,
            "AIRFLOW__DATALAYER__LAUNCHER": "process",
            "AIRFLOW__DATALAYER__CONFIG_FILE": str(self.settings),
            "AIRFLOW__DATALAYER__PROCESS_FOLDERS": json.dumps(folders),
            # A job's `python` is the one of this environment.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": ":".join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")])),
        }
        return kept | settings
