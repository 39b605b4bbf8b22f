"""``@task`` for functions that read and publish task outputs.

::

    from airflow_ops import input_of, task

    @task
    def clean(flights=input_of(extract)):
        table = flights.dataset().to_table()
        return table.filter(...)

What the function returns becomes the task's committed output; or it writes files itself, through ``out=output_writer()``. It is Airflow's ``@task``
with that, under the name ``@task.datalayer`` too.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import attr
import msgspec
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, _TaskDecorator
from airflow.sdk.definitions.xcom_arg import PlainXComArg

from airflow_ops import ending, story
from airflow_ops.enriching import Prepared, enrich
from airflow_ops.failures import failing_at_once
from airflow_ops.inputs import Declared, Deliver, plan_inputs
from airflow_ops.links import TaskOutputLink
from airflow_ops.publishing import PublishingTask, after_commit
from airflow_ops.reading import is_data_task
from airflow_ops.references import OutputReference, as_reference
from airflow_ops.values import write_value
from datalayer.addresses.keys import DEFAULT_OUTPUT, check_output_name
from datalayer.errors import ConfigError, HandoffError
from datalayer.handoff.context import TaskContext
from datalayer.handoff.hot import release_inputs
from datalayer.handoff.task import Task

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions._internal.expandinput import ExpandInput
    from airflow.sdk.definitions.xcom_arg import XComArg

    from datalayer.handoff.pinning import PinnedInput


@dataclass(frozen=True)
class WriterOf:
    """Stands in a function's signature for the writer of an output."""

    name: str


def output_writer(name: str = DEFAULT_OUTPUT) -> Any:
    """Return a parameter's default that the writer of an output takes the place of, when the task runs.

    ``def split(flights=input_of(extract), out=output_writer()): out.put("a.csv", …)``

    Raises:
        InvalidKeyError: The name cannot be an output's.
    """
    return WriterOf(check_output_name(name))


