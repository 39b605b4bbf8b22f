"""The committer of a pod whose job is a Spark driver: ``python -m spark_env.pod``, in the place of ``datalayer pod``.

It does what that does, and leaves ``/datalayer/spark.conf`` for any image's ``spark-submit --properties-file``: where the inputs and outputs are,
which committers run, how each bucket is reached. No keys: driver and executors have them in their environment.

::

    spark.datalayer.input.<alias>.<output>    the URI that an input is read from, in place
    spark.datalayer.output.<output>           the URI that an output is written to, in place; what Spark leaves there is committed

Executors are other pods, so nothing is copied to this one for Spark: inputs are all read in place, under ``s3-poc`` as under ``s3-direct``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import msgspec

from datalayer.commit.output import OutputWriter
from datalayer.config import Connection
from datalayer.designs import storage_design
from datalayer.handoff.context import ContextConfig, layer_for
from datalayer.handoff.journal import FileJournal, Record
from datalayer.handoff.pod import Engine, run_pod
from spark_env import alluxio
from spark_env import conf as pieces

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.pinning import PinnedInput
    from datalayer.handoff.steps import WorkFolder
    from datalayer.layer import DataLayer

SPARK_CONF = "spark.conf"
"""The file's name in the pod's folder."""

_IN_PLACE = "s3-direct"
_HADOOP = "spark.hadoop."


class SparkEngine(Engine):
    """Tells a Spark driver of any language where its data is, and has what it writes adopted."""

    def context(self, context: TaskContext) -> TaskContext:
        inputs = {alias: msgspec.structs.replace(spec, access="in-place") for alias, spec in context.inputs.items()}
        config = context.config or ContextConfig()
        if not storage_design(config.design or layer_for(context).design.name).in_place:
            # A copy in the driver's pod is none for its executors.
            config = msgspec.structs.replace(config, design=_IN_PLACE)
        return msgspec.structs.replace(context, inputs=inputs, config=config)

    def ready(self, layer: DataLayer, context: TaskContext, folder: WorkFolder, pinned: list[PinnedInput]) -> None:
        if context.attempt is None:
            raise AssertionError("what a wrapped job is told names its attempt")
        reads = {
            ".".join((*one.folder.parts, output.key.name)): output.spark_uri for one in pinned for output in one.outputs
        }
        writes = {}
        journal = FileJournal(str(folder.journal))
        for name in context.outputs:
            writes[name] = OutputWriter(layer.data, context.task_key, context.attempt.number, name).spark_uri
            journal.add(Record(name, opened=True, engine=True))
        write_properties(folder.root / SPARK_CONF, driver_conf(layer, reads, writes))


def driver_conf(layer: DataLayer, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the Spark settings of a driver and its executors, without keys.

    Args:
        layer: Where data lies.
        inputs: URI by what is read, ``<alias>.<output>``.
        outputs: URI by output name.

    Raises:
        ConfigError: One bucket is named with two connections.
    """
    hadoop = pieces.hadoop_conf()
    for bucket, connection in pieces.buckets(layer.config).items():
        public = Connection(
            endpoint=connection.endpoint,
            region=connection.region,
            timeout=connection.timeout,
            deadline=connection.deadline,
        )
        hadoop |= pieces.bucket_conf(bucket, public, os.environ)
    conf = {**pieces.session_conf(), **{f"{_HADOOP}{name}": value for name, value in hadoop.items()}}
    if alluxio.reads_alluxio(layer.config):
        conf |= alluxio.executor_conf() | alluxio.driver_conf()
    return conf | pieces.job_conf(inputs, outputs)


def write_properties(path: Path, conf: Mapping[str, str]) -> None:
    """Write settings as Java reads a properties file."""
    path.write_text("".join(f"{_escaped(name)}={_escaped(value)}\n" for name, value in conf.items()), encoding="ascii")


def _escaped(text: str) -> str:
    # Each character that means something somewhere in such a file, and whatever is not ASCII by its UTF-16 units.
    units = text.encode("utf-16-be")
    found = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    return "".join(
        chr(unit) if 0x20 < unit < 0x7F and chr(unit) not in "\\=:#!" else f"\\u{unit:04x}" for unit in found
    )


if __name__ == "__main__":
    sys.exit(run_pod(os.environ, engine=SparkEngine()).exit_code)
