"""Words for what a task reads: references to outputs that need not exist yet.

``extract.output`` and ``input_of(task)`` name a task of the same DAG and make the dependency too; ``task_output("dag", "task")`` names one of
another DAG.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.definitions._internal.mixins import ResolveMixin

from datalayer.addresses.keys import check_output_name
from datalayer.addresses.runs import RunId, run_segment
from datalayer.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import Operator

Access = Literal["directory", "in-place"]


@dataclass(frozen=True, kw_only=True)
class OutputReference(ResolveMixin):
    """What one input stands for. Airflow finds it in an operator's template fields, and makes the dependency where ``operator`` is set.

    Texts may be templates; they are rendered with the operator that holds the reference.
    """

    task_id: str
    dag_id: str | None = None
    """The DAG; by default the reader's own, and then the reader's own run too."""
    team: str | None = None
    """The team; by default the reader's own."""
    outputs: tuple[str, ...] | None = None
    """Which outputs; by default all."""
    run: str | None = None
    """One run: a date in ISO form, or a run's segment. By default the one of the reader's logical date."""
    runs: tuple[str, ...] | None = None
    """Several runs, each in a folder of its own."""
    last: int | None = None
    """So many of the newest committed runs that are not later than the reader's own, each in a folder of its own."""
    latest: bool = False
    """The newest committed dated run, whatever the reader's own."""
    map_indexes: tuple[int, ...] | None = None
    """Which indexes of a mapped task; by default all of them."""
    optional: bool = False
    """Whether what has not committed is simply absent."""
    access: Access = "directory"
    key: str | None = None
    """A whole address, in the place of all of the above but ``outputs``, ``runs``, ``map_indexes``, ``optional`` and ``access``."""
    operator: Operator | None = field(default=None, compare=False, repr=False)
    """The task itself, where the DAG file has it at hand."""

    def __post_init__(self) -> None:
        ways = [
            name
            for name, given in (
                ("run", self.run is not None),
                ("runs", self.runs is not None),
                ("last", self.last is not None),
                ("latest", self.latest),
            )
            if given
        ]
        if len(ways) > 1:
            raise ConfigError(f"{self}: {' and '.join(ways)} are both given; say in one way which run is read")
        if self.last is not None and (isinstance(self.last, bool) or not isinstance(self.last, int) or self.last < 1):
            raise ConfigError(f"{self}: last={self.last!r}; write how many runs, 1 or more")
        for name in self.outputs or ():
            check_output_name(name)

    def __str__(self) -> str:
        if self.key is not None:
            return self.key
        place = "/".join(part for part in (self.team, self.dag_id, self.task_id) if part)
        when = self.run or (",".join(self.runs) if self.runs else "") or (f"last {self.last}" if self.last else "")
        when = when or ("latest" if self.latest else "")
        names = f" ({', '.join(self.outputs)})" if self.outputs else ""
        return f"{place}{'@' if when else ''}{when}{names}"

    def iter_references(self) -> Iterator[tuple[Operator, str]]:
        """Yield the task that is read, for Airflow to make it upstream."""
        if self.operator is not None:
            yield self.operator, "return_value"

    def resolve(self, context: Context) -> OutputReference:
        """Return this reference with its texts rendered. Airflow calls it where the reference stands in a template field.

        Raises:
            ConfigError: The operator that holds it does not read task outputs.
        """
        from airflow_ops.reading import is_data_task
        from airflow_ops.sensors import TaskOutputSensor

        reader: Any = context["task"]
        if not is_data_task(reader) and not isinstance(reader, TaskOutputSensor):
            raise ConfigError(
                f"task {reader.task_id!r} is a {type(reader).__name__}, which cannot read the output of {self}: read it in an "
                "@task of airflow_ops, with input_of(…) as a parameter's default. For what the task pushed to XCom, use XComArg(task)"
            )
        texts = {name: _rendered(getattr(self, name), reader, context) for name in _TEXTS}
        return replace(self, **texts)


_TEXTS = ("dag_id", "team", "run", "runs", "key")


def _rendered(value: Any, task: Any, context: Context) -> Any:
    return None if value is None else _plain(task.render_template(value, context))