class DataTaskDecoratedOperator(PublishingTask, DecoratedOperator, PythonOperator):
    """The operator behind ``@task``: it reads, calls the function in the worker, and commits what it returns or writes.

    Args:
        python_callable: The function.
        op_args: Its positional arguments.
        op_kwargs: Its keyword arguments.
        outputs: The names of the outputs; by default one, ``default``. With several, the function returns a dict of them.
        deliver: Where copies of the outputs are delivered.
        **told: What Airflow's ``@task`` takes.

    Raises:
        ConfigError: An argument cannot be used.
    """

    template_fields: Sequence[str] = ("templates_dict", "op_args", "op_kwargs", "deliver")
    template_fields_renderers = {"templates_dict": "json", "op_args": "py", "op_kwargs": "py"}  # noqa: RUF012  # as Airflow's
    shallow_copy_attrs: Sequence[str] = ("python_callable", "op_kwargs")
    custom_operator_name: str = "@task.datalayer"
    operator_extra_links = (TaskOutputLink(),)

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        outputs: Iterable[str] | None = None,
        deliver: Deliver | None = None,
        **told: Any,
    ) -> None:
        positional, named = arguments_of(python_callable, op_args or (), op_kwargs or {})
        # What a function returns may be a whole table.
        told.setdefault("show_return_value_in_logs", False)
        own: dict[str, Any] = {"python_callable": python_callable, "op_args": positional, "op_kwargs": named}
        super().__init__(kwargs_to_upstream=own, **own, **told)
        self._writers = writers_of(python_callable)
        if outputs is None and self._writers:
            outputs = list(dict.fromkeys(self._writers.values()))
        self._chosen = outputs is not None
        self._declare(outputs=outputs, deliver=deliver)
        if unknown := sorted(set(self._writers.values()) - set(self.declared(rendered=False).outputs)):
            raise ConfigError(
                f"task {self.task_id!r}: output_writer({unknown[0]!r}) is none of its outputs; add it to outputs="
            )

    def declared(self, *, rendered: bool = True) -> Declared:
        references = {name: one for name, one in self.op_kwargs.items() if isinstance(one, OutputReference)}
        return plan_inputs(inputs=references, outputs=self._output_names, deliver=self.deliver, rendered=rendered)

    @classmethod
    def declared_when_mapped(cls, arguments: Mapping[str, Any]) -> Declared:
        named = arguments.get("op_kwargs") or {}
        references = {name: one for name, one in named.items() if isinstance(one, OutputReference)}
        return plan_inputs(
            inputs=references, outputs=arguments.get("outputs"), deliver=arguments.get("deliver"), rendered=False
        )

    def execute(self, context: Context) -> Any:
        """Run the function, and return the address of what it published, for XCom: of one output, or of each by name."""
        prepared = enrich(self, context)
        self._prepared = prepared
        for line in story.of_inputs(prepared):
            self.log.info("%s", line)
        with failing_at_once():
            published = self._publish(prepared, context)
            if published:
                return after_commit(self, prepared, context)
            ending.drop_attempt(prepared.layer, prepared.key, prepared.attempt, prepared.claim.nonce)
            release_inputs(prepared.context, prepared.layer, list(prepared.pinned))
            self.log.info("The function returned nothing and declares no output: nothing is committed")
            return None

    def _publish(self, prepared: Prepared, context: Context) -> bool:
        """Run the function within an attempt; whether there was anything to commit."""
        # Delivered afterwards, so that the log says what was.
        kept = {name: msgspec.structs.replace(spec, destinations=[]) for name, spec in prepared.context.outputs.items()}
        told = msgspec.structs.replace(prepared.context, outputs=kept)
        with contextlib.suppress(_NothingToCommitError), Task(told, prepared.layer) as opened:
            self.op_kwargs = {
                name: argument_of(opened, name, value, prepared.pinned) if isinstance(value, OutputReference) else value
                for name, value in self.op_kwargs.items()
            }
            for name, output in self._writers.items():
                self.op_kwargs[name] = opened.output(output)
            value = super().execute(context)
            if value is None and not self._chosen:
                raise _NothingToCommitError
            self._write(opened, told, value)
            return True
        return False

    def _write(self, opened: Task, told: TaskContext, value: Any) -> None:
        names = list(told.outputs)
        if value is None:
            return  # Written through the writers; an output that was not is an error at the commit.
        if len(names) == 1:
            write_value(opened.output(names[0]), value)
            return
        if not isinstance(value, Mapping) or not value.keys() <= told.outputs.keys():
            raise HandoffError(
                f"task {self.task_id!r} has the outputs {', '.join(names)}, so its function returns a dict with these keys, not "
                f"{type(value).__name__}{f' with {sorted(map(str, value))}' if isinstance(value, Mapping) else ''}"
            )
        for name, part in value.items():
            write_value(opened.output(name), part)


class _NothingToCommitError(Exception):
    """The function returned nothing and declares no output."""


def argument_of(opened: Task, name: str, reference: OutputReference, pinned: Sequence[PinnedInput]) -> Any:
    """Return what a function gets for an input.

    Of one task instance: its output (a ``ResolvedOutput``; None for an optional one that is not there), or a dict of them where the reference names
    several. Of several instances (map indexes, runs): a list of that.

    Raises:
        HandoffError: There are several outputs, and the reference does not say which.
    """
    spec = opened.context.inputs[name]
    several = spec.runs is not None or spec.map_indexes is not None
    if reference.outputs is not None and len(reference.outputs) > 1:
        columns = {output: opened.inputs(name, output) for output in reference.outputs}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return rows if several else next(iter(rows), None)
    found = opened.inputs(name, _output_of(name, reference, pinned))
    return found if several else next(iter(found), None)


