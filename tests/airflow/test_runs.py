"""Runs by a scheduler with LocalExecutor on PostgreSQL; jobs are processes of its workers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from datalayer import DataLayer, NotPublishedError, RunId, TaskKey
from datalayer.addresses.runs import run_segment
from tests.airflow.conftest import TEAM, Deployment
from tests.services.airflow_api import Run

CHAIN = """
from datetime import UTC, datetime
from airflow.sdk import DAG
from airflow_ops import ExecutionEnvironmentOperator

with DAG({dag_id!r}, schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False):
    numbers = ExecutionEnvironmentOperator(
        task_id={numbers!r},
        image="any",
        cmds=["sh", "-c"],
        arguments=['seq 1 "$COUNT" > "$DATALAYER_OUT/default/numbers.txt"'],
        env_vars={{"COUNT": "{{{{ dag_run.conf.get('count', 3) }}}}"}},
    )
    ExecutionEnvironmentOperator(
        task_id={total!r},
        image="any",
        cmds=["sh", "-c"],
        arguments=['cat "$DATALAYER_IN"/*/default/numbers.txt | paste -sd+ | bc > "$DATALAYER_OUT/default/total.txt"'],
        inputs={{"numbers": numbers.output}},
    )
"""


@pytest.fixture
def layer(deployment: Deployment) -> DataLayer:
    return deployment.use_design("shared-fs")


def add(deployment: Deployment, name: str, source: str, dag_id: str) -> None:
    deployment.airflow.add_dag(name, source)
    deployment.airflow.wait_for_dag(dag_id)


def key_of(run: Run, task_id: str, map_index: int | None = None) -> TaskKey:
    date = None if run.logical_date is None else datetime.fromisoformat(run.logical_date)
    return TaskKey(TEAM, run.dag_id, task_id, run_segment(date or RunId(run.run_id)), map_index)


def read(layer: DataLayer, key: TaskKey, name: str) -> str:
    return layer.resolve(key)["default"].read_bytes(name).decode().strip()


def test_a_run_with_a_logical_date_and_one_without_have_addresses_of_their_own(
    deployment: Deployment, layer: DataLayer
) -> None:
    airflow = deployment.airflow
    add(deployment, "chain.py", CHAIN.format(dag_id="chain", numbers="numbers", total="total"), "chain")
    dated = airflow.trigger("chain", logical_date="2026-02-03T04:05:06Z", conf={"count": 4})
    undated = airflow.trigger("chain", conf={"count": 5})
    airflow.succeed(dated)
    airflow.succeed(undated)
    assert key_of(dated, "total").run == "20260203T040506Z"
    assert read(layer, key_of(dated, "total"), "total.txt") == "10"
    assert key_of(undated, "total").run.startswith("run_id-manual__")
    assert read(layer, key_of(undated, "total"), "total.txt") == "15"
    log = airflow.log(dated, "total")
    assert f"Input numbers: {key_of(dated, 'numbers')}, attempt 1" in log
    assert "Committed output default: 1 file" in log


def test_a_clear_and_a_second_run_supersede_the_first(deployment: Deployment, layer: DataLayer) -> None:
    airflow = deployment.airflow
    add(deployment, "chain.py", CHAIN.format(dag_id="chain", numbers="numbers", total="total"), "chain")
    run = airflow.trigger("chain", logical_date="2026-02-04T00:00:00Z")
    airflow.succeed(run)
    first = layer.resolve(key_of(run, "numbers"))
    airflow.clear(run, "numbers", downstream=True)
    airflow.succeed(run)
    second = layer.resolve(key_of(run, "numbers"))
    assert (first.attempt, second.attempt) == (1, 2)
    # The reader read the second; who held the first, still reads it.
    total = layer.resolve(key_of(run, "total"))
    assert [one.attempt for one in total.manifest.inputs] == [2]
    assert first["default"].read_bytes("numbers.txt") == b"1\n2\n3\n"


def test_a_backfill_has_an_address_for_each_date(deployment: Deployment, layer: DataLayer) -> None:
    airflow = deployment.airflow
    add(deployment, "chain.py", CHAIN.format(dag_id="chain", numbers="numbers", total="total"), "chain")
    runs = airflow.backfill("chain", datetime(2026, 1, 10, tzinfo=UTC), datetime(2026, 1, 12, tzinfo=UTC), runs=3)
    for run in runs:
        airflow.succeed(run)
    assert [read(layer, key_of(run, "total"), "total.txt") for run in runs] == ["6", "6", "6"]
    assert {key_of(run, "total").run for run in runs} == {f"202601{day}T000000Z" for day in (10, 11, 12)}


MAPPED = """
from datetime import UTC, datetime
from airflow.sdk import DAG
from airflow_ops import ExecutionEnvironmentOperator