def _plain(value: Any) -> Any:
    """Return a rendered value as text. Where a DAG renders templates to objects, a date may come of one."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return run_segment(value) if isinstance(value, datetime) else str(value)


@dataclass(frozen=True)
class S3Destination(ResolveMixin):
    """A folder of a bucket that a copy of an output is delivered to, and the connection that may write there. Texts may be templates."""

    bucket: str
    path: str
    aws_conn_id: str | None = None
    """A connection of Airflow's, or of the configuration; without one, the AWS environment's own."""

    def iter_references(self) -> Iterator[tuple[Operator, str]]:
        """Yield nothing: a destination depends on no task."""
        return iter(())

    def resolve(self, context: Context) -> S3Destination:
        """Return this destination with its texts rendered."""
        task: Any = context["task"]
        return S3Destination(*(_rendered(part, task, context) for part in (self.bucket, self.path, self.aws_conn_id)))


class OutputNames(Mapping[str, OutputReference]):
    """The outputs of a task by name: ``extract.outputs["rejected"]``.

    Args:
        task: The task.
        names: The names that it declares; None where that is not known before it runs.
    """

    def __init__(self, task: Operator, names: Iterable[str] | None) -> None:
        self._task = task
        self._names = None if names is None else tuple(names)

    def __getitem__(self, name: str) -> OutputReference:
        if self._names is not None and name not in self._names:
            raise ConfigError(
                f"task {self._task.task_id!r} declares no output {name!r} (declared: {', '.join(self._names)}). Add it to its outputs"
            )
        return OutputReference(task_id=self._task.task_id, outputs=(name,), operator=self._task)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names or ())

    def __len__(self) -> int:
        return len(self._names or ())


def task_output(
    dag_id: str,
    task_id: str,
    *,
    output: str | Sequence[str] | None = None,
    team: str | None = None,
    run: str | datetime | RunId | Sequence[str | datetime | RunId] | None = None,
    last: int | None = None,
    latest: bool = False,
    map_indexes: int | Sequence[int] | None = None,
    optional: bool = False,
    access: Access = "directory",
) -> OutputReference:
    """Return a reference to a task of another DAG. It makes no dependency: wait for it with ``TaskOutputSensor``, or by the schedule.

    Args:
        dag_id: The DAG.
        task_id: The task.
        output: Which output, or several; by default all.
        team: The team that owns the DAG; by default the reader's own.
        run: The run: a date, an aware datetime, or a ``RunId``; a list of them for several, each in a folder of its own. By default the run of the
            reader's own logical date.
        last: So many of the newest committed runs that are not later than the reader's own.
        latest: The newest committed run, by logical date.
        map_indexes: Which indexes of a mapped task; by default all.
        optional: Whether what has not committed is simply absent.
        access: ``in-place``: the job reads through the SDK or Spark, and needs no files below ``$DATALAYER_IN``.

    Raises:
        ConfigError: Two of ``run``, ``last`` and ``latest`` are given, or a value does not fit.
        InvalidKeyError: An output's name cannot be one.
    """
    one = run if isinstance(run, str | datetime) else None
    return OutputReference(
        task_id=task_id,
        dag_id=dag_id,
        team=team,
        outputs=_names(output),
        run=None if one is None else _run_text(one),
        runs=None if run is None or isinstance(run, str | datetime) else tuple(map(_run_text, run)),
        last=last,
        latest=latest,
        map_indexes=(map_indexes,)
        if isinstance(map_indexes, int)
        else None
        if map_indexes is None
        else tuple(map_indexes),
        optional=optional,
        access=access,
    )


def input_of(
    task: Any, *, output: str | Sequence[str] | None = None, optional: bool = False, access: Access = "directory"
) -> OutputReference:
    """Return a reference to a task of the same DAG and run, which becomes upstream of the reader.

    Args:
        task: An operator, a mapped one, what calling a ``@task`` function returned, a reference, or a task id.
        output: Which output, or several; by default all.
        optional: Whether it may have committed nothing.
        access: As for :func:`task_output`.

    Raises:
        ConfigError: It is no task.
    """
    found = as_reference(task)
    return replace(found, outputs=found.outputs if output is None else _names(output), optional=optional, access=access)


def as_reference(value: Any, what: str = "input_of") -> OutputReference:
    """Return the reference that an author means by a task, whatever of it is at hand.

    Args:
        value: As for :func:`input_of`.
        what: The field it stands in, for errors.

    Raises:
        ConfigError: It is no task.
    """
    from airflow.sdk.bases.decorator import is_decorated_task
    from airflow.sdk.definitions._internal.abstractoperator import AbstractOperator
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    if isinstance(value, OutputReference):
        return value
    if isinstance(value, str):
        return OutputReference(task_id=value)
    if isinstance(value, PlainXComArg):
        value = value.operator
    if isinstance(value, AbstractOperator):
        return OutputReference(task_id=value.task_id, operator=value)  # type: ignore[arg-type]  # every operator is one of the two
    if is_decorated_task(value):
        raise ConfigError(
            f"{what}: {value.function.__name__} is a function; call it, and give what it returns: {value.function.__name__}()"
        )
    raise ConfigError(
        f"{what}: {value!r} is no task; give a task of this DAG, its .output, or task_output(dag_id, task_id)"
    )


def _names(output: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return None if output is None else (output,) if isinstance(output, str) else tuple(output)


def _run_text(run: str | datetime | RunId) -> str:
    return run_segment(run) if isinstance(run, datetime | RunId) else run
