"""F6 with Spark: a server of Alluxio is killed in the middle of an action. It ends exact, or fails soon and can be tried again; then from S3.

At night also with a worker that hangs: so one looks whose machine is gone. For a master that hangs, Alluxio's client has no setting that helps.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from datalayer import DataLayer, TaskKey, Tier, open_task
from datalayer.addresses.keys import DEFAULT_OUTPUT
from datalayer.errors import StoreUnavailableError
from datalayer.handoff.context import InputSpec, OutputSpec, TaskContext
from spark_env import read, session, write
from tests.behaviour.on_alluxio import OnAlluxio, eventually, hot_receipt
from tests.services.alluxio import AlluxioServer

RUN = "20130101T000000Z"
EXTRACT, DELAYS = (TaskKey("aviation", "flights", task, run=RUN) for task in ("extract", "delays"))
FILES, ROWS = 4, 200_000
ALL = FILES * ROWS
DEADLINE = 30


@pytest.fixture
def layer(spark: SparkSession, on_alluxio: OnAlluxio) -> DataLayer:
    """A layer on S3 and Alluxio, which holds an output of several files."""
    layer = on_alluxio.layer()
    with layer.publish(EXTRACT) as attempt:
        for number in range(FILES):
            ids = range(number * ROWS, (number + 1) * ROWS)
            table = pa.table({"id": ids, "text": [f"{one:x}" for one in ids]})
            attempt.output().write_table(table, f"part-{number}.parquet")
    on_alluxio.warm(layer.resolve(EXTRACT)[DEFAULT_OUTPUT])
    return layer


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    context = TaskContext(
        key=str(DELAYS), inputs={"extract": InputSpec(access="in-place")}, outputs={DEFAULT_OUTPUT: OutputSpec()}
    )
    path = tmp_path / "context.json"
    path.write_bytes(context.encode())
    return {"DATALAYER_CONTEXT": str(path)}


class Reading:
    """A job that reads all rows, slowly, and writes what it finds."""

    def __init__(self, layer: DataLayer, environ: dict[str, str], begun: Path) -> None:
        self._layer, self._environ, self._begun = layer, environ, begun
        self.scheme = ""

    def run(self, pause: float = 0) -> None:
        begun = str(self._begun)

        def slowly(batches: Any) -> Any:
            import pathlib
            import time

            for batch in batches:
                yield batch
                pathlib.Path(begun).touch()
                time.sleep(pause)

        with open_task(layer=self._layer, environ=self._environ) as task:
            running = session(task)
            frame = read(running, task.input("extract"))
            self.scheme = frame.inputFiles()[0].partition(":")[0]
            seen = frame.mapInArrow(slowly, "id long, text string") if pause else frame
            write(
                seen.selectExpr("count(distinct id)", "sum(id)", "count(text)").toDF("ids", "sum", "texts"),
                task.output(),
            )

    def found(self) -> list[tuple[Any, ...]]:
        return [
            tuple(row.values()) for row in self._layer.resolve(DELAYS)[DEFAULT_OUTPUT].dataset().to_table().to_pylist()
        ]


EXACT = [(ALL, ALL * (ALL - 1) // 2, ALL)]


@pytest.mark.kills
@pytest.mark.parametrize(
    ("killed", "how"),
    [
        pytest.param("worker", signal.SIGKILL, id="worker"),
        pytest.param("master", signal.SIGKILL, id="master"),
        pytest.param("worker", signal.SIGSTOP, id="worker that hangs", marks=pytest.mark.nightly),
    ],
)
def test_f06_an_action_ends_exact_or_fails_soon_and_the_next_attempt_reads_s3(
    alluxio: AlluxioServer,
    layer: DataLayer,
    environ: dict[str, str],
    killed: str,
    how: signal.Signals,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    job = Reading(layer, environ, tmp_path / "begun")
    at: list[float] = []

    def kill() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.02)
        os.kill(getattr(alluxio, killed).pid, how)
        at.append(time.monotonic())

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    failure = None
    try:
        job.run(pause=0.05)
    except StoreUnavailableError as error:
        failure = error
    took = time.monotonic() - at[0]
    killer.join()
    assert job.scheme == "alluxio"
    assert took < DEADLINE
    record_property("seconds from the kill to the end", round(took, 1))
    record_property("ended", "exact" if failure is None else "failed")
    if failure is None:
        assert job.found() == EXACT
    else:
        assert failure.retryable
        assert "Alluxio did not serve" in str(failure)
        assert str(layer.store(Tier.COLD).root) in str(failure)
        assert hot_receipt(layer).misses["unavailable"] >= 1

    begin = time.monotonic()
    job.run()
    record_property("seconds of the next attempt", round(time.monotonic() - begin, 1))
    assert job.scheme == "s3a"
    assert job.found() == EXACT

    getattr(alluxio, killed).kill()
    alluxio.start()

    def is_used_again() -> bool:
        job.run()
        return job.scheme == "alluxio"

    eventually(is_used_again, 90)
    assert job.found() == EXACT
