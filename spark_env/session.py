"""``session``: a SparkSession that can reach a task's data."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datalayer.errors import ConfigError, NotSupportedError
from datalayer.stores.base import Tier
from spark_env import alluxio, copies
from spark_env import conf as pieces
from spark_env.failures import reason, spark_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import SparkSession

    from datalayer.handoff.task import Task
    from datalayer.layer import DataLayer

_HADOOP = "spark.hadoop."


def session(task: Task | DataLayer, **conf: str) -> SparkSession:
    """Return a SparkSession that reads and writes where this task's data is, each tier in place.

    Where a session runs already, that one is returned, and what can still be set on it is. Keys are handed to Spark's memory only: they
    are on no command line, in no Spark setting and in no event log.

    Args:
        task: From ``open_task()``; or a ``DataLayer``, for a notebook.
        **conf: Spark settings, which win over ours: ``session(task, **{"spark.driver.memory": "4g"})``. Without a ``spark.master``, and
            not under ``spark-submit``, Spark runs in this process with all its cores.

    Raises:
        ConfigError: Java or the jars are missing, a running session cannot take a setting, or a connection cannot be used.
        NotSupportedError: This is Spark Connect, whose server has its own configuration.
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession
    from pyspark.sql.utils import is_remote

    from datalayer.layer import DataLayer

    if is_remote():
        raise NotSupportedError(
            "Spark Connect: a session on a remote server cannot be configured from here; set it up on the server"
        )
    layer = task if isinstance(task, DataLayer) else task.layer
    alluxio.check_conf(conf)
    from_alluxio = alluxio.reads_alluxio(layer.config)
    places = {
        bucket: pieces.bucket_conf(bucket, connection, os.environ)
        for bucket, connection in pieces.buckets(layer.config).items()
    }
    settings = {
        **pieces.session_conf(),
        **{f"{_HADOOP}{name}": value for name, value in pieces.hadoop_conf().items()},
        **task_conf(task),
        **conf,
    }
    if SparkContext._active_spark_context is None:  # noqa: SLF001 - PySpark's own test for it
        settings = {**_launch(conf, from_alluxio=from_alluxio), **settings}
        spark = _start(settings)
    else:
        spark = SparkSession.builder.getOrCreate()
        _adjust(spark, settings)
    if from_alluxio:
        alluxio.prepare(spark)
    if Tier.HOT in layer.design.reads:
        copies.remember(layer.hot_store)
    _leave_no_crc_files(spark)
    for bucket, place in places.items():
        _reach(spark, bucket, {name: value for name, value in place.items() if f"{_HADOOP}{name}" not in conf})
    if not isinstance(task, DataLayer):
        task.during(copies.watching(spark, layer))
    return spark


def task_conf(task: Task | DataLayer) -> dict[str, str]:
    """Return ``spark.datalayer.input.<alias>.<output>`` and ``spark.datalayer.output.<output>`` of a task, for a job of any language."""
    from datalayer.layer import DataLayer

    if isinstance(task, DataLayer):
        return {}
    reads = {".".join(folder.parts): output.spark_uri for folder, output in task.reads()}
    return pieces.job_conf(reads, {name: task.output(name).spark_uri for name in task.context.outputs})


def _launch(conf: Mapping[str, str], *, from_alluxio: bool) -> dict[str, str]:
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise ConfigError("java is missing, and Spark runs on it: apt-get install openjdk-17-jre-headless")
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return {}  # spark-submit has started the JVM, with its own master and class path.
    master = conf.get("spark.master", "local[*]")
    local = alluxio.is_local(master)
    settings = {"spark.master": master} if master else {}
    settings |= pieces.launch_conf(class_path(from_alluxio=from_alluxio), local=local)
    if from_alluxio and not local:
        settings |= alluxio.executor_conf()
    return settings


