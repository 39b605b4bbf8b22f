"""A process that runs single tasks with Airflow's own task runner, each in a forked child, so that a test can kill one at any moment.

One request a line. What the worker would ask of Airflow's API server is answered here: there are no connections but the environment's, and no
XComs.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    _import_all()
    answers.write("{}\n")
    for line in sys.stdin:
        request = json.loads(line)
        if request["verb"] == "wait":
            _, status = os.waitpid(request["pid"], 0)
            answers.write(json.dumps({"status": status}) + "\n")
            continue
        pid = os.fork()
        if pid == 0:
            answers.close()
            _child(request)
        answers.write(json.dumps({"pid": pid}) + "\n")


def _import_all() -> None:

    import airflow_ops.operators.spark  # noqa: F401  # imported for what it registers


def _child(request: dict[str, Any]) -> None:
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= request["environment"]
    result: dict[str, Any]
    try:
        result = _run(request)
    except BaseException as error:  # noqa: BLE001  # the test reads it
        traceback.print_exc()
        result = {"state": f"crashed: {error!r}"}
    sys.stdout.flush()
    sys.stderr.flush()
    fresh = Path(request["result"]).with_suffix(".new")
    fresh.write_text(json.dumps(result))
    fresh.rename(request["result"])
    os._exit(0)


def _run(request: dict[str, Any]) -> dict[str, Any]:
    from airflow.sdk.api.client import Client
    from airflow.sdk.api.datamodels._generated import TaskInstance
    from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor

    names: dict[str, Any] = {}
    exec(compile(request["source"], "dag.py", "exec"), names)
    task = names["dag"].task_dict[request["task_id"]]
    told = TaskInstance(
        id=UUID(request["id"]),
        task_id=task.task_id,
        dag_id=task.dag_id,
        run_id=request["run_id"],
        try_number=request["try_number"],
        map_index=-1,
        dag_version_id=UUID(int=1),
    )
    client = Client(base_url=None, token="", dry_run=True, transport=httpx.MockTransport(_Server(request)))
    done = InProcessTestSupervisor.start(what=told, task=task, client=client)
    return {"state": getattr(done.state, "value", str(done.state)), "error": str(done.error) if done.error else None}


class _Server:
    """What a task asks for while it runs."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request

    def __call__(self, asked: httpx.Request) -> httpx.Response:
        path = asked.url.path
        if re.fullmatch(r"/task-instances/[^/]+/run", path):
            run = {
                "dag_id": self._request["dag_id"],
                "run_id": self._request["run_id"],
                "logical_date": self._request["logical_date"],
                **dict.fromkeys(("data_interval_start", "data_interval_end", "end_date", "partition_key")),
                "start_date": self._request["logical_date"],
                "run_after": self._request["logical_date"],
                "run_type": "manual",
                "state": "running",
                "consumed_asset_events": [],
            }
            return httpx.Response(200, json={"dag_run": run, "max_tries": 3, "should_retry": True})
        if asked.method == "GET":
            return httpx.Response(404, json={"detail": {"reason": "not_found", "message": path}})
        return httpx.Response(200, json={"message": "done"})


if __name__ == "__main__":
    main()
