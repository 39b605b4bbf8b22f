"""The ways in which one Spark reads the same tables: what ``p14`` compares. All of it runs in the process that has the JVM.

A run is what a task does once it knows its inputs' pins: resolve, have Spark open the tables, collect the result. Clients are made before; cold
ones have no connection yet.
"""

from __future__ import annotations

import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import scratch
from benchmarks.origin import Door
from benchmarks.page_cache import drop_files
from benchmarks.poc import PARALLEL, SERIAL, Transfer
from benchmarks.reading import RUN
from benchmarks.tpch import Query
from datalayer import DataLayer, TaskKey
from spark_env import copies, session
from spark_env.conf import hadoop_conf
from spark_env.reading import read

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_STREAM = "fs.s3a.bucket.{bucket}.input.stream.type"


class Arm(ABC):
    """One way. Whatever it sets is set anew by the next one's :meth:`prepare`.

    Args:
        door: The way to the bucket.
        key: The task that has published the tables, an output each.
        warm: Whether it has run before, on the same task data.
    """

    name: str
    settings: str

    def __init__(self, door: Door, key: str, *, warm: bool) -> None:
        self.door = door
        self.key = self.origin = TaskKey.parse(key)
        self.warm = warm

    def prepare(self, spark: SparkSession, query: Query) -> None:
        """Make ready for one run."""
        copies.release()
        self.layer = self.make_layer()
        session(self.layer)
        if not self.warm:
            self.forget(spark, query)

    @abstractmethod
    def make_layer(self) -> DataLayer:
        """Return a layer of a task of its own."""

    @abstractmethod
    def forget(self, spark: SparkSession, query: Query) -> None:
        """Make it cold."""

    def frames(self, spark: SparkSession, query: Query) -> dict[str, DataFrame]:
        """Return the tables of a query, by name."""
        resolution = self.layer.resolve(self.key, attempt=1)
        return self.opened(query.tables, lambda table: read(spark, resolution[table]))

    def opened(self, tables: Sequence[str], open_one: Callable[[str], DataFrame]) -> dict[str, DataFrame]:
        """Open tables beside each other: of each Spark reads a footer, and one after the other these would be waited for."""
        with ThreadPoolExecutor(len(tables)) as pool:
            return dict(zip(tables, pool.map(open_one, tables), strict=True))

    def rows(self, spark: SparkSession, query: Query) -> list[tuple[str, ...]]:
        """Return a query's result, each value as text: decimals exactly as Spark has them."""
        for table, frame in self.frames(spark, query).items():
            frame.createOrReplaceTempView(table)
        return [tuple(map(str, row)) for row in spark.sql(query.sql).collect()]

    def files(self, query: Query) -> list[tuple[str, str]]:
        """Return the names of a query's files, each after its table's: for those that do not ask the library."""
        resolution = self.layer.resolve(self.key, attempt=1)
        return [(table, name) for table in query.tables for name in resolution[table].files]

    def close(self) -> None:  # noqa: B027  # most have made nothing
        """Let go of what it has made."""


class S3A(Arm):
    """Ours: in place, by S3A as ``spark_env.session`` sets it."""

    name = "s3-direct"
    settings = "spark_env.read of s3a://, vectored reads, page checksums verified, pool 500"

    def make_layer(self) -> DataLayer:
        return self.door.layer()

    def prepare(self, spark: SparkSession, query: Query) -> None:
        super().prepare(spark, query)
        self.tune(_hadoop(spark))
        if not self.warm:
            # Another one, that has neither connections nor anything it remembers; its client is made, as is the store's.
            _s3a(spark, self.door.bucket).close()
            _s3a(spark, self.door.bucket)

    def tune(self, hadoop: Any) -> None:
        """Set what is different."""
        hadoop.unset(_STREAM.format(bucket=self.door.bucket))

    def forget(self, spark: SparkSession, query: Query) -> None:
        pass


class StockS3A(S3A):
    """S3A and Parquet as Hadoop and Spark have them by default."""

    name = "S3A as it comes"
    settings = "rival: spark.read.parquet of s3a://, Hadoop's and Spark's own defaults, pool 500, nothing verified; is told the files"

    def prepare(self, spark: SparkSession, query: Query) -> None:
        super().prepare(spark, query)
        self.paths: dict[str, list[str]] = {}
        for table, name in self.files(query):
            path = f"s3a://{self.door.bucket}/root{self.key}/attempts/1/{table}/{name}"
            self.paths.setdefault(table, []).append(path)

    def tune(self, hadoop: Any) -> None:
        super().tune(hadoop)
        _by_default(hadoop)

    def frames(self, spark: SparkSession, query: Query) -> dict[str, DataFrame]:
        return self.opened(query.tables, lambda table: spark.read.parquet(*self.paths[table]))


class AnalyticsS3A(StockS3A):
    """S3A with Amazon's analytics accelerator, which keeps footers and fetches ahead the columns that were read before."""

    name = "S3A, analytics accelerator"
    settings = "rival: as S3A as it comes, fs.s3a.input.stream.type=analytics, analyticsaccelerator-s3 1.2.1"

    def tune(self, hadoop: Any) -> None:
        super().tune(hadoop)
        hadoop.set(_STREAM.format(bucket=self.door.bucket), "analytics")


