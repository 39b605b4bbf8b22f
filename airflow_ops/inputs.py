"""What an operator reads and produces, as its author wrote it: the talk's ``job_config``, or ``inputs=``, ``outputs=`` and ``deliver=``.

Read twice: when the DAG is parsed, for dependencies and mistakes; and before the task runs, when templates are rendered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from airflow_ops.references import OutputNames, OutputReference, S3Destination, as_reference
from datalayer.addresses.encoding import encode_component
from datalayer.addresses.keys import DEFAULT_OUTPUT, check_output_name
from datalayer.errors import ConfigError, InvalidKeyError
from datalayer.handoff.context import OutputSpec
from datalayer.handoff.destinations import Destination, S3Place, check_destination
from datalayer.handoff.fields import convert
from datalayer.handoff.job_config import Operator as BasicOperator

Deliver = Sequence[S3Destination] | Mapping[str, Sequence[S3Destination]]
"""Destinations of the only output, or of each output by its name."""

_NAME = "job_config"


class Declared(NamedTuple):
    """What an operator reads and produces. Inputs still are references: what they stand for is known when the task runs."""

    inputs: dict[str, OutputReference]
    """By alias, what the job calls it."""
    outputs: dict[str, OutputSpec]


class OperatorInput(BasicOperator, frozen=True, kw_only=True):
    """One upstream task of a ``job_config``. ``task_id`` alone is the talk's form: the same DAG and run."""

    dag_id: str | None = None
    """Another DAG; then the run is the one of the same logical date, unless one of the next three says otherwise."""
    team: str | None = None
    run: str | None = None
    last: int | None = None
    latest: bool = False


class JobInput(msgspec.Struct, frozen=True):
    """What a job reads."""

    operators: list[OperatorInput] = []


class JobConfig(msgspec.Struct, frozen=True):
    """A whole ``job_config``."""

    input: JobInput = msgspec.field(default_factory=JobInput)
    output: dict[str, OutputSpec] = {}


class DataTask:
    """What makes an operator one that reads and publishes task outputs. Stands before Airflow's class among the bases.

    An operator passes ``job_config``, ``inputs``, ``outputs`` and ``deliver`` on to :meth:`_declare`, and has :attr:`data_fields` among its
    template fields: so Airflow renders them, and makes the tasks behind references upstream.
    """

    data_fields: ClassVar[tuple[str, ...]] = ("job_config", "inputs", "deliver")

    job_config: Any
    inputs: Any
    deliver: Any
    _output_names: Any

    def _declare(
        self,
        job_config: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Iterable[str] | None = None,
        deliver: Deliver | None = None,
    ) -> Declared:
        """Keep what the author wrote, and return it looked at as far as it can be before templates are rendered.

        Raises:
            ConfigError: It cannot be used; the message names the field.
        """
        self.job_config = job_config
        self.inputs = references_of(inputs)
        self.deliver = deliver
        # A mere text is refused below, not taken apart.
        self._output_names = outputs if outputs is None or isinstance(outputs, str) else tuple(outputs)
        return self.declared(rendered=False)

    def declared(self, *, rendered: bool = True) -> Declared:
        """Return what the operator reads and produces.

        Args:
            rendered: Whether templates have been rendered, so that every value is the one that will be used.

        Raises:
            ConfigError: It cannot be used; the message names the field.
        """
        return plan_inputs(
            job_config=self.job_config,
            inputs=self.inputs,
            outputs=self._output_names,
            deliver=self.deliver,
            rendered=rendered,
        )

    @classmethod
    def declared_when_mapped(cls, arguments: Mapping[str, Any]) -> Declared:
        """Return what the instances of a mapped operator read, as far as it is the same for all of them.

        Args:
            arguments: What ``partial()`` was given.

        Raises:
            ConfigError: It cannot be used.
        """
        form = {name: arguments.get(name) for name in ("job_config", "inputs", "outputs", "deliver")}
        return plan_inputs(**form, rendered=False)

    @property
    def output(self) -> Any:
        """The task's output, to be read: ``inputs={"flights": extract.output}``. All of them, if it has several."""
        return OutputReference(task_id=self.task_id, operator=self)  # type: ignore[attr-defined,arg-type]  # an operator's

    @property
    def outputs(self) -> OutputNames:
        """The task's outputs by name: ``extract.outputs["rejected"]``."""
        return OutputNames(self, self.declared(rendered=False).outputs)  # type: ignore[arg-type]  # an operator

    def resolve_template_files(self) -> None:
        """Airflow calls this for each task of a DAG once the file is parsed: all dependencies are set by now, and can be looked at.

        Raises:
            ConfigError: An input of this DAG is no upstream task.
        """
        check_upstream(self, self.declared(rendered=False))
        super().resolve_template_files()  # type: ignore[misc]  # an operator's


def references_of(inputs: Mapping[str, Any] | None) -> dict[str, OutputReference] | None:
    """Return ``inputs=`` with every task in it as a reference.

    Raises:
        ConfigError: It is no mapping of aliases, or a value is no task.
    """
    if inputs is None:
        return None
    if not isinstance(inputs, Mapping):
        raise ConfigError(f'inputs: expected names and tasks, like {{"flights": extract.output}}, got {inputs!r}')
    return {alias: as_reference(value, f"inputs.{alias}") for alias, value in inputs.items()}


