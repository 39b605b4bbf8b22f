"""Spark reads and writes task data in place: on a volume and on S3, one session for all tests."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyspark.sql import DataFrame, SparkSession

from datalayer import DataLayer, TaskKey
from datalayer.config import Config, Connection, ReferencePrefix, TierConfig
from datalayer.errors import (
    ConfigError,
    NotFoundError,
    NotPublishedError,
    NotSupportedError,
    PublishError,
    ResolutionError,
    VerificationError,
)
from spark_env import read, session, write
from spark_env import reading as reading_module
from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server

COMMITTERS = {
    "s3-direct": "magic",
    "shared-fs": "org.apache.hadoop.mapreduce.lib.output.committer.manifest.ManifestCommitter",
}
runs = (f"run_id-{number}" for number in itertools.count())


def a_key() -> TaskKey:
    return TaskKey("aviation", "flights", "delays", run=next(runs))


@pytest.fixture(params=["shared-fs", "s3-direct"])
def layer(request: pytest.FixtureRequest, tmp_path: Path, spark: SparkSession) -> DataLayer:
    if request.param == "shared-fs":
        root = tmp_path / "root [1] {a,b} 50%*?"  # what Spark would take for a pattern
        root.mkdir()
        layer = DataLayer(Config(design="shared-fs", tiers={"shared": TierConfig(url=str(root))}))
    else:
        layer = on_s3(request.getfixturevalue("versitygw"))
    assert session(layer) is spark
    return layer


def on_s3(server: S3Server, endpoint: str | None = None) -> DataLayer:
    connection = Connection(
        endpoint=endpoint or server.endpoint,
        region=server.region,
        access_key_id=server.root.access_key,
        secret_access_key=server.root.secret_key,
    )
    cold = TierConfig(url=f"s3://{server.new_bucket()}/root", connection="lake")
    return DataLayer(Config(design="s3-direct", tiers={"cold": cold}, connections={"lake": connection}))


def numbers(spark: SparkSession, rows: int = 1000, parts: int = 3) -> DataFrame:
    return spark.range(0, rows, 1, parts).selectExpr(
        "id", "cast(id as string) as text", "id / 7 as share", "timestamp_seconds(id * 3600) as hour", "id % 3 as third"
    )


def rows_of(frame: DataFrame) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in frame.collect())


def test_what_is_written_is_read_row_for_row(spark: SparkSession, layer: DataLayer) -> None:
    frame, key = numbers(spark), a_key()
    with layer.publish(key) as attempt:
        write(frame, attempt.output("default"))
    output = layer.resolve(key)["default"]
    assert rows_of(read(spark, output)) == rows_of(frame)
    assert output.output.rows == 1000
    assert [(field.name, field.type) for field in output.output.schema or ()] == [
        ("id", "int64"),
        ("text", "string"),
        ("share", "double"),
        ("hour", "timestamp[us, tz=UTC]"),
        ("third", "int64"),
    ]


def test_the_committer_made_for_the_store_ran_and_left_nothing_else(spark: SparkSession, layer: DataLayer) -> None:
    key = a_key()
    with layer.publish(key) as attempt:
        write(numbers(spark), attempt.output("default"))
    output = layer.resolve(key)["default"]
    assert json.loads(output.read_bytes("_SUCCESS"))["committer"] == COMMITTERS[layer.design.name]
    assert sorted(name.partition("-")[0] for name in output.files) == ["_SUCCESS", "part", "part", "part"]
    landed = {info.path.rpartition("/")[2] for info in layer.data.list(f"{key.path}/attempts/1/default")}
    assert landed == set(output.files)


def test_other_engines_read_the_same_rows_and_types(spark: SparkSession, layer: DataLayer) -> None:
    frame, key = numbers(spark), a_key()
    with layer.publish(key) as attempt:
        write(frame, attempt.output("default"))
    output = layer.resolve(key)["default"]
    table = output.dataset().to_table()
    assert {field.name: str(field.type) for field in table.schema} == {
        field.name: field.type for field in output.output.schema or ()
    }
    assert sorted(table["id"].to_pylist()) == list(range(1000))


@pytest.mark.parametrize("listed", [32, 0], ids=["by file list", "by folder"])
def test_partition_folders_become_columns(
    spark: SparkSession, layer: DataLayer, listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "MAX_LISTED", listed)
    frame, key = numbers(spark), a_key()
    with layer.publish(key) as attempt:
        write(frame, attempt.output("default"), partition_by=["third"])
    output = layer.resolve(key)["default"]
    assert {name.partition("/")[0] for name in output.files} == {"_SUCCESS", "third=0", "third=1", "third=2"}
    assert rows_of(read(spark, output).select(*frame.columns)) == rows_of(frame)


@pytest.mark.parametrize("format_name", ["csv", "json", "orc"])
def test_formats_are_told_by_the_files(spark: SparkSession, layer: DataLayer, format_name: str) -> None:
    frame, key = numbers(spark, 10).select("id", "text"), a_key()
    options: dict[str, Any] = {"header": True} if format_name == "csv" else {}
    with layer.publish(key) as attempt:
        write(frame, attempt.output("default"), format=format_name, **options)
    assert rows_of(read(spark, layer.resolve(key)["default"], schema=frame.schema, **options)) == rows_of(frame)


def test_zero_rows_keep_their_columns(spark: SparkSession, layer: DataLayer) -> None:
    frame, key = numbers(spark), a_key()
    with layer.publish(key) as attempt:
        write(frame.limit(0), attempt.output("default"))
    output = layer.resolve(key)["default"]
    assert output.output.rows == 0
    assert read(spark, output).columns == frame.columns
    assert read(spark, output).count() == 0


def test_only_the_manifest_says_what_is_read(spark: SparkSession, layer: DataLayer) -> None:
    frame, key = numbers(spark, 10), a_key()
    with layer.publish(key) as attempt:
        write(frame, attempt.output("default"))
    folder = f"{key.path}/attempts/1/default"
    stranger = next(info.path for info in layer.data.list(folder) if info.path.endswith(".parquet"))
    layer.data.copy(stranger, f"{folder}/part-9-stranger.parquet")
    assert read(spark, layer.resolve(key)["default"]).count() == 10


def test_a_folder_with_a_file_too_many_is_refused(
    spark: SparkSession, layer: DataLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "MAX_LISTED", 0)
    key = a_key()
    with layer.publish(key) as attempt:
        write(numbers(spark, 10), attempt.output("default"))
    folder = f"{key.path}/attempts/1/default"
    stranger = next(info.path for info in layer.data.list(folder) if info.path.endswith(".parquet"))
    layer.data.copy(stranger, f"{folder}/part 9%20.parquet")
    with pytest.raises(VerificationError, match="not in the manifest: 'part 9%20.parquet'"):
        read(spark, layer.resolve(key)["default"])


def test_file_names_are_literal(spark: SparkSession, layer: DataLayer) -> None:
    key, name = a_key(), "year=2013/part [1] {a,b} 50%20.parquet"
    with layer.publish(key) as attempt:
        attempt.output("default").write_table(pyarrow.table({"id": [1, 2]}), name)
    assert rows_of(read(spark, layer.resolve(key)["default"])) == [(1, 2013), (2, 2013)]


def test_a_failing_job_leaves_nothing_visible(spark: SparkSession, layer: DataLayer) -> None:
    key = a_key()
    with pytest.raises(PublishError, match="Spark could not write .*id < 990"), layer.publish(key) as attempt:
        write(numbers(spark).selectExpr("id", "assert_true(id < 990)"), attempt.output("default"))
    with pytest.raises(NotPublishedError):
        layer.resolve(key)
    landed = [info.path for info in layer.home.list(key.path)]
    assert landed == [f"{key.path}/attempts/1/claim.json"]


def test_a_second_start_of_an_attempt_replaces_what_the_first_left(spark: SparkSession, layer: DataLayer) -> None:
    key = a_key()
    write(numbers(spark, 500), layer.publish(key, owner="ti-1").output("default"))
    with layer.publish(key, owner="ti-1") as attempt:
        write(numbers(spark, 20), attempt.output("default"))
    output = layer.resolve(key)["default"]
    assert output.output.rows == read(spark, output).count() == 20


def test_appending_adds_files_and_rows(spark: SparkSession, layer: DataLayer) -> None:
    key = a_key()
    with layer.publish(key) as attempt:
        write(numbers(spark, 30), attempt.output("default"))
        write(numbers(spark, 12), attempt.output("default"), mode="append")
    output = layer.resolve(key)["default"]
    assert output.output.rows == read(spark, output).count() == 42


def test_spark_asks_no_store_for_what_the_manifest_knows(
    spark: SparkSession, versitygw: S3Server, fault_proxy: FaultProxy
) -> None:
    layer = on_s3(versitygw, fault_proxy.endpoint)
    key = a_key()
    with layer.publish(key) as attempt:
        for number in range(3):
            attempt.output().write_table(pyarrow.table({"id": [number]}), f"part-{number}.parquet")
    session(layer)
    output = layer.resolve(key)["default"]
    fault_proxy.reset()
    frame = read(spark, output)
    # The columns of one of them: the length of its footer, and that.
    assert fault_proxy.counts == {"GET": 2}
    assert rows_of(frame) == [(0,), (1,), (2,)]
    assert fault_proxy.count("LIST") == 0
    committed = datetime.fromisoformat(output.manifest.committed)
    (modified,) = {row[0] for row in frame.selectExpr("unix_millis(_metadata.file_modification_time)").collect()}
    assert timedelta() <= committed - datetime.fromtimestamp(modified / 1000, UTC) < timedelta(milliseconds=1)


def test_options_of_the_reader_count(spark: SparkSession, layer: DataLayer) -> None:
    key = a_key()
    with layer.publish(key) as attempt:
        attempt.output().write_table(pyarrow.table({"id": [1]}), "part-0.parquet")
        attempt.output().write_table(pyarrow.table({"id": [2], "more": [3]}), "part-1.parquet")
    output = layer.resolve(key)["default"]
    assert read(spark, output, mergeSchema=True).columns == ["id", "more"]


def test_files_that_are_gone_are_named(spark: SparkSession, layer: DataLayer) -> None:
    key = a_key()
    with layer.publish(key) as attempt:
        write(numbers(spark, 10), attempt.output("default"))
    output = layer.resolve(key)["default"]
    layer.data.delete([info.path for info in list(layer.data.list(f"{key.path}/attempts/1/default"))])
    with pytest.raises(NotFoundError, match="gone from .*Publish the task again"):
        read(spark, output)


def test_an_output_without_data_needs_a_schema(spark: SparkSession, layer: DataLayer) -> None:
    key = a_key()
    with layer.publish(key) as attempt:
        attempt.output("default").put("_SUCCESS", b"")
    output = layer.resolve(key)["default"]
    with pytest.raises(ResolutionError, match="schema="):
        read(spark, output)
    assert read(spark, output, schema="id long").columns == ["id"]


def test_files_that_tell_no_format_need_one_named(spark: SparkSession, layer: DataLayer) -> None:
    key = a_key()
    with layer.publish(key) as attempt:
        attempt.output("default").put("data.bin", b"one\ntwo\n")
    output = layer.resolve(key)["default"]
    with pytest.raises(NotSupportedError, match="ending in bin"):
        read(spark, output)
    assert rows_of(read(spark, output, format="text")) == [("one",), ("two",)]


def test_the_classic_committer_is_refused(spark: SparkSession, layer: DataLayer) -> None:
    classic = "org.apache.hadoop.mapreduce.lib.output.FileOutputCommitterFactory"
    factory = "mapreduce.outputcommitter.factory.scheme"
    options: dict[str, Any] = {f"{factory}.file": classic, f"{factory}.s3a": classic}
    key = a_key()
    with (
        pytest.raises(VerificationError, match=r"classic committer.*spark_env\.session"),
        layer.publish(key) as attempt,
    ):
        write(numbers(spark, 10), attempt.output("default"), **options)
    with pytest.raises(NotPublishedError):
        layer.resolve(key)


def test_keys_stay_out_of_everything_that_is_shown(spark: SparkSession, versitygw: S3Server) -> None:
    layer = on_s3(versitygw)
    session(layer)
    secret = versitygw.root.secret_key
    context: Any = spark.sparkContext
    assert all(secret not in value for _, value in context.getConf().getAll())
    assert all(secret not in str(value) for value in spark.conf.getAll.values())
    jvm: Any = spark._jvm
    command_line = Path(f"/proc/{jvm.java.lang.ProcessHandle.current().pid()}/cmdline").read_text()
    assert secret not in command_line


def test_new_keys_for_a_bucket_are_used(spark: SparkSession, versitygw: S3Server) -> None:
    good = on_s3(versitygw)
    key = a_key()
    session(good)
    with good.publish(key) as attempt:
        write(numbers(spark, 10), attempt.output("default"))
    output = good.resolve(key)["default"]
    wrong = Connection(
        endpoint=versitygw.endpoint, region=versitygw.region, access_key_id="nobody", secret_access_key="wrong"
    )
    session(DataLayer(Config(tiers=good.config.tiers, connections={"lake": wrong})))
    with pytest.raises(ResolutionError, match="AccessDenied|Forbidden|InvalidAccessKey") as caught:
        read(spark, output)
    assert "wrong" not in str(caught.value)
    session(good)
    assert read(spark, output).count() == 10


def test_a_reference_is_read_where_it_lies_and_only_as_it_was_pinned(spark: SparkSession, versitygw: S3Server) -> None:
    layer = on_s3(versitygw)
    bucket = versitygw.new_bucket("raw")
    prefix = f"s3://{bucket}/events/"
    layer = DataLayer(
        Config(
            tiers=layer.config.tiers,
            connections=layer.config.connections,
            references=[ReferencePrefix(prefix=prefix, connection="lake")],
        )
    )
    session(layer)
    with versitygw.client() as client:
        client.put_object(Bucket=bucket, Key="events/2013/a.csv", Body=b"id\n1\n2\n")
        client.put_object(Bucket=bucket, Key="events/2013/b.csv", Body=b"id\n3\n")
        output = layer.reference(a_key(), f"{prefix}2013")["default"]
        client.put_object(Bucket=bucket, Key="events/2013/c.csv", Body=b"id\n4\n")
        assert rows_of(read(spark, output, header=True)) == [("1",), ("2",), ("3",)]
        client.put_object(Bucket=bucket, Key="events/2013/b.csv", Body=b"id\n9\n")
    with pytest.raises(VerificationError, match="changed since it was referenced"):
        read(spark, output, header=True)


def test_what_a_running_session_cannot_take_is_named(spark: SparkSession, tmp_path: Path) -> None:
    layer = DataLayer(Config(design="shared-fs", tiers={"shared": TierConfig(url=str(tmp_path))}))
    with pytest.raises(ConfigError, match=r"spark\.driver\.memory .*while a Spark session runs"):
        session(layer, **{"spark.driver.memory": "3g"})
    session(layer, **{"spark.sql.shuffle.partitions": "3", "spark.hadoop.datalayer.test": "x"})
    assert spark.conf.get("spark.sql.shuffle.partitions") == "3"


def test_of_small_files_on_s3_no_dictionary_is_asked_for_before_they_are_read(
    spark: SparkSession, versitygw: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(versitygw.endpoint) as proxy:
        layer = on_s3(versitygw, proxy.endpoint)
        session(layer)
        key = a_key()
        with layer.publish(key) as attempt:
            # Few values: written by dictionary.
            write(numbers(spark, 30_000, 1).selectExpr("id % 7 as a", "id % 5 as b", "id"), attempt.output("rows"))
        output = layer.resolve(key)["rows"]

        def gets() -> int:
            frame = read(spark, output).where("a = 3 and b = 2")
            proxy.reset()
            assert frame.count() == len(range(17, 30_000, 35))
            return proxy.count("GET", ".parquet")

        alone = gets()
        monkeypatch.setattr(reading_module, "_SMALL", 0)
        assert gets() > alone