class OurAnalyticsS3A(S3A):
    """Ours, with the accelerator for the bytes: what could be had of it."""

    name = "s3-direct with the accelerator"
    settings = "as s3-direct, fs.s3a.input.stream.type=analytics, analyticsaccelerator-s3 1.2.1; no default of ours"

    def tune(self, hadoop: Any) -> None:
        hadoop.set(_STREAM.format(bucket=self.door.bucket), "analytics")


class Downloaded(Arm):
    """The POC: the tables' files are downloaded one after the other, and Spark reads those."""

    name = "s3-poc, serial loop"
    settings = f"the tables' files: {SERIAL}; then spark.read.parquet of file://, nothing verified"
    parallel = False
    folder: Path | None = None

    def make_layer(self) -> DataLayer:
        return self.door.layer()

    def prepare(self, spark: SparkSession, query: Query) -> None:
        super().prepare(spark, query)
        _by_default(_hadoop(spark))

    def forget(self, spark: SparkSession, query: Query) -> None:
        self.close()
        self.folder = scratch.new_folder()
        self.transfer = Transfer(self.door, parallel=self.parallel)
        self.keys = {
            f"root{self.key}/attempts/1/{table}/{name}": self.folder / table / name for table, name in self.files(query)
        }
        self.transfer.warm_up(next(iter(self.keys)))

    def frames(self, spark: SparkSession, query: Query) -> dict[str, DataFrame]:
        folder = self.folder or Path()
        for table in query.tables:
            (folder / table).mkdir()
        self.download()
        return self.opened(query.tables, lambda table: spark.read.parquet(f"file://{folder}/{table}"))

    def download(self) -> None:
        """Fetch a query's tables, a folder each."""
        for key, path in self.keys.items():
            self.transfer.download(key, path)

    def close(self) -> None:
        if self.folder is not None:
            self.transfer.client.close()
            shutil.rmtree(self.folder)
            self.folder = None


class Transferred(Downloaded):
    """The better POC: eight files at once, each by boto3's transfer manager."""

    name = "s3-poc, boto3 transfer"
    settings = f"the tables' files, 8 at once: {PARALLEL}; then spark.read.parquet of file://, nothing verified"
    parallel = True

    def download(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.transfer.download, self.keys.keys(), self.keys.values()))


class Shared(Arm):
    """Ours: in place on a volume as far away as EFS."""

    name = "shared-fs, EFS"
    settings = "spark_env.read of file:// on a mounted volume of EFS's times, page checksums verified"

    def make_layer(self) -> DataLayer:
        return self.door.efs_layer()

    def forget(self, spark: SparkSession, query: Query) -> None:
        resolution = self.layer.resolve(self.key, attempt=1)
        for table in query.tables:
            output = resolution[table]
            drop_files(path for name in output.files if (path := output.local_path(name)))


class Alluxio(Arm):
    """Ours: in place in Alluxio."""

    name = "hot-cold, Alluxio"
    settings = "spark_env.read of alluxio://, page checksums verified"

    def make_layer(self) -> DataLayer:
        return self.door.alluxio_layer()

    def prepare(self, spark: SparkSession, query: Query) -> None:
        super().prepare(spark, query)
        if self.warm:
            self.layer.hot.warm(self.key)

    def forget(self, spark: SparkSession, query: Query) -> None:
        # The same files under a key that nobody has read: Alluxio does not drop at once what a JVM has lately read.
        direct = self.door.layer()
        tables = direct.resolve(self.origin, attempt=1)
        self.key = TaskKey("bench", "tpch", f"cold-{uuid.uuid4().hex}", RUN)
        with direct.publish(self.key) as attempt:
            for table in query.tables:
                for name in tables[table].files:
                    attempt.output(table).put(name, tables[table].read_bytes(name))


class NodeCache(Arm):
    """Ours: from the files of a cache folder, which are whole and verified before Spark sees them."""

    name = "hot-cold, NodeCache"
    settings = "spark_env.read of file://, whole verified copies in a cache folder, page checksums verified"
    folder: Path | None = None

    def make_layer(self) -> DataLayer:
        if self.folder is None or not self.warm:
            self.close()
            self.folder = scratch.new_folder()
        return self.door.hot_layer(str(self.folder))

    def prepare(self, spark: SparkSession, query: Query) -> None:
        super().prepare(spark, query)
        if self.warm:
            self.layer.hot.warm(self.key)

    def forget(self, spark: SparkSession, query: Query) -> None:
        pass

    def close(self) -> None:
        if self.folder is not None:
            copies.release()
            shutil.rmtree(self.folder)
            self.folder = None


def _s3a(spark: SparkSession, bucket: str) -> Any:
    jvm: Any = spark._jvm  # noqa: SLF001 - PySpark has no public way to Hadoop's file systems
    return jvm.org.apache.hadoop.fs.FileSystem.get(jvm.java.net.URI(f"s3a://{bucket}/"), _hadoop(spark))


def _hadoop(spark: SparkSession) -> Any:
    return spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001 - there is no public way


def _by_default(hadoop: Any) -> None:
    """Take back what our sessions set of how files are read: Hadoop's and Parquet's own defaults hold then."""
    for name in hadoop_conf():
        hadoop.unset(name)