def plan_inputs(
    *,
    job_config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Iterable[str] | None = None,
    deliver: Deliver | None = None,
    rendered: bool = True,
) -> Declared:
    """Return what an operator's arguments ask for.

    Args:
        job_config: The talk's form.
        inputs: Tasks, or references to their outputs, by alias.
        outputs: The names of the outputs; by default one, ``default``.
        deliver: Where copies of outputs are delivered.
        rendered: Whether templates have been rendered; before that, a destination is not looked at.

    Raises:
        ConfigError: Both forms are used, a key is unknown, a value does not fit, or two inputs have one alias. The message names the field.
    """
    if job_config is not None:
        for name, given in (("inputs", inputs), ("outputs", outputs), ("deliver", deliver)):
            if given is not None:
                raise ConfigError(f"{_NAME} and {name}= are both given: they say the same thing in two forms; use one")
        declared = _from_job_config(job_config)
    else:
        declared = Declared(references_of(inputs) or {}, _outputs(outputs, deliver))
    for alias in declared.inputs:
        try:
            encode_component(alias, "alias")
        except InvalidKeyError as error:
            raise ConfigError(f"inputs: {error}") from error
    for name, spec in declared.outputs.items():
        try:
            check_output_name(name)
        except InvalidKeyError as error:
            raise ConfigError(f"outputs: {error}") from error
        for index, destination in enumerate(spec.destinations):
            if rendered:
                check_destination(destination, f"outputs.{name}.destinations[{index}]")
    return declared


def check_upstream(task: Any, declared: Declared) -> None:
    """Make sure that every task of its own DAG that a task reads runs before it.

    Raises:
        ConfigError: One does not, or is not in the DAG.
    """
    dag = task.get_dag()
    if dag is None:
        return
    own = {alias: one for alias, one in declared.inputs.items() if is_own_run(one, dag.dag_id)}
    upstream = task.get_flat_relative_ids(upstream=True) if own else set()
    for alias, one in own.items():
        if one.task_id in upstream:
            continue
        if one.task_id not in dag.task_dict:
            near = ", ".join(sorted(dag.task_dict)[:10])
            raise ConfigError(
                f"task {task.task_id!r}, input {alias!r}: the DAG {dag.dag_id!r} has no task {one.task_id!r} (it has {near}). "
                "For a task of another DAG, name its dag_id"
            )
        raise ConfigError(
            f"task {task.task_id!r} of the DAG {dag.dag_id!r} reads {one.task_id!r} of the same run as {alias!r}, and does not wait for it. "
            f"Write {one.task_id} >> {task.task_id}, or pass the task itself: inputs={{{alias!r}: {one.task_id}.output}}"
        )


def is_own_run(reference: OutputReference, dag_id: str) -> bool:
    """Whether a reference is to the same run of the same DAG, so that Airflow's dependencies order the two."""
    if reference.key is not None or reference.team is not None:
        return False
    same_run = reference.run is None and reference.runs is None and reference.last is None and not reference.latest
    return same_run and (reference.dag_id is None or reference.dag_id == dag_id)


def _from_job_config(job_config: Mapping[str, Any]) -> Declared:
    document = dict(job_config) if isinstance(job_config, Mapping) else job_config
    parsed = convert(document, JobConfig, _NAME, ConfigError, strict=True)
    inputs: dict[str, OutputReference] = {}
    for index, one in enumerate(parsed.input.operators):
        alias = one.alias or one.task_id
        path = f"{_NAME}.input.operators[{index}]"
        if alias in inputs:
            raise ConfigError(
                f"{path}: another input is called {alias!r} already; give one of them an alias of its own"
            )
        try:
            inputs[alias] = _reference(one)
        except (ConfigError, InvalidKeyError) as error:
            raise ConfigError(f"{path}: {error}") from error
    return Declared(inputs, parsed.output or {DEFAULT_OUTPUT: OutputSpec()})


def _reference(one: OperatorInput) -> OutputReference:
    return OutputReference(
        task_id=one.task_id,
        dag_id=one.dag_id,
        team=one.team,
        outputs=None if one.outputs is None else tuple(one.outputs),
        run=one.run,
        runs=None if one.runs is None else tuple(one.runs),
        last=one.last,
        latest=one.latest,
        map_indexes=None if one.map_indexes is None else tuple(one.map_indexes),
        optional=one.optional,
        access=one.access,
        key=one.key,
    )


def _outputs(names: Iterable[str] | None, deliver: Deliver | None) -> dict[str, OutputSpec]:
    if isinstance(names, str):
        raise ConfigError(f"outputs: expected a list of names, got {names!r}")
    declared = [DEFAULT_OUTPUT] if names is None else list(names)
    if not declared:
        raise ConfigError("outputs: a task needs at least one output; leave the argument out for one named default")
    if deliver is None:
        wanted: Mapping[str, Sequence[S3Destination]] = {}
    elif isinstance(deliver, Mapping):
        wanted = deliver
    elif len(declared) == 1:
        wanted = {declared[0]: deliver}
    else:
        raise ConfigError('deliver: there are several outputs; say which one goes where: {"name": [S3Destination(…)]}')
    if unknown := sorted(set(wanted) - set(declared)):
        raise ConfigError(f"deliver.{unknown[0]}: there is no such output; the outputs are {', '.join(declared)}")
    return {name: OutputSpec(_destinations(name, wanted.get(name, ()))) for name in declared}


def _destinations(name: str, wanted: Sequence[S3Destination]) -> list[Destination]:
    kind: Literal["s3"] = "s3"
    for one in wanted:
        if not isinstance(one, S3Destination):
            raise ConfigError(
                f"deliver.{name}: {one!r} is no destination; write S3Destination(bucket, path, aws_conn_id)"
            )
    return [Destination(kind, S3Place(one.bucket, one.path, one.aws_conn_id)) for one in wanted]