def _output_of(name: str, reference: OutputReference, pinned: Sequence[PinnedInput]) -> str:
    if reference.outputs is not None:
        return reference.outputs[0]
    names = sorted({output for one in pinned if one.alias == name for output in one.resolution})
    if len(names) == 1:
        return names[0]
    if DEFAULT_OUTPUT in names or not names:
        return DEFAULT_OUTPUT
    raise HandoffError(
        f"input {name!r} has the outputs {', '.join(names)}: say which one is read, input_of(task, output={names[0]!r})"
    )


def arguments_of(
    function: Callable[..., Any], positional: Sequence[Any], named: Mapping[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    """Return a function's arguments with the references among its defaults, and those that were passed, by parameter name.

    What an @task of ours returned counts as a reference to its output, where it is passed on as it is.

    Raises:
        ConfigError: A reference is passed for ``*args``, or by position only.
    """
    parameters = inspect.signature(function).parameters
    given = {name: _as_input(value) for name, value in named.items()}
    listed = [_as_input(value) for value in positional]
    if any(isinstance(value, OutputReference) for value in listed):
        kinds = list(parameters.values())
        movable = len(listed) <= len(kinds) and all(
            one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for one in kinds[: len(listed)]
        )
        if not movable:
            raise ConfigError(f"{function.__name__}: pass the output of a task by the name of its parameter")
        given |= {one.name: value for one, value in zip(kinds, listed, strict=False)}
        listed = []
    taken = {one.name for one, _ in zip(parameters.values(), listed, strict=False)}
    defaults = {
        name: one.default
        for name, one in parameters.items()
        if isinstance(one.default, OutputReference) and name not in given and name not in taken
    }
    return listed or positional[:0], defaults | given


def _as_input(value: Any) -> Any:
    """Return a reference for what an @task of ours returned; anything else as it is."""
    if isinstance(value, PlainXComArg) and value.key == "return_value" and is_data_task(value.operator):
        return as_reference(value)
    return value


def writers_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return the outputs that a function writes by itself, by the names of its parameters."""
    parameters = inspect.signature(function).parameters
    return {name: one.default.name for name, one in parameters.items() if isinstance(one.default, WriterOf)}


class _DataTaskDecorator(_TaskDecorator):  # type: ignore[type-arg]  # of any function
    """Airflow's decorator, which also hands the references among a mapped function's defaults to Airflow, for dependencies."""

    def _expand(self, expand_input: ExpandInput, *, strict: bool) -> XComArg:
        given = self.kwargs.get("op_kwargs", {})
        mapped = expand_input.value if isinstance(expand_input.value, Mapping) else {}
        _, references = arguments_of(self.function, (), given)
        kept = {name: value for name, value in references.items() if name not in mapped}
        if kept == given:
            return super()._expand(expand_input, strict=strict)
        return attr.evolve(self, kwargs={**self.kwargs, "op_kwargs": kept})._expand(expand_input, strict=strict)  # noqa: SLF001  # its own class


def task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool | None = None, **told: Any
) -> TaskDecorator:
    """Make a function a task that reads and publishes task outputs; with or without arguments, as Airflow's ``@task``.

    Args:
        python_callable: The function.
        multiple_outputs: Not of use here: XCom gets the outputs' addresses only.
        **told: As for :class:`DataTaskDecoratedOperator`: ``outputs``, ``deliver``, and what Airflow's ``@task`` takes.

    Raises:
        ConfigError: ``multiple_outputs`` is asked for.
    """
    if multiple_outputs:
        raise ConfigError(
            "multiple_outputs spreads a dict over XComs; here name the outputs: @task(outputs=[…]), and return a dict of them"
        )

    def decorate(function: Callable[..., Any]) -> Any:
        return _DataTaskDecorator(
            function=function, multiple_outputs=False, operator_class=DataTaskDecoratedOperator, kwargs=dict(told)
        )

    return cast("TaskDecorator", decorate if python_callable is None else decorate(python_callable))
