"""A Spark scan of a Parquet output that the hot tier already holds, against the same scan of S3.

Ours: ``alluxio://``, and ``file://`` where a cache folder holds it. Against: ``s3a://`` with vectored reads. All read in place, by Spark's own
engine, and sum every column. Goal: at least as fast, and no data from the origin.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from benchmarks import scratch
from benchmarks.contender import Contender, Sink
from benchmarks.origin import Door
from benchmarks.reading import RUN
from benchmarks.results import Figure, Timing, paired, same, speed_against
from benchmarks.workload import Workload
from datalayer import DataLayer, TaskKey

_COLUMNS = 8
_FILES = 4
_CONF = {
    "spark.master": "local[2]",
    "spark.driver.memory": "1g",
    "spark.log.level": "ERROR",
    "spark.sql.shuffle.partitions": "2",
}


class Scan(Contender):
    """A Spark of its own, which sums every column of the output."""

    group = "scan"
    in_children = True

    def __init__(self, key: TaskKey) -> None:
        self.key = key

    @abstractmethod
    def layer(self, door: Door) -> DataLayer:
        """Return the layer that names the files."""

    def open(self, door: Door) -> None:
        from pyspark import SparkContext

        from spark_env import session

        self.reads = self.layer(door)
        self.started = SparkContext._active_spark_context is None  # noqa: SLF001 - PySpark's own test for it
        self.spark = session(self.reads, **_CONF)
        # The JVM's classes, and the compiler's first look at them, are not what is measured.
        self.scan()

    def scan(self) -> Any:
        """Return the sums."""
        from pyspark.sql.functions import sum as total

        from spark_env.reading import read as read_spark

        frame = read_spark(self.spark, self.reads.resolve(self.key)["default"])
        return frame.agg(*(total(name) for name in sorted(frame.columns))).collect()

    def run(self, sink: Sink) -> None:
        before = _cpu_of_children()
        self.found = self.scan()
        self.children_cpu = _cpu_of_children() - before

    def check(self, sink: Sink) -> None:
        sink.take(repr([tuple(row) for row in self.found]).encode())

    def close(self) -> None:
        if self.started:
            self.spark.stop()


class S3A(Scan):
    """Straight from S3."""

    name = "s3a://"
    settings = "s3-direct: S3A with vectored reads, local[2]"

    def layer(self, door: Door) -> DataLayer:
        return door.layer()


class AlluxioScan(Scan):
    """From Alluxio, which holds all of it."""

    name = "alluxio://, warm"
    settings = "hot-cold with Alluxio, after layer.hot.warm(key), local[2]"

    def layer(self, door: Door) -> DataLayer:
        layer = door.alluxio_layer()
        layer.hot.warm(self.key)
        return layer


class NodeCacheScan(Scan):
    """From the files of a cache folder, which holds all of it."""

    name = "file:// of NodeCache, warm"
    settings = "hot-cold with a cache folder, after layer.hot.warm(key), local[2]"

    def layer(self, door: Door) -> DataLayer:
        self.folder = tempfile.TemporaryDirectory(prefix=scratch.prefix())
        layer = door.hot_layer(self.folder.name)
        layer.hot.warm(self.key)
        return layer

    def close(self) -> None:
        super().close()
        self.folder.cleanup()


_HOT: tuple[type[Scan], ...] = (AlluxioScan, NodeCacheScan)


class SparkHot(Workload):
    """Spark reads what is near."""

    name = "spark-hot"
    only_full = True
    measures = "a Spark scan of 512 MiB of Parquet, all columns (quick: 64 MiB)"
    alluxio = True

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=7, bench=3, quick=3, tiny=1)

    def prepare(self, door: Door) -> None:
        self.key = TaskKey("bench", "scanning", "table", RUN)
        self.size = _publish(
            door, self.key, self.scale.pick(full=512 << 20, bench=64 << 20, quick=64 << 20, tiny=1 << 20)
        )

    def contenders(self) -> Sequence[Contender]:
        kinds: tuple[type[Scan], ...] = (*_HOT, S3A)
        return [kind(self.key) for kind in kinds]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        cold = timings[S3A.name]
        found = []
        for kind in _HOT:
            hot = timings[kind.name]
            found += [
                Figure(
                    name=f"{kind.name}: speed against s3a://",
                    value=speed_against(hot, cold),
                    unit="×",
                    at_least=1.0,
                ),
                Figure(
                    name=f"{kind.name}: CPU seconds against s3a://",
                    value=paired(hot, cold, lambda mine, theirs: mine.cpu / theirs.cpu),
                    unit="×",
                ),
                Figure(
                    name=f"{kind.name}: bytes from the origin over the data",
                    value=same(hot.bytes_down / self.size),
                    unit="×",
                    at_most=0.01,
                    ceiling="0",
                ),
            ]
        return found


def _publish(door: Door, key: TaskKey, size: int) -> int:
    """Publish some Parquet files of numbers, about ``size`` bytes together, and return what they have."""
    import numpy
    import pyarrow

    rows = size // (8 * _COLUMNS * _FILES)
    with door.layer().publish(key) as attempt:
        for number in range(_FILES):
            numbers = numpy.random.default_rng(number)
            # Whole numbers: their sum is the same in whatever order they come.
            columns = {f"c{column}": numbers.integers(0, 1 << 40, rows) for column in range(_COLUMNS)}
            attempt.output().write_table(pyarrow.table(columns), f"part-{number}.parquet")
    return door.layer().resolve(key)["default"].output.bytes


def _cpu_of_children() -> float:
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(one.user + one.system for one in times)
