"""F8: Spark tasks that fail and are tried again, and two Spark jobs for one task at once. Rows and checksums are exact."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from datalayer import DataLayer, TaskKey
from datalayer.config import Config, Connection, TierConfig
from datalayer.errors import CommitConflictError
from spark_env import read, session, write

KEY = TaskKey("aviation", "flights", "delays", run="20130101T000000Z")


@pytest.fixture(params=["shared-fs", "s3-direct"])
def layer(request: pytest.FixtureRequest, tmp_path: Path, spark: SparkSession) -> DataLayer:
    if request.param == "shared-fs":
        config = Config(design="shared-fs", tiers={"shared": TierConfig(url=str(tmp_path))})
    else:
        server = request.getfixturevalue("versitygw")
        user = server.root
        lake = Connection(
            endpoint=server.endpoint,
            region=server.region,
            access_key_id=user.access_key,
            secret_access_key=user.secret_key,
        )
        cold = TierConfig(url=f"s3://{server.new_bucket()}/root", connection="lake")
        config = Config(design="s3-direct", tiers={"cold": cold}, connections={"lake": lake})
    layer = DataLayer(config)
    session(layer)
    return layer


def job(spark: SparkSession, name: str) -> DataFrame:
    return spark.range(0, 400, 1, 4).selectExpr("id", f"'{name}' as job")


def rows_of(frame: DataFrame) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in frame.collect())


def test_f08_a_task_that_fails_and_is_tried_again_gives_exact_rows(spark: SparkSession, layer: DataLayer) -> None:
    def fail_first(parts: Any) -> Any:
        from pyspark import TaskContext

        running = TaskContext.get()
        assert running is not None
        for number, part in enumerate(parts):
            yield part
            # Some rows are written, and the file is lost half way.
            if running.partitionId() == 1 and running.attemptNumber() == 0 and number == 2:
                raise RuntimeError("this executor was lost")

    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "10")
    frame = job(spark, "one").mapInArrow(fail_first, "id long, job string")
    with layer.publish(KEY) as attempt:
        write(frame, attempt.output("default"))
    output = layer.resolve(KEY)["default"]
    assert rows_of(read(spark, output)) == [(number, "one") for number in range(400)]
    assert output.output.rows == 400
    assert sum(name.endswith(".parquet") for name in output.files) == 4
    landed = {info.path.rpartition("/default/")[2] for info in layer.data.list(f"{KEY.path}/attempts/1/default")}
    assert landed == set(output.files)


def test_f08_of_two_jobs_for_one_task_at_once_one_is_the_output_whole(spark: SparkSession, layer: DataLayer) -> None:
    def run(name: str) -> str | None:
        try:
            with layer.publish(KEY) as attempt:
                write(job(spark, name), attempt.output("default"))
        except CommitConflictError:
            return None
        return name

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(run, ["one", "two"]))
    resolution = layer.resolve(KEY)
    # The higher attempt is the head, whichever of the two jobs has it and in whichever order they ended.
    assert resolution.attempt == 2
    output = resolution["default"]
    rows = rows_of(read(spark, output))
    winner = rows[0][1]
    assert winner in ended
    assert rows == [(number, winner) for number in range(400)]
    assert output.output.rows == 400
