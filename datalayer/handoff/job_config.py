"""The talk's ``job_config`` as a context.

::

    {"input": {"operators": [{"task_id": "task_1"}]},
     "output": {"default": {"destinations": [{"type": "s3", "data": {"bucket": "b", "path": "p", "aws_conn_id": "c"}}]}}}
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from datalayer.addresses.keys import DEFAULT_OUTPUT, TaskKey
from datalayer.errors import ConfigError, InvalidKeyError
from datalayer.handoff.context import (
    ContextConfig,
    InputSpec,
    OutputSpec,
    ProducerSpec,
    TaskContext,
    check_context,
)
from datalayer.handoff.destinations import check_destination
from datalayer.handoff.fields import convert

_NAME = "job_config"


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream task. ``task_id`` alone is the talk's form; the other keys are those of a context's input."""

    task_id: str
    alias: str | None = None
    """What the job calls it; by default the task id."""
    key: str | None = None
    runs: list[str] | None = None
    map_indexes: list[int] | None = None
    outputs: list[str] | None = None
    optional: bool = False
    access: Literal["directory", "in-place"] = "directory"


class JobInput(msgspec.Struct, frozen=True):
    """What a job reads."""

    operators: list[Operator] = []


class JobConfig(msgspec.Struct, frozen=True):
    """A whole ``job_config``."""

    input: JobInput = msgspec.field(default_factory=JobInput)
    output: dict[str, OutputSpec] = {}


def context_from_job_config(
    job_config: dict[str, Any],
    key: TaskKey,
    *,
    owner: str | None = None,
    config: ContextConfig | None = None,
    producer: ProducerSpec | None = None,
) -> TaskContext:
    """Return the context of a job that a ``job_config`` describes.

    Args:
        job_config: As a DAG author writes it. Without ``output`` there is one output, ``default``, that is delivered nowhere.
        key: The task; its inputs are tasks of the same team, DAG and run unless an operator's ``key`` says otherwise.
        owner: The scheduler's id of this try of the task instance.
        config: The configuration the job works under.
        producer: Who makes the outputs.

    Raises:
        ConfigError: A key is unknown or missing, a value cannot be used, or two inputs have one alias. The message names the field:
            ``job_config.output.default.destinations[0].data.bucket``.
    """
    parsed = convert(job_config, JobConfig, _NAME, ConfigError, strict=True)
    inputs: dict[str, InputSpec] = {}
    for index, operator in enumerate(parsed.input.operators):
        alias = operator.alias or operator.task_id
        path = f"{_NAME}.input.operators[{index}]"
        if alias in inputs:
            raise ConfigError(
                f"{path}: another input is called {alias!r} already; give one of them an alias of its own"
            )
        inputs[alias] = _input(operator, alias, key, path)
    for name, output in parsed.output.items():
        for index, destination in enumerate(output.destinations):
            check_destination(destination, f"{_NAME}.output.{name}.destinations[{index}]")
    context = TaskContext(
        key=str(key),
        owner=owner,
        inputs=inputs,
        outputs=parsed.output or {DEFAULT_OUTPUT: OutputSpec()},
        config=config,
        producer=producer,
    )
    check_context(context, _NAME)
    return context


def _input(operator: Operator, alias: str, key: TaskKey, path: str) -> InputSpec:
    address = operator.key
    try:
        own = TaskKey(key.team, key.dag_id, operator.task_id, key.run)
    except InvalidKeyError as error:
        raise ConfigError(f"{path}.task_id: {error}") from error
    if address is None and operator.task_id != alias:
        address = str(own)
    return InputSpec(
        key=address,
        runs=operator.runs,
        map_indexes=operator.map_indexes,
        outputs=operator.outputs,
        optional=operator.optional,
        access=operator.access,
    )
