"""What a test asks of a running Airflow, by its REST API, as a person or a program beside it would."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

SECONDS = 180
"""How long a run, or a DAG file's parsing, may take by default. A test that is slow waits; one that hangs ends."""
ENDED = {"success", "failed"}


@dataclass(frozen=True)
class Run:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    logical_date: str | None


class AirflowApi:
    """The REST API of the Airflow at an address."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._token = ""

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{self.host}:{self.port}"

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers: JSON, read.

        Raises:
            RuntimeError: It answered with an error.
            OSError: It did not answer.
        """
        if not self._token and path.startswith("/api/"):
            self._token = self.request("GET", "/auth/token")["access_token"]
        # A client that tidies paths would lose ids such as "..".
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text) if text else None

    def waiting_parts(self) -> list[str]:
        """The parts that do not tell that they work."""
        health = self.request("GET", "/api/v2/monitor/health")
        return [name for name, part in health.items() if part and part["status"] != "healthy"]

    def wait_for_dag(self, dag_id: str, *, seconds: float = SECONDS) -> None:
        """Wait until a DAG's file has been parsed.

        Raises:
            RuntimeError: It cannot be parsed; names the reason.
        """

        def known() -> bool:
            if errors := self.import_errors():
                raise RuntimeError("\n".join(errors))
            listed = self.request("GET", f"/api/v2/dags?{urlencode({'limit': 1000, 'exclude_stale': 'true'})}")
            return any(dag["dag_id"] == dag_id for dag in listed["dags"])

        wait_until(known, f"DAG {dag_id!r} is not there", seconds)

    def import_errors(self) -> list[str]:
        """Why DAG files cannot be parsed."""
        return [error["stack_trace"] for error in self.request("GET", "/api/v2/importErrors")["import_errors"]]

    def trigger(
        self,
        dag_id: str,
        *,
        logical_date: str | None = None,
        run_id: str | None = None,
        conf: dict[str, Any] | None = None,
    ) -> Run:
        """Start a run by hand; without a logical date it has none."""
        body = {"logical_date": logical_date, "dag_run_id": run_id, "conf": conf or {}}
        made = self.request("POST", f"/api/v2/dags/{_part(dag_id)}/dagRuns", body)
        return Run(dag_id, made["dag_run_id"], made["logical_date"])

    def backfill(self, dag_id: str, first: datetime, last: datetime, *, runs: int) -> list[Run]:
        """Run a DAG for the dates between two, and return those runs, oldest first, when there are so many."""
        body = {"dag_id": dag_id, "from_date": first.isoformat(), "to_date": last.isoformat(), "max_active_runs": 2}
        self.request("POST", "/api/v2/backfills", body)

        def found() -> list[Run]:
            path = f"/api/v2/dags/{_part(dag_id)}/dagRuns?{urlencode({'run_type': 'backfill', 'order_by': 'logical_date'})}"
            listed = self.request("GET", path)["dag_runs"]
            return [Run(dag_id, run["dag_run_id"], run["logical_date"]) for run in listed]

        wait_until(lambda: len(found()) >= runs, f"no {runs} runs of the backfill of {dag_id!r}", SECONDS)
        return found()

    def state(self, run: Run) -> str:
        """The state of a run."""
        state: str = self.request("GET", _run_path(run))["state"]
        return state

    def wait(self, run: Run, *, seconds: float = SECONDS) -> str:
        """Wait for a run's end and return its state."""
        wait_until(lambda: self.state(run) in ENDED, lambda: f"{run} goes on: {self.tasks(run)}", seconds)
        return self.state(run)

    def succeed(self, run: Run, *, seconds: float = SECONDS) -> None:
        """Wait for a run's end, and fail with the logs of what failed if that is no success."""
        if self.wait(run, seconds=seconds) == "success":
            return
        failed = [name for name, state in self.tasks(run).items() if state == "failed"]
        logs = "\n".join(
            f"== {task_id} {map_index}\n{self.log(run, task_id, map_index)}" for task_id, map_index in failed
        )
        raise AssertionError(f"{run} ended with {self.tasks(run)}\n{logs}")

    def task_instances(self, run: Run) -> list[dict[str, Any]]:
        """The task instances of a run, as the API shows them."""
        listed: list[dict[str, Any]] = self.request("GET", f"{_run_path(run)}/taskInstances?limit=1000")[
            "task_instances"
        ]
        return listed

    def tasks(self, run: Run) -> dict[tuple[str, int], str | None]:
        """The state of each task instance of a run, by its task id and map index."""
        return {(one["task_id"], one["map_index"]): one["state"] for one in self.task_instances(run)}

    def wait_for_task(
        self, run: Run, task_id: str, states: Iterable[str], map_index: int = -1, *, seconds: float = SECONDS
    ) -> None:
        """Wait until a task instance is in one of some states."""
        wanted = set(states)
        wait_until(
            lambda: self.tasks(run).get((task_id, map_index)) in wanted,
            lambda: f"{task_id} of {run} is not {wanted}: {self.tasks(run)}",
            seconds,
        )

    def log(self, run: Run, task_id: str, map_index: int = -1, *, attempt: int = 0) -> str:
        """What a try of a task said, a line for each event; by default its last."""
        number = attempt or next(
            one["try_number"]
            for one in self.task_instances(run)
            if (one["task_id"], one["map_index"]) == (task_id, map_index)
        )
        path = f"{_run_path(run)}/taskInstances/{_part(task_id)}/logs/{number}"
        answer = self.request("GET", f"{path}?{urlencode({'map_index': map_index, 'full_content': 'true'})}")
        return "\n".join(_line(event) for event in answer["content"])

    def clear(self, run: Run, *task_ids: str, downstream: bool = False) -> None:
        """Clear tasks of a run, whatever their state: they run again."""
        body = {
            "dry_run": False,
            "dag_run_id": run.run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "include_downstream": downstream,
        }
        self.request("POST", f"/api/v2/dags/{_part(run.dag_id)}/clearTaskInstances", body)

    def set_state(self, run: Run, task_id: str, state: str) -> None:
        """Mark a task as succeeded or failed, as a person does in the UI; what runs of it is ended."""
        self.request("PATCH", f"{_run_path(run)}/taskInstances/{_part(task_id)}", {"new_state": state})

    def extra_links(self, run: Run, task_id: str, map_index: int = -1) -> dict[str, str | None]:
        """The extra links of a task instance."""
        path = f"{_run_path(run)}/taskInstances/{_part(task_id)}/links?map_index={map_index}"
        links: dict[str, str | None] = self.request("GET", path)["extra_links"]
        return links

    def xcom(self, run: Run, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """A value that a task has pushed."""
        path = f"{_run_path(run)}/taskInstances/{_part(task_id)}/xcomEntries/{_part(key)}?map_index={map_index}"
        return self.request("GET", path)["value"]


def wait_until(true: Callable[[], bool], words: str | Callable[[], str], seconds: float) -> None:
    """Wait for something to become true.

    Raises:
        AssertionError: It did not in time; says `words`.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"{words if isinstance(words, str) else words()} after {seconds:g} s")
        time.sleep(0.3)


def _run_path(run: Run) -> str:
    return f"/api/v2/dags/{_part(run.dag_id)}/dagRuns/{_part(run.run_id)}"


def _part(text: str) -> str:
    """An id as one part of a path; a dot is encoded, so that no part is `..`."""
    return quote(text, safe="").replace(".", "%2E")


def _line(event: Any) -> str:
    if isinstance(event, str):
        return event
    # The rest says which task this is, on every line.
    errors = [f"{one['exc_type']}: {one['exc_value']}" for one in event.get("error_detail") or ()]
    return " ".join([str(event.get("event", "")), *errors])
