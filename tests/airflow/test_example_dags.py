"""The DAG files in `examples/`, as they are, by a scheduler with LocalExecutor on PostgreSQL."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from datalayer import CommitConflictError, TaskKey
from examples.flights.workflow import DAG
from tests.airflow.conftest import TEAM, Deployment
from tests.airflow.test_runs import key_of, read
from tests.services.airflow_api import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"


def add_example(deployment: Deployment, path: str, dag_id: str) -> None:
    source = EXAMPLES / path
    deployment.airflow.add_dag(source.name, source.read_text())
    deployment.airflow.wait_for_dag(dag_id)


def make_bucket(deployment: Deployment, name: str) -> None:
    with deployment.s3.client() as client:
        try:
            client.create_bucket(Bucket=name)
        except ClientError as error:
            assert "BucketAlready" in str(error)  # noqa: PT017  # by an earlier test, which left it


def names_below(deployment: Deployment, bucket: str, folder: str) -> list[str]:
    with deployment.s3.client() as client:
        found = client.list_objects_v2(Bucket=bucket, Prefix=folder).get("Contents", [])
    return [one["Key"].removeprefix(folder) for one in found]


DESIGNS = [
    "s3-direct",
    *(pytest.param(design, marks=pytest.mark.nightly) for design in ("s3-poc", "hot-cold", "shared-fs")),
]


@pytest.mark.parametrize("design", DESIGNS)
def test_flights(deployment: Deployment, design: str) -> None:
    layer = deployment.use_design(design)
    make_bucket(deployment, "reports")
    add_example(deployment, "flights/dags/flights.py", DAG)
    run = deployment.airflow.trigger(DAG, logical_date="2013-01-01T00:00:00Z")
    deployment.airflow.succeed(run, seconds=600)
    delays = layer.resolve(key_of(run, "delays"))
    assert delays["default"].dataset().count_rows() > 3
    assert read(layer, key_of(run, "by_airport"), "by_airport.csv").startswith("origin,")
    assert "by_airport.csv" in names_below(deployment, "reports", "flights/by_airport/")
    assert any(name.endswith(".parquet") for name in names_below(deployment, "reports", "flights/delays/"))
    assert "Delivered output default to s3://reports/flights/delays" in deployment.airflow.log(run, "delays")


def test_a_stock_extract_feeds_a_job(deployment: Deployment) -> None:
    layer = deployment.use_design("s3-direct")
    make_bucket(deployment, "raw")
    make_bucket(deployment, "reports")
    add_example(deployment, "dags/moving.py", "moving")
    run = deployment.airflow.trigger("moving")
    deployment.airflow.succeed(run)
    assert read(layer, key_of(run, "long_calls"), "long.csv").split() == ["call,seconds", "1,12", "3,45"]
    assert "long.csv" in names_below(deployment, "reports", "calls/")


def test_the_sweep_removes_what_a_crash_left(deployment: Deployment) -> None:
    layer = deployment.use_design("shared-fs")
    key = TaskKey(TEAM, "crashed", "job", "20260101T000000Z")
    attempt = layer.publish(key)
    attempt.output().put("half.csv", b"1,2")
    folder = Path(layer.config.tiers["shared"].url)
    assert list(folder.rglob("half.csv"))
    two_days_ago = time.time() - 2 * 86_400
    for path in folder.rglob("*"):
        os.utime(path, (two_days_ago, two_days_ago))
    add_example(deployment, "dags/sweep.py", "datalayer_sweep")
    run = deployment.airflow.trigger("datalayer_sweep")
    deployment.airflow.wait_for_task(run, "outputs", {"success"})
    # By this run, or by the hourly one that the scheduler began at once.
    wait_until(lambda: not list(folder.rglob("half.csv")), "half.csv is there", 60)
    with pytest.raises(CommitConflictError):
        attempt.commit()
