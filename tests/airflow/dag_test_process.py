"""A process that parses DAG files and runs them with `dag.test()`, one request a line; so Airflow is imported once. See `dag_test`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    log = Path(sys.argv[1]).open("ab", buffering=0)  # noqa: SIM115  # it stays open
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    from airflow.utils.db import initdb

    initdb()
    answers.write("{}\n")
    for line in sys.stdin:
        request = json.loads(line)
        begun = os.fstat(log.fileno()).st_size
        os.environ |= request.get("environment", {})
        try:
            answer = _answer(request)
        except Exception as error:  # noqa: BLE001  # whatever it is, the test is told
            answer = {"error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(json.dumps({"begun": begun, **answer}) + "\n")


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = DagBag(request["file"], bundle_path=Path(request["folder"]))
    if request["verb"] == "parse" or bag.import_errors:
        serialized = {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in bag.dags.items()}
        tasks = {task["__var"]["task_id"]: task["__var"] for dag in serialized.values() for task in dag["dag"]["tasks"]}
        return {"import_errors": list(bag.import_errors.values()), "tasks": tasks}
    date = request["logical_date"]
    run = bag.dags[request["dag_id"]].test(
        logical_date=datetime.fromisoformat(date) if date else None, run_conf=request["conf"]
    )
    return {"import_errors": [], "run_id": run.run_id, "state": str(run.state), **_found(run.dag_id, run.run_id)}


def _found(dag_id: str, run_id: str) -> dict[str, Any]:
    from airflow.models.asset import AssetEvent
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    def name(row: Any) -> str:
        return row.task_id if row.map_index < 0 else f"{row.task_id}[{row.map_index}]"

    with create_session() as session:
        instances = session.scalars(select(TaskInstance).filter_by(dag_id=dag_id, run_id=run_id)).all()
        xcoms = session.scalars(select(XComModel).filter_by(dag_id=dag_id, run_id=run_id)).all()
        events = session.scalars(select(AssetEvent).filter_by(source_dag_id=dag_id, source_run_id=run_id)).all()
        return {
            "tasks": {name(one): {"state": str(one.state), "tries": one.try_number} for one in instances},
            "xcoms": {f"{name(one)}/{one.key}": XComModel.deserialize_value(one) for one in xcoms},
            "events": {one.source_task_id: one.extra for one in events},
        }


if __name__ == "__main__":
    main()
