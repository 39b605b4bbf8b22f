"""Spark under the design hot-cold: it reads copies, in Alluxio or in a folder of this machine, and never wrong ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from datalayer import Config, DataLayer, TaskKey, open_task
from datalayer.addresses.keys import DEFAULT_OUTPUT
from datalayer.errors import ConfigError, TransientStoreError
from datalayer.handoff.context import InputSpec, OutputSpec, TaskContext
from datalayer.resolve.output import ResolvedOutput
from spark_env import copies as copies_module
from spark_env import read, session, write
from tests.behaviour.on_alluxio import OnAlluxio, eventually, hot_receipt
from tests.services.alluxio import AlluxioServer
from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server

RUN = "20130101T000000Z"
KEY, DELAYS = (TaskKey("aviation", "flights", task, run=RUN) for task in ("extract", "delays"))
NAMES = ["year=2013/part [1] {a,b} 50%20.parquet", "year=2014/part-0.parquet"]
TABLES = {name: pa.table({"id": range(at, at + 300_000)}) for name, at in zip(NAMES, (0, 300_000), strict=True)}


@pytest.fixture
def on_alluxio(versitygw: S3Server, alluxio: AlluxioServer, fault_proxy: FaultProxy) -> Iterator[OnAlluxio]:
    bucket = versitygw.new_bucket()
    with (
        alluxio.mount(bucket, "root", endpoint=fault_proxy.endpoint) as folder,
        FaultProxy(alluxio.proxy_url) as proxy,
    ):
        fault_proxy.reset()
        yield OnAlluxio(versitygw, bucket, folder, fault_proxy, proxy)


@pytest.fixture
def on_folder(versitygw: S3Server, fault_proxy: FaultProxy, tmp_path: Path) -> Callable[..., DataLayer]:
    """Makes a layer whose copies are in a folder of this machine."""
    bucket = versitygw.new_bucket()

    def make(**hot: object) -> DataLayer:
        root = versitygw.root
        lake = {"endpoint": fault_proxy.endpoint, "region": versitygw.region}
        lake |= {"access_key_id": root.access_key, "secret_access_key": root.secret_key}
        settings = {"url": str(tmp_path / "copies"), "write_type": "THROUGH"} | hot
        tier = {"url": f"s3://{bucket}/root", "connection": "lake"}
        return DataLayer(
            Config.from_mapping(
                {"design": "hot-cold", "tiers": {"cold": tier}, "connections": {"lake": lake}, "hot": settings}
            )
        )

    return make


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    context = TaskContext(
        key=str(DELAYS), inputs={"extract": InputSpec(access="in-place")}, outputs={DEFAULT_OUTPUT: OutputSpec()}
    )
    path = tmp_path / "context.json"
    path.write_bytes(context.encode())
    return {"DATALAYER_CONTEXT": str(path)}


def publish(layer: DataLayer) -> ResolvedOutput:
    with layer.publish(KEY) as attempt:
        for name, table in TABLES.items():
            attempt.output().write_table(table, name)
    return layer.resolve(KEY)[DEFAULT_OUTPUT]


def scheme(frame: DataFrame) -> str:
    (found,) = {uri.partition(":")[0] for uri in frame.inputFiles()}
    return found


def sums(frame: DataFrame) -> tuple[Any, ...]:
    return tuple(frame.selectExpr("count(*)", "sum(id)", "sum(id * year)").collect()[0])


ids = range(600_000)
EXACT = (len(ids), sum(ids), sum(ids[:300_000]) * 2013 + sum(ids[300_000:]) * 2014)


def data_gets(proxy: FaultProxy) -> int:
    return sum(request.kind == "GET" and "parquet" in request.path for request in proxy.requests)


def test_every_way_gives_the_same_rows(
    spark: SparkSession, on_alluxio: OnAlluxio, tmp_path: Path, on_folder: Callable[..., DataLayer]
) -> None:
    layer = on_alluxio.layer()
    assert session(layer) is spark
    output = publish(layer)
    cold = read(spark, output.original())
    assert scheme(cold) == "s3a"
    assert sums(cold) == EXACT
    hot = read(spark, output)
    assert scheme(hot) == "alluxio"
    assert sums(hot) == EXACT
    folder = on_folder()
    session(folder)
    here = read(spark, publish(folder))
    assert scheme(here) == "file"
    assert sums(here) == EXACT
    assert sorted(hot.collect()) == sorted(cold.collect()) == sorted(here.collect())
    copies_module.release()


def test_what_alluxio_holds_is_not_asked_of_s3_again(spark: SparkSession, on_alluxio: OnAlluxio) -> None:
    layer = on_alluxio.layer()
    session(layer)
    output = publish(layer)
    on_alluxio.warm(output)
    on_alluxio.s3.reset()
    for _ in range(2):
        frame = read(spark, output)
        assert scheme(frame) == "alluxio"
        assert sums(frame) == EXACT
    assert on_alluxio.data_gets() == 0


def test_a_folder_larger_than_a_list_is_read_from_alluxio(
    spark: SparkSession, on_alluxio: OnAlluxio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spark_env.reading.MAX_LISTED", 0)
    layer = on_alluxio.layer()
    session(layer)
    frame = read(spark, publish(layer))
    assert scheme(frame) == "alluxio"
    assert sums(frame) == EXACT


def test_outputs_are_written_to_s3_in_place(
    spark: SparkSession, on_alluxio: OnAlluxio, environ: dict[str, str]
) -> None:
    layer = on_alluxio.layer()
    read_by_spark = publish(layer).output.bytes
    before = layer.receipt.by_tier()
    with open_task(layer=layer, environ=environ) as task:
        session(task)
        assert str(spark.conf.get("spark.datalayer.input.extract.default")).startswith("alluxio://")
        assert str(spark.conf.get("spark.datalayer.output.default")).startswith("s3a://")
        write(read(spark, task.input("extract")).selectExpr("sum(id) as sum"), task.output())
    output = layer.resolve(DELAYS)[DEFAULT_OUTPUT]
    assert output.dataset().to_table().to_pydict() == {"sum": [EXACT[1]]}
    # Its engine's own bytes are in the receipt, which nobody else could count.
    receipt = layer.receipt.since(before)
    assert receipt["hot"].bytes_read == receipt["hot"].bytes_hit == pytest.approx(read_by_spark, rel=0.1)
    assert receipt["cold"].bytes_written >= output.output.bytes
    assert receipt["cold"].bytes_read < read_by_spark / 10


@pytest.mark.parametrize("by", ["this library", "Spark"])
def test_a_damaged_copy_in_alluxio_gives_no_wrong_rows_and_is_dropped(
    spark: SparkSession, on_alluxio: OnAlluxio, environ: dict[str, str], by: str
) -> None:
    layer = on_alluxio.layer()
    session(layer)
    if by == "Spark":
        with layer.publish(KEY) as attempt:
            frame = spark.range(0, 600_000, 1, 1).selectExpr("id", "if(id < 300000, 2013, 2014) as year")
            write(frame, attempt.output(), partition_by=["year"])
        output = layer.resolve(KEY)[DEFAULT_OUTPUT]
    else:
        output = publish(layer)
    on_alluxio.warm(output)
    damaged = output.data_files()[1]
    path = output.store_path(damaged.name)[1]
    on_alluxio.folder.flip_byte(path, damaged.length // 2)
    failure = None
    try:
        with open_task(layer=layer, environ=environ) as task:
            found = sums(read(session(task), task.input("extract")))
    except TransientStoreError as error:
        failure = error
    assert failure is not None, f"Spark read {found}"
    assert failure.retryable
    assert damaged.name in str(failure)
    assert "It is dropped" in str(failure)
    assert hot_receipt(layer).misses["corrupt"] == 1

    def is_dropped() -> bool:
        return on_alluxio.resident(output, damaged.name) == 0

    eventually(is_dropped)
    frame = read(spark, output)
    assert scheme(frame) == "alluxio"
    assert sums(frame) == EXACT


def test_copies_in_a_folder_are_made_once_and_read_as_files(
    spark: SparkSession, on_folder: Callable[..., DataLayer], fault_proxy: FaultProxy
) -> None:
    layer = on_folder()
    session(layer)
    output = publish(layer)
    fault_proxy.reset()
    assert sums(read(spark, output)) == EXACT
    asked = data_gets(fault_proxy)
    assert asked > 0
    frame = read(spark, output)
    assert scheme(frame) == "file"
    assert sums(frame) == EXACT
    assert data_gets(fault_proxy) == asked
    copies_module.release()


def test_copies_that_a_job_reads_stay_until_it_ends(
    spark: SparkSession, on_folder: Callable[..., DataLayer], environ: dict[str, str]
) -> None:
    layer = on_folder(budget="8MB")
    output = publish(layer)
    assert 4 << 20 > output.output.bytes > 2 << 20
    filler = TaskKey("aviation", "flights", "filler", run=RUN)
    with layer.publish(filler) as attempt:
        for number in range(4):
            attempt.output().put(f"{number}", bytes([number]) * (2 << 20))

    def fill() -> None:
        other = DataLayer(layer.config)
        for _ in range(2):
            assert sum(len(data) for _, data in other.resolve(filler)[DEFAULT_OUTPUT].read_many()) == 8 << 20

    with open_task(layer=layer, environ=environ) as task:
        frame = read(session(task), task.input("extract"))
        assert scheme(frame) == "file"
        fill()
        assert sums(frame) == EXACT
        write(frame.selectExpr("sum(id)").toDF("sum"), task.output())
    fill()
    assert layer.resolve(KEY)[DEFAULT_OUTPUT].path is None


def test_a_damaged_copy_in_a_folder_gives_no_wrong_rows_and_is_dropped(
    spark: SparkSession, on_folder: Callable[..., DataLayer], environ: dict[str, str]
) -> None:
    layer = on_folder()
    output = publish(layer)
    with pytest.raises(TransientStoreError, match="It is dropped"), open_task(layer=layer, environ=environ) as task:
        frame = read(session(task), task.input("extract"))
        where = output.local_path(NAMES[1])
        assert where is not None
        where.chmod(0o600)
        with where.open("r+b") as file:
            file.seek(where.stat().st_size // 2)
            file.write(b"\xff" * 8)
        sums(frame)
    assert hot_receipt(layer).misses["corrupt"] == 1
    assert sums(read(spark, output)) == EXACT
    copies_module.release()


@pytest.mark.parametrize("reason", ["no room", "too many files"])
def test_without_copies_of_all_files_s3_is_read(
    spark: SparkSession, on_folder: Callable[..., DataLayer], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "too many files":
        monkeypatch.setattr(copies_module, "MAX_HELD", 1)
    layer = on_folder(budget="100kB" if reason == "no room" else "10GB")
    session(layer)
    frame = read(spark, publish(layer))
    assert scheme(frame) == "s3a"
    assert sums(frame) == EXACT


def test_a_write_type_that_is_not_durable_is_refused(spark: SparkSession, on_folder: Callable[..., DataLayer]) -> None:
    with pytest.raises(ConfigError, match="MUST_CACHE holds data in Alluxio alone"):
        session(on_folder(), **{"spark.hadoop.alluxio.user.file.writetype.default": "MUST_CACHE"})


def test_a_spark_that_was_started_without_alluxio_s_client_says_so(tmp_path: Path) -> None:
    # A session's class path is set once, so this one has a process of its own.
    program = f"""
from datalayer import Config, DataLayer, ConfigError
from datalayer.config import HotConfig, TierConfig
from spark_env import session
from spark_env.jars import jars_dir
cold = TierConfig(url={str(tmp_path)!r})
running = session(DataLayer(Config(tiers={{"cold": cold}})), **{{"spark.master": "local[1]"}})
hot = HotConfig(url="alluxio://127.0.0.1:1/none", proxy="http://127.0.0.1:1")
try:
    session(DataLayer(Config(design="hot-cold", tiers={{"cold": cold}}, hot=hot)))
except ConfigError as error:
    print(error)
running.stop()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert "no class alluxio.hadoop.FileSystem" in done.stdout
    assert "spark_env.jars.alluxio_jar()" in done.stdout
