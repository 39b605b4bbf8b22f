"""The committer of a Spark job's pod: ``python -m spark_env.committer``. As any other, and it writes Spark's settings beside the inputs.

It needs no Spark itself, and no Java.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from datalayer.errors import HandoffError
from datalayer.handoff.journal import FileJournal, JournaledOutput
from datalayer.handoff.packing import unpacked
from datalayer.handoff.pod import Engine, run_pod
from datalayer.handoff.pod_folders import open_to_group
from spark_env.conf import job_conf
from spark_env.kubernetes import (
    DRIVER_LABEL,
    EXECUTOR_TEMPLATE,
    JOB_PREFIX,
    PROPERTIES,
    DriverPod,
    SparkOnPods,
    as_properties,
    data_conf,
    driver_conf,
    driver_label,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datalayer.handoff.context import ContextConfig, TaskContext
    from datalayer.handoff.pinning import PinnedInput
    from datalayer.handoff.steps import WorkFolder
    from datalayer.layer import DataLayer

ACCOUNT_VARIABLE = "DATALAYER_INTERNAL_POD_ACCOUNT"
"""The pod's ServiceAccount."""

_POD = "DATALAYER_INTERNAL_POD_"


class SparkEngine(Engine):
    """Spark beside the committer: driver in the next container, executors in pods of their own.

    Args:
        environ: The committer's variables.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def context(self, context: TaskContext) -> TaskContext:
        """Return the context with every input and output in place: executors see no folder of the driver's pod."""
        inputs = {alias: msgspec.structs.replace(spec, access="in-place") for alias, spec in context.inputs.items()}
        config = in_place(context.config) if context.config else None
        return msgspec.structs.replace(context, inputs=inputs, config=config)

    def ready(self, layer: DataLayer, context: TaskContext, folder: WorkFolder, pinned: list[PinnedInput]) -> None:
        """Write the properties file and the executors' template."""
        try:
            job = msgspec.json.decode(unpacked(self._environ, JOB_PREFIX, "Spark's part"), type=SparkOnPods)
            pod = DriverPod(
                self._environ[f"{_POD}NAME"],
                self._environ[f"{_POD}NAMESPACE"],
                self._environ[f"{_POD}IP"],
                self._environ[ACCOUNT_VARIABLE],
            )
        except (KeyError, msgspec.MsgspecError) as error:
            raise HandoffError(
                f"{error} is missing or cannot be read: the operator that makes the pod sets it"
            ) from error
        if context.attempt is None:
            raise HandoffError("the context names no attempt, so Spark cannot be told where to write")
        journal = FileJournal(str(folder.journal))
        writers = {
            name: JournaledOutput(layer.data, context.task_key, context.attempt.number, name, journal=journal)
            for name in context.outputs
        }
        for writer in writers.values():
            # Whatever language the job is in: what Spark writes to the URI is committed, and nothing else that it leaves there.
            writer.adopt_engine_folder()
        reads = {
            ".".join((*one.folder.parts, output.key.name)): output.spark_uri for one in pinned for output in one.outputs
        }
        settings = {
            **driver_conf(job, pod, template=str(folder.root / EXECUTOR_TEMPLATE)),
            **data_conf(layer.config, self._environ),
            **job_conf(reads, {name: writer.spark_uri for name, writer in writers.items()}),
            **job.conf,
        }
        template = dict(job.template)
        metadata = dict(template.get("metadata") or {})
        metadata["labels"] = {**(metadata.get("labels") or {}), DRIVER_LABEL: driver_label(pod.name)}
        template["metadata"] = metadata
        if layer.data.local_path(folder.outputs.name) is not None:
            for made in make_room(folder.outputs):
                open_to_group(made.parent, folder.root)
        (folder.root / EXECUTOR_TEMPLATE).write_bytes(msgspec.json.encode(template))
        (folder.root / PROPERTIES).write_text(as_properties(settings), encoding="ascii")


def make_room(outputs: Path) -> list[Path]:
    """Remove the empty folders of outputs that lie where Spark writes, and return them: Spark refuses to write into a folder that is there."""
    made = []
    for item in outputs.iterdir():
        own = item.readlink() if item.is_symlink() else item
        with contextlib.suppress(OSError):
            own.rmdir()
            made.append(own)
    return made


def in_place(config: ContextConfig) -> ContextConfig:
    """Return a configuration under which Spark reads and writes the tiers themselves, from whichever machine."""
    copies_here = config.design == "hot-cold" and config.hot is not None and "://" not in (config.hot.url or "")
    if config.design == "s3-poc" or copies_here:
        return msgspec.structs.replace(config, design="s3-direct", hot=None)
    return config


def main() -> int:
    """Be the committer, and return its exit code."""
    return run_pod(os.environ, engine=SparkEngine(os.environ)).exit_code


if __name__ == "__main__":
    sys.exit(main())