with DAG("mapped", schedule=None):
    parts = ExecutionEnvironmentOperator.partial(
        task_id="parts", image="any", cmds=["sh", "-c", 'echo "$1" > "$DATALAYER_OUT/default/part.txt"', "sh"]
    ).expand(arguments=[["one"], ["two"], ["three"]])
    ExecutionEnvironmentOperator(
        task_id="whole",
        image="any",
        cmds=["sh", "-c", 'cat "$DATALAYER_IN"/parts/*/default/part.txt > "$DATALAYER_OUT/default/whole.txt"'],
        job_config={"input": {"operators": [{"task_id": "parts"}]}},
    ).set_upstream(parts)
"""


def test_a_mapped_task_has_an_address_for_each_index_and_is_read_whole(
    deployment: Deployment, layer: DataLayer
) -> None:
    airflow = deployment.airflow
    add(deployment, "mapped.py", MAPPED, "mapped")
    run = airflow.trigger("mapped")
    airflow.succeed(run)
    parts = [read(layer, key_of(run, "parts", index), "part.txt") for index in range(3)]
    assert parts == ["one", "two", "three"]
    assert read(layer, key_of(run, "whole"), "whole.txt").split() == parts


RETRY = """
from datetime import UTC, datetime, timedelta
from airflow.sdk import DAG
from airflow_ops import ExecutionEnvironmentOperator

with DAG("retry", schedule=None):
    ExecutionEnvironmentOperator(
        task_id="second_time_lucky",
        image="any",
        cmds=["sh", "-c", 'echo {{ ti.try_number }} > "$DATALAYER_OUT/default/try.txt"; test {{ ti.try_number }} = 2'],
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
    ExecutionEnvironmentOperator(task_id="never", image="any", cmds=["false"])
"""


def test_a_try_that_fails_commits_nothing_and_the_next_one_does(deployment: Deployment, layer: DataLayer) -> None:
    airflow = deployment.airflow
    add(deployment, "retry.py", RETRY, "retry")
    run = airflow.trigger("retry")
    assert airflow.wait(run) == "failed"
    assert airflow.tasks(run) == {("second_time_lucky", -1): "success", ("never", -1): "failed"}
    found = layer.resolve(key_of(run, "second_time_lucky"))
    assert (found.attempt, found["default"].read_bytes("try.txt")) == (2, b"2\n")
    assert "exit code 1" in airflow.log(run, "second_time_lucky", attempt=1)
    with pytest.raises(NotPublishedError):
        layer.resolve(key_of(run, "never"))


ABSENT = """
from airflow.sdk import DAG
from airflow_ops import ExecutionEnvironmentOperator, task_output

with DAG("absent", schedule=None):
    ExecutionEnvironmentOperator(
        task_id="reader",
        image="any",
        cmds=["true"],
        inputs={"weather": task_output("nobody", "load", run="20130101T000000Z")},
        retries=0,
    )
"""


def test_an_input_that_is_not_there_fails_the_task_before_its_job(deployment: Deployment, layer: DataLayer) -> None:
    airflow = deployment.airflow
    add(deployment, "absent.py", ABSENT, "absent")
    run = airflow.trigger("absent")
    assert airflow.wait(run) == "failed"
    log = airflow.log(run, "reader")
    assert "/aviation/nobody/load/20130101T000000Z" in log
    assert "Running as a process" not in log


HOSTILE = ("..", "übung", ".")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_ids_run_and_stay_below_their_team(deployment: Deployment, layer: DataLayer, name: str) -> None:
    airflow = deployment.airflow
    source = CHAIN.format(dag_id=name, numbers=name, total="total")
    add(deployment, f"hostile_{HOSTILE.index(name)}.py", source, name)
    run = airflow.trigger(name, run_id="~+:." if name == "übung" else None)
    airflow.succeed(run)
    key = TaskKey(TEAM, name, "total", run_segment(RunId(run.run_id)))
    assert read(layer, key, "total.txt") == "6"
