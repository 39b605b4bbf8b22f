"""What Spark needs to read ``alluxio://``: Alluxio's client on its class path, and time limits under which a dead server fails a read soon.

Outputs are only ever read through Alluxio. They are written to S3 in place, as under every design.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datalayer.config import check_write_type
from datalayer.designs import storage_design
from datalayer.errors import ConfigError
from datalayer.stores.base import Tier
from spark_env.failures import spark_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import SparkSession

    from datalayer.config import Config

SCHEME = "alluxio"
CLIENT_CLASS = "alluxio.hadoop.FileSystem"

_HADOOP = "spark.hadoop."
_WRITE_TYPE = "alluxio.user.file.writetype.default"
_EXECUTOR_OPTIONS = "spark.executor.defaultJavaOptions"
_ANY_EXECUTOR_OPTIONS = (_EXECUTOR_OPTIONS, "spark.executor.extraJavaOptions")


def reads_alluxio(config: Config) -> bool:
    """Whether a configuration has Spark read from Alluxio."""
    return Tier.HOT in storage_design(config.design).reads and config.hot is not None and config.hot.alluxio


def client_conf() -> dict[str, str]:
    """Return the settings of Alluxio's client, in its own words.

    By default it waits two minutes for a master and five for a worker, at each try of a task. Here a try fails 3 to 4 seconds after a server was
    killed, and after about 6 where a worker hangs: four in a row (``spark.task.maxFailures``) end a job within 30 seconds. Its next attempt
    reads from S3. For a master that accepts connections and then says nothing there is no such setting.
    """
    return {
        # A server that is gone refuses connections: these say for how long it is tried again.
        "alluxio.user.block.read.retry.max.duration": "3s",
        "alluxio.user.block.read.retry.sleep.max": "500ms",
        "alluxio.user.rpc.retry.max.duration": "3s",
        "alluxio.user.rpc.retry.max.sleep": "500ms",
        # One that hangs, or a network that swallows what is sent, refuses nothing.
        "alluxio.user.streaming.data.read.timeout": "5s",
        "alluxio.network.connection.auth.timeout": "3s",
        "alluxio.user.network.rpc.keepalive.time": "10s",
        "alluxio.user.network.rpc.keepalive.timeout": "3s",
        "alluxio.network.connection.health.check.timeout": "2s",
        # Whoever gives up on such a server waits for its connection to end in good order, and has others wait for that.
        "alluxio.network.connection.shutdown.graceful.timeout": "500ms",
        "alluxio.network.connection.shutdown.timeout": "500ms",
        # Every minute it asks the master whether its settings have changed, and has reads wait for the answer if they have.
        "alluxio.user.conf.sync.interval": "1d",
        # The budget counts each copy once: no second one on the worker that happens to be near.
        "alluxio.user.file.passive.cache.enabled": "false",
        # A thread for each file system that reports to a master, and complains for as long as there is none.
        "alluxio.user.metrics.collection.enabled": "false",
    }


def executor_conf() -> dict[str, str]:
    """Return the Spark setting that tells executors with a JVM of their own.

    Alluxio's client takes some of its settings from the JVM alone, whatever Hadoop is told.
    """
    return {_EXECUTOR_OPTIONS: " ".join(f"-D{name}={value}" for name, value in client_conf().items())}


def check_conf(conf: Mapping[str, str]) -> None:
    """Make sure that no Spark setting has Alluxio hold the only copy of what is written.

    Raises:
        ConfigError: One does.
    """
    for name in (_WRITE_TYPE, f"{_HADOOP}{_WRITE_TYPE}"):
        if name in conf:
            check_write_type(name, conf[name])


def prepare(spark: SparkSession) -> None:
    """Have a running Spark read from Alluxio, and give up soon where it does not serve.

    Raises:
        ConfigError: It has no client of Alluxio, or executors that nobody has told when to give up.
    """
    jvm: Any = spark._jvm  # noqa: SLF001 - there is no public way
    try:
        jvm.java.lang.Thread.currentThread().getContextClassLoader().loadClass(CLIENT_CLASS)
    except spark_errors() as error:
        raise ConfigError(
            f"hot.url names Alluxio, and the running Spark has no class {CLIENT_CLASS}: start it with spark_env.session(task), or put the jar "
            "that spark_env.jars.alluxio_jar() names on spark.driver.extraClassPath and spark.executor.extraClassPath"
        ) from error
    context = spark.sparkContext
    if not is_local(context.master or ""):
        given = " ".join(context.getConf().get(name, "") or "" for name in _ANY_EXECUTOR_OPTIONS)
        missing = [name for name in client_conf() if f"-D{name}=" not in given]
        if missing:
            needed = executor_conf()[_EXECUTOR_OPTIONS]
            raise ConfigError(
                f"hot.url names Alluxio, and this Spark's executors would wait for minutes where it does not serve ({missing[0]} is not set "
                f"for them): start Spark with spark_env.session(task), or with {_EXECUTOR_OPTIONS}={needed!r}"
            )
    # The driver's JVM runs already, whoever started it; here it is still in time.
    settings = jvm.alluxio.conf.Configuration
    for name, value in client_conf().items():
        key = jvm.alluxio.conf.PropertyKey.fromString(name)
        settings.set(key, key.parseValue(value))


def is_local(master: str) -> bool:
    """Whether driver and executors are one process."""
    return master == "local" or master.startswith("local[")
