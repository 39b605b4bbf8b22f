"""The Airflow that tests rely on: real, on loopback alone, and gone afterwards."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from tests.services.airflow import AirflowServer, airflow_server
from tests.services.postgres import PostgresServer, postgres_server
from tests.services.process import HOST

DAG = """
from airflow.sdk import DAG, task

with DAG({dag_id!r}, schedule="@daily"):

    @task(task_id={task_id!r})
    def speak(which):
        print("this is run", which)
        # Airflow's own client cannot push a value where an id does not fit into a URL.
        return "said" if {dag_id!r}.isalnum() else None

    speak("{{{{ run_id }}}}")
"""
HOSTILE = ("..", "übung\n", ".")


def works(process: psutil.Process) -> bool:
    """Whether a process is still at work. One that has ended may wait for this machine's first process to take note."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listens(process: psutil.Process) -> bool:
    """Whether a process has a network socket. PostgreSQL's own come and go."""
    try:
        return bool(process.net_connections("inet"))
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def airflow(postgres: PostgresServer) -> Iterator[AirflowServer]:
    with airflow_server(postgres, {}) as server:
        parts = [psutil.Process(server.pid(part)) for part in ("api-server", "scheduler", "dag-processor", "triggerer")]
        family = [*parts, *(child for part in parts for child in part.children(recursive=True))]
        yield server
    assert not [one for one in family if works(one)]


def test_postgres_is_reached_by_a_socket_and_by_nothing_else(postgres: PostgresServer) -> None:
    family = [psutil.Process(postgres.pid), *psutil.Process(postgres.pid).children()]
    assert len(family) > 1
    assert not [process for process in family if listens(process)]
    assert family[0].uids().real != 0
    assert postgres.folder.stat().st_mode & 0o077 == 0
    assert postgres.query("postgres", "SHOW server_version").startswith("15.")


def test_a_database_is_a_copy_of_its_template(postgres: PostgresServer) -> None:
    postgres.new_database("first")
    postgres.query("first", "CREATE TABLE numbers AS SELECT generate_series(1, 3) AS number")
    postgres.new_database("second", template="first")
    assert postgres.query("second", "SELECT number FROM numbers").split() == ["1", "2", "3"]
    with pytest.raises(RuntimeError, match='"first" already exists'):
        postgres.new_database("first")


def test_nothing_is_left_of_a_postgres_whose_owner_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from tests.services.postgres import postgres_server\n"
        "with postgres_server() as server:\n"
        "    print(server.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert owner.stdout is not None
    with owner.stdout:
        server = psutil.Process(int(owner.stdout.readline()))
        family = [server, *server.children()]
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert not psutil.wait_procs(family, timeout=30)[1]


def test_airflow_listens_on_loopback_alone(airflow: AirflowServer) -> None:
    places = set()
    for part in ("api-server", "scheduler", "dag-processor", "triggerer"):
        process = psutil.Process(airflow.pid(part))
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                places |= {place.laddr for place in one.net_connections("inet") if place.status == "LISTEN"}
    assert places == {(HOST, airflow.port)}


@pytest.mark.parametrize("dag_id", HOSTILE)
def test_a_run_is_triggered_watched_cleared_and_read_of(airflow: AirflowServer, dag_id: str) -> None:
    airflow.add_dag(f"dag_{HOSTILE.index(dag_id)}.py", DAG.format(dag_id=dag_id, task_id=dag_id))
    airflow.wait_for_dag(dag_id)
    run = airflow.trigger(dag_id)
    assert run.logical_date is None
    airflow.succeed(run)
    assert f"this is run {run.run_id}" in airflow.log(run, dag_id)
    airflow.clear(run, dag_id)
    airflow.succeed(run)
    assert {(one["task_id"], one["try_number"]) for one in airflow.task_instances(run)} == {(dag_id, 2)}


def test_a_backfill_has_a_run_for_each_date(airflow: AirflowServer) -> None:
    airflow.add_dag("days.py", DAG.format(dag_id="days", task_id="speak"))
    airflow.wait_for_dag("days")
    runs = airflow.backfill("days", datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 3, tzinfo=UTC), runs=3)
    for run in runs:
        airflow.succeed(run)
        assert airflow.xcom(run, "speak") == "said"
    assert [run.logical_date for run in runs] == [f"2026-02-0{day}T00:00:00Z" for day in (1, 2, 3)]


def test_a_dag_file_that_cannot_be_parsed_says_why(airflow: AirflowServer) -> None:
    path = airflow.add_dag(
        "broken.py", "# What names no airflow and no dag is not parsed.\nraise ValueError('no good')\n"
    )
    try:
        with pytest.raises(RuntimeError, match="no good"):
            airflow.wait_for_dag("broken", seconds=60)
    finally:
        path.unlink()
    deadline = time.monotonic() + 120
    while airflow.import_errors() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not airflow.import_errors()
