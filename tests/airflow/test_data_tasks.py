"""`@task`, sensors, hooks and publishing tasks in real runs: `dag.test()` on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datalayer import DataLayer, RunId, TaskKey
from datalayer.config import Config
from tests.airflow.dag_test import DagTest, Ran, dag_test_process

TEAM = "aviation"
RUN = "20261123T080000Z"
DATE = "2026-11-23T08:00:00+00:00"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DagTest, Path]]:
    settings = tmp_path_factory.mktemp("settings") / "datalayer.toml"
    settings.write_text("")
    named = {"AIRFLOW__DATALAYER__TEAM": TEAM, "AIRFLOW__DATALAYER__CONFIG_FILE": str(settings)}
    with dag_test_process(named) as airflow:
        yield airflow, settings


@pytest.fixture
def airflow(process: tuple[DagTest, Path], tmp_path: Path) -> DagTest:
    """The process, on a volume of this test's own."""
    process[1].write_text(f'design = "shared-fs"\n[tiers.shared]\nurl = "{tmp_path / "volume"}"\n')
    (tmp_path / "volume").mkdir()
    return process[0]


@pytest.fixture
def layer(airflow: DagTest, process: tuple[DagTest, Path]) -> DataLayer:
    return DataLayer(Config.load(environ={"DATALAYER_CONFIG": str(process[1])}))


def key(dag_id: str, task_id: str, run: Any = RUN, map_index: int | None = None) -> TaskKey:
    return TaskKey(TEAM, dag_id, task_id, run, map_index)


def succeeded(ran: Ran) -> Ran:
    assert ran.state == "success", ran.log
    return ran


CHAIN = """
with DAG("chain", schedule=None, start_date=START):
    @task
    def extract():
        import pandas
        return pandas.DataFrame({"a": [1, 2, 3]})

    extracted = extract()

    @task(outlets=[Asset("few")])
    def few(flights=input_of(extracted)):
        return flights.dataset().to_table().slice(0, 2)

    @task
    def count(table):
        return {"rows": table.dataset().count_rows()}

    count(few())
"""


def test_a_function_reads_what_others_return(airflow: DagTest, layer: DataLayer) -> None:
    ran = succeeded(airflow.run(CHAIN, "chain"))
    found = layer.resolve(key("chain", "count"))
    assert found["default"].read_bytes("data.json") == b'{"rows": 2}'
    few = layer.resolve(key("chain", "few"))
    assert few["default"].output.rows == 2
    assert [(one.key, one.attempt) for one in few.manifest.inputs] == [(str(key("chain", "extract")), 1)]
    assert ran.xcoms["few/return_value"] == f"task://aviation/chain/few/{RUN}@1/default"
    assert ran.events == {
        "few": {
            "key": str(few.key),
            "attempt": 1,
            "digest": few.digest,
            "outputs": {"default": f"task://aviation/chain/few/{RUN}@1/default"},
        }
    }


def test_the_link_leads_to_the_output(airflow: DagTest, layer: DataLayer) -> None:
    ran = succeeded(airflow.run(CHAIN, "chain"))
    assert ran.xcoms["few/_link_datalayer_output"].endswith("/tasks/few/xcom")
    place = layer.resolve(key("chain", "few"))["default"].location
    assert ran.xcoms["few/datalayer_output"]["places"] == {"default": str(place)}
