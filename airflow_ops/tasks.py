"""Tasks that give what stock operators leave behind a task address, so that a job can read it.

::

    dump = SqlToS3Operator(task_id="dump", s3_bucket="raw", s3_key="events/{{ ds }}/part.parquet", ...)
    events = reference_output("s3://raw/events/{{ ds }}/", task_id="events")
    dump >> events
    job = ExecutionEnvironmentOperator(task_id="job", image="team/job:1.0", inputs={"events": events.output})
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_ops import story
from airflow_ops.enriching import Prepared, enrich
from airflow_ops.failures import failing_at_once
from airflow_ops.inputs import Deliver
from airflow_ops.links import TaskOutputLink
from airflow_ops.publishing import PublishingTask, after_commit
from airflow_ops.values import write_value
from datalayer.addresses.keys import DEFAULT_OUTPUT
from datalayer.addresses.location import Location
from datalayer.commit.reference import pin_location
from datalayer.config import Config, TierConfig
from datalayer.errors import ConfigError
from datalayer.handoff.attempts import begin_attempt
from datalayer.stores.base import Tier
from datalayer.stores.opening import open_root

if TYPE_CHECKING:
    from airflow.sdk import Context

    from datalayer.commit.publisher import Attempt

_CHUNK_BYTES = 4 << 20


class _SourceOperator(PublishingTask, BaseOperator):
    """Publishes one output from something that lies elsewhere."""

    template_fields: Sequence[str] = ("source", "aws_conn_id", "deliver")
    operator_extra_links = (TaskOutputLink(),)

    def __init__(
        self,
        *,
        source: str | Path,
        output: str = DEFAULT_OUTPUT,
        aws_conn_id: str | None = None,
        deliver: Deliver | None = None,
        **told: Any,
    ) -> None:
        super().__init__(**told)
        self.source = source
        self.aws_conn_id = aws_conn_id
        self._declare(outputs=[output], deliver=deliver)
        self._name = output

    def execute(self, context: Context) -> Any:
        """Publish, and return the output's address for XCom."""
        prepared = enrich(self, context, connections=[self.aws_conn_id] if self.aws_conn_id else [])
        self._prepared = prepared
        for line in story.of_inputs(prepared):
            self.log.info("%s", line)
        with failing_at_once():
            with begin_attempt(prepared.layer, prepared.context, []) as attempt:
                self._fill(prepared, attempt)
            return after_commit(self, prepared, context)

    def _fill(self, prepared: Prepared, attempt: Attempt) -> None:
        raise NotImplementedError


class PublishOutputOperator(_SourceOperator):
    """Copies files into an output of its own. See :func:`publish_output`."""

    def _fill(self, prepared: Prepared, attempt: Attempt) -> None:
        writer = attempt.output(self._name)
        if isinstance(self.source, Path):
            write_value(writer, self.source)
            return
        if "://" not in self.source:
            write_value(writer, allowed_folder(self.source, prepared.layer.config))
            return
        location = Location.parse(self.source)
        folder, name = location, ""
        if location.path and not self.source.endswith("/"):
            # One object, or a folder: the store of the folder above it knows both.
            above = PurePosixPath(location.path)
            folder, name = Location(location.scheme, location.authority, str(above.parent).strip(".")), above.name
        place = TierConfig(url=str(folder), connection=self.aws_conn_id)
        store = open_root(prepared.layer.config, place, Tier.COLD, "source")
        for entry in pin_location(store, location):
            path = Location.parse(entry.object or "").path.removeprefix(folder.path).lstrip("/")
            with writer.open(entry.name if path != name else name) as target:
                for chunk in store.stream(path, chunk_size=_CHUNK_BYTES):
                    target.write(chunk)


def allowed_folder(source: str, config: Config) -> Path:
    """Return a text as a path of this machine, if it lies below a folder that the deployment lets tasks read.

    A text may come from a template or an XCom, so from whoever triggers a run or writes what an operator reads: it must not choose any file
    that the worker can read.

    Raises:
        ConfigError: It does not.
    """
    path = Path(source).resolve()
    places = [reference.prefix.removeprefix("file://") for reference in config.references]
    folders = [place for place in places if "://" not in place]
    # Resolved, both: neither ".." nor a link leads out.
    if any(path.is_relative_to(Path(folder).resolve()) for folder in folders):
        return path
    raise ConfigError(
        f"publish_output: {source!r} is a path of the worker and lies below no folder that tasks may read (configured: "
        f"{', '.join(folders) or 'none'}). Write it in the DAG as pathlib.Path({source!r}), or have the deployment add [[references]] with a "
        "prefix that covers it; for an object store write s3://bucket/path"
    )


class ReferenceOutputOperator(_SourceOperator):
    """Gives data where it lies a task address. See :func:`reference_output`."""

    def _fill(self, prepared: Prepared, attempt: Attempt) -> None:
        location = Location.parse(str(self.source))
        store = prepared.layer.reference_store(location)
        attempt.refer(self._name, store.tier.value, location, pin_location(store, location))


def publish_output(
    source: Any,
    *,
    task_id: str = "publish_output",
    output: str = DEFAULT_OUTPUT,
    aws_conn_id: str | None = None,
    deliver: Deliver | None = None,
    **told: Any,
) -> PublishOutputOperator:
    """Return a task that copies files into a committed output. Where they may stay where they are, :func:`reference_output` moves no bytes.

    Args:
        source: ``s3://bucket/path/`` (a folder) or ``s3://bucket/path`` (an object), or what another operator pushed to XCom; may be a template.
            A file or folder of the worker is a ``pathlib.Path``; as a text, it has to lie below a folder under ``[[references]]``.
        task_id: The task.
        output: The output's name.
        aws_conn_id: The connection that may read it; without one, the AWS environment's own.
        deliver: Where copies go after the commit.
        **told: What every operator of Airflow's takes.
    """
    return PublishOutputOperator(
        task_id=task_id, source=source, output=output, aws_conn_id=aws_conn_id, deliver=deliver, **told
    )


def reference_output(
    source: Any, *, task_id: str = "reference_output", output: str = DEFAULT_OUTPUT, **told: Any
) -> ReferenceOutputOperator:
    """Return a task that gives data a task address where it lies: every object is pinned by its version and size, and no byte is moved.

    Args:
        source: ``s3://bucket/path``, an object or a folder of them, below a prefix that the configuration lists under ``[[references]]``. May be a
            template, or what another operator pushed to XCom.
        task_id: The task.
        output: The output's name.
        **told: What every operator of Airflow's takes.

    Raises:
        ConfigError: ``aws_conn_id`` is given: the configured prefix says which connection reads it.
    """
    if "aws_conn_id" in told:
        raise ConfigError(
            "reference_output: aws_conn_id: the connection is that of the prefix under [[references]]; leave it out"
        )
    return ReferenceOutputOperator(task_id=task_id, source=source, output=output, **told)