def class_path(*, from_alluxio: bool) -> list[str]:
    """Return what goes before Spark's own jars on the class path; nothing where an image has all of it among them."""
    import pyspark

    from spark_env.jars import alluxio_jar, jars_dir

    # An image may have them among Spark's own.
    own = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent) / "jars"
    path = [] if any(own.glob("hadoop-aws-*.jar")) else [f"{jars_dir()}/*"]
    if from_alluxio and not any(own.glob("alluxio-shaded-client-*.jar")):
        # It brings an old log4j and the like: Spark's own come before.
        path += [f"{own}/*", str(alluxio_jar())]
    return path


def _start(settings: Mapping[str, str]) -> SparkSession:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    # OSError where the JVM itself could not be started.
    failures: tuple[type[Exception], ...] = (*spark_errors(), OSError)
    try:
        spark = builder.getOrCreate()
    except failures as error:
        raise ConfigError(f"Spark did not start: {reason(error)}. Its own words are on stderr") from error
    _require_jars(spark)
    if (spark.sparkContext.master or "").startswith("local") and "PYSPARK_PYTHON" not in os.environ:
        # By itself PySpark would run this process's functions in whichever python3 comes first on PATH.
        spark.sparkContext.pythonExec = sys.executable
    return spark


def _adjust(spark: SparkSession, settings: Mapping[str, str]) -> None:
    """Set on a running session what still can be set."""
    _require_jars(spark)
    hadoop = _hadoop(spark)
    for name, value in settings.items():
        if name.startswith(_HADOOP):
            hadoop.set(name.removeprefix(_HADOOP), value)
        elif spark.conf.get(name, None) != value:
            try:
                spark.conf.set(name, value)
            except spark_errors() as error:
                now = spark.conf.get(name, None)
                raise ConfigError(
                    f"{name} is {now!r} and cannot become {value!r} while a Spark session runs: stop that session first, or leave it out"
                ) from error


def _leave_no_crc_files(spark: SparkSession) -> None:
    """Have Hadoop write no ``.part-0.parquet.crc`` beside each file of a volume: it would be one more file of the output.

    This can be told to the file system of one JVM only; executors of their own still leave them, and readers pass over them.
    """
    jvm: Any = spark._jvm  # noqa: SLF001 - PySpark has no public way to Hadoop's file systems
    jvm.org.apache.hadoop.fs.FileSystem.getLocal(_hadoop(spark)).setWriteChecksum(False)


def _reach(spark: SparkSession, bucket: str, settings: Mapping[str, str]) -> None:
    """Tell Hadoop how to reach a bucket. Connections that were made with other settings are dropped, as they would be used on."""
    hadoop = _hadoop(spark)
    changed = {name: value for name, value in settings.items() if hadoop.get(name) != value}
    stale = [name for name in _known(hadoop, bucket) if name not in settings]
    if not changed and not stale:
        return
    jvm: Any = spark._jvm  # noqa: SLF001 - PySpark has no public way to Hadoop's configuration
    for name in stale:
        hadoop.unset(name)
    for name, value in changed.items():
        hadoop.set(name, value)
    path = jvm.org.apache.hadoop.fs.Path(f"s3a://{bucket}/")
    # It is remembered by bucket and user, whatever its settings; closing it makes the next one be made anew.
    jvm.org.apache.hadoop.fs.FileSystem.get(path.toUri(), hadoop).close()


def _known(hadoop: Any, bucket: str) -> list[str]:
    keys = ("access.key", "secret.key", "session.token")
    return [name for key in keys if hadoop.get(name := f"fs.s3a.bucket.{bucket}.{key}") is not None]


def _hadoop(spark: SparkSession) -> Any:
    return spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001 - there is no public way


def _require_jars(spark: SparkSession) -> None:
    jvm: Any = spark._jvm  # noqa: SLF001 - there is no public way
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    for name in (pieces.PROTOCOL_CLASS, "org.apache.hadoop.fs.s3a.S3AFileSystem"):
        try:
            loader.loadClass(name)
        except spark_errors() as error:
            raise ConfigError(
                f"the running Spark has no class {name}: start it with spark_env.session(task), or put the folder that "
                "spark_env.jars.jars_dir() names on spark.driver.extraClassPath and spark.executor.extraClassPath"
            ) from error
