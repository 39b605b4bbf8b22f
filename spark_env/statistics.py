"""The bytes that Spark's own engine has moved, by tier: what it reads in place passes this library by.

Files on this machine are left out: Hadoop does not count what it reads of a local file in several places at once, as it does Parquet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from datalayer.stores.base import Tier
from spark_env.alluxio import SCHEME, is_local

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from datalayer.layer import DataLayer


_TIERS = {"s3a": Tier.COLD, SCHEME: Tier.HOT}


class Moved(NamedTuple):
    """Bytes, read and written."""

    read: int
    written: int


_NOTHING = Moved(0, 0)


def moved(session: SparkSession) -> dict[str, Moved]:
    """Return what Hadoop's file systems have moved by scheme since Spark started; nothing where executors have JVMs of their own."""
    if not is_local(session.sparkContext.master or ""):
        return {}
    jvm: Any = session._jvm  # noqa: SLF001 - there is no public way
    return {
        str(one.getScheme()): Moved(int(one.getBytesRead()), int(one.getBytesWritten()))
        for one in jvm.org.apache.hadoop.fs.FileSystem.getAllStatistics()
    }


def count(layer: DataLayer, before: dict[str, Moved], after: dict[str, Moved]) -> None:
    """Add what was moved between two looks to a layer's receipt."""
    for scheme, tier in _TIERS.items():
        now, then = after.get(scheme, _NOTHING), before.get(scheme, _NOTHING)
        read, written = now.read - then.read, now.written - then.written
        if read or written:
            layer.receipt.count(tier.value, "spark", calls=0, read=read, written=written)
        if read and tier is Tier.HOT:
            layer.receipt.hit(tier.value, read)
