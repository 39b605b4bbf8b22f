"""Spark in a job: what ``open_task()`` gives it, under every storage design."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from datalayer import DataLayer, TaskKey, open_task
from datalayer.addresses.keys import DEFAULT_OUTPUT
from datalayer.config import Config, Connection, TierConfig
from datalayer.errors import PublishError
from datalayer.handoff.context import InputSpec, OutputSpec, TaskContext
from spark_env import read, session, task_conf, write
from tests.services.s3server import S3Server

RUN = "20130101T000000Z"
KEY = TaskKey("aviation", "flights", "delays", run=RUN)


@pytest.fixture(params=["s3-poc", "shared-fs", "s3-direct"])
def layer(request: pytest.FixtureRequest, tmp_path: Path) -> DataLayer:
    if request.param == "shared-fs":
        return DataLayer(Config(design="shared-fs", tiers={"shared": TierConfig(url=str(tmp_path / "volume"))}))
    server: S3Server = request.getfixturevalue("versitygw")
    lake = Connection(
        endpoint=server.endpoint,
        region=server.region,
        access_key_id=server.root.access_key,
        secret_access_key=server.root.secret_key,
    )
    cold = TierConfig(url=f"s3://{server.new_bucket()}/root", connection="lake")
    return DataLayer(Config(design=request.param, tiers={"cold": cold}, connections={"lake": lake}))


@pytest.fixture
def environ(layer: DataLayer, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "volume").mkdir()
    for index in (0, 1):
        with layer.publish(TaskKey("aviation", "flights", "extract", run=RUN, map_index=index)) as attempt:
            attempt.output().write_table(pa.table({"id": [10 * index, 10 * index + 1], "delay": [5, None]}))
    with layer.publish(TaskKey("aviation", "flights", "weather", run=RUN)) as attempt:
        attempt.output("hourly").write_table(pa.table({"id": [0, 10, 11], "wind": [1.5, 2.5, 3.5]}))
    context = TaskContext(
        key=str(KEY),
        inputs={
            "extract": InputSpec(map_indexes=[0, 1], access="in-place"),
            "weather": InputSpec(access="in-place"),
        },
        outputs={DEFAULT_OUTPUT: OutputSpec(), "late": OutputSpec()},
    )
    path = tmp_path / "context.json"
    path.write_bytes(context.encode())
    return {"DATALAYER_CONTEXT": str(path)}


def rows_of(frame: DataFrame) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in frame.collect())


def test_a_job_joins_its_inputs_and_commits(spark: SparkSession, layer: DataLayer, environ: dict[str, str]) -> None:
    with open_task(layer=layer, environ=environ) as task:
        assert session(task) is spark
        first, second = (read(spark, output) for output in task.inputs("extract"))
        joined = first.union(second).join(read(spark, task.input("weather", "hourly")), "id")
        write(joined, task.output())
        write(joined.where("delay > 60"), task.output("late"))
    resolution = layer.resolve(KEY)
    assert rows_of(read(spark, resolution["default"])) == [(0, 5, 1.5), (10, 5, 2.5), (11, None, 3.5)]
    assert (resolution["default"].output.rows, resolution["late"].output.rows) == (3, 0)
    assert [pin.alias for pin in resolution.manifest.inputs] == ["extract", "extract", "weather"]


def test_a_job_of_any_language_finds_its_data_in_the_settings(
    spark: SparkSession, layer: DataLayer, environ: dict[str, str]
) -> None:
    with open_task(layer=layer, environ=environ) as task:
        session(task)
        told = task_conf(task)
        inputs = [name for name in told if ".input." in name]
        assert inputs == [
            "spark.datalayer.input.extract.0.default",
            "spark.datalayer.input.extract.1.default",
            "spark.datalayer.input.weather.hourly",
        ]
        # As a job would that knows Spark and nothing of us.
        assert spark.read.parquet(str(spark.conf.get(inputs[1]))).count() == 2
        for name in ("default", "late"):
            spark.range(7).write.mode("overwrite").parquet(str(spark.conf.get(f"spark.datalayer.output.{name}")))
    assert read(spark, layer.resolve(KEY)["late"]).count() == 7


def test_what_fails_commits_nothing(spark: SparkSession, layer: DataLayer, environ: dict[str, str]) -> None:
    with (
        pytest.raises(PublishError, match="Spark could not write"),
        open_task(layer=layer, environ=environ) as task,
    ):
        session(task)
        write(spark.range(5), task.output("late"))
        write(spark.range(5).selectExpr("assert_true(id < 3)"), task.output())
    landed = [info.path for info in layer.home.list(KEY.path)]
    assert [path.rpartition("/")[2] for path in landed] == ["claim.json"]
