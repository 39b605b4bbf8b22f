"""``open_task()``: what a job of ours in Python reads and writes through.

::

    with open_task() as task:
        table = task.input("extract").dataset().to_table()
        task.output("default").write_table(table)

Wrapped by ``datalayer run``, the wrapper commits when the process ends with 0. Otherwise the block commits when it ends well.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from datalayer.addresses.keys import DEFAULT_OUTPUT
from datalayer.addresses.location import Location
from datalayer.errors import HandoffError, NotPublishedError
from datalayer.handoff.attempts import begin_attempt
from datalayer.handoff.context import (
    CONTEXT_VARIABLE,
    IN_VARIABLE,
    JOURNAL_VARIABLE,
    OUT_VARIABLE,
    TaskContext,
    layer_for,
    read_context,
)
from datalayer.handoff.deliveries import check_destinations, deliver_outputs
from datalayer.handoff.hot import check_hot, release_inputs, warm_outputs
from datalayer.handoff.inputs import prepare_inputs
from datalayer.handoff.journal import FileJournal, JournaledOutput, Record
from datalayer.handoff.local_copy import LocalOutput
from datalayer.handoff.pinning import PinnedInput, pin_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from datalayer.addresses.keys import TaskKey
    from datalayer.commit.output import OutputWriter
    from datalayer.commit.publisher import Attempt
    from datalayer.layer import DataLayer
    from datalayer.resolve.output import ResolvedOutput


def open_task(*, layer: DataLayer | None = None, environ: Mapping[str, str] | None = None) -> Task:
    """Return the task that this process was started for.

    Args:
        layer: The layer to work on; by default the one that the context and this process's configuration give.
        environ: The environment to read; by default this process's.

    Raises:
        HandoffError: There is no context, or it cannot be read.
        ConfigError: The configuration cannot be used.
    """
    environ = os.environ if environ is None else environ
    path = environ.get(CONTEXT_VARIABLE)
    if not path:
        raise HandoffError(
            f"{CONTEXT_VARIABLE} is not set, so this process was not started as a job. Start it with "
            "`datalayer run --context FILE -- COMMAND`, or set the variable to a context file. In a notebook use DataLayer(config) instead"
        )
    context = read_context(Path(path))
    layer = layer or layer_for(context)
    return WrappedTask(context, layer, environ) if context.commit == "wrapper" else Task(context, layer)


class Task:
    """A task as its job sees it. This one commits by itself: use it as a context manager.

    When the block ends well, the outputs are committed and delivered. When it raises, what was staged is dropped.
    """

    def __init__(self, context: TaskContext, layer: DataLayer) -> None:
        self.context = context
        """What the job was told."""
        self.layer = layer
        """The layer that the job works on."""
        self._pinned: list[PinnedInput] | None = None
        self._copies: Path | None = None
        self._attempt: Attempt | None = None
        self._during = contextlib.ExitStack()

    @property
    def key(self) -> TaskKey:
        """The task's address."""
        return self.context.task_key

    def input(self, alias: str, output: str = DEFAULT_OUTPUT) -> ResolvedOutput:
        """Return one output of an input, ready to be read. Under a design that copies, it is read from the local copy.

        Raises:
            HandoffError: The context names no such input, or it stands for several task instances: use :meth:`inputs`.
            NotPublishedError: The input is optional and not there.
            ResolutionError: It has no such output.
        """
        found = self.inputs(alias, output)
        if not found:
            raise NotPublishedError(
                f"the optional input {alias!r} of {self.key} is not there: no attempt has committed"
            )
        if len(found) > 1:
            raise HandoffError(f"input {alias!r} stands for {len(found)} task instances: use task.inputs({alias!r})")
        return found[0]

    def inputs(self, alias: str, output: str = DEFAULT_OUTPUT) -> list[ResolvedOutput]:
        """Return one output of every task instance that an input stands for: several runs, or a mapped upstream's. Empty if absent.

        Raises:
            HandoffError: The context names no such input.
            ResolutionError: One of them has no such output.
        """
        spec = self.context.inputs.get(alias)
        if spec is None:
            known = ", ".join(sorted(self.context.inputs)) or "none"
            raise HandoffError(
                f"the context names no input {alias!r} (it names: {known}). Add it to the context's inputs"
            )
        if spec.outputs is not None and output not in spec.outputs:
            raise HandoffError(
                f"the context asks only for {', '.join(spec.outputs)} of input {alias!r}, not for {output!r}. Add it there"
            )
        return [self._read(one, output) for one in self._inputs() if one.alias == alias]

    def reads(self) -> list[tuple[PurePosixPath, ResolvedOutput]]:
        """Return every output that the job reads, each with its folder relative to ``$DATALAYER_IN``, whether or not it lies there."""
        return [
            (one.folder / output.key.name, self._read(one, output.key.name))
            for one in self._inputs()
            for output in one.outputs
        ]

    def output(self, name: str = DEFAULT_OUTPUT) -> OutputWriter:
        """Return the writer of one declared output.

        Raises:
            HandoffError: The context declares no such output, or the task is not open: use ``with open_task() as task``.
        """
        self._check_declared(name)
        if self._attempt is None:
            raise HandoffError(
                "nobody would commit this output: write it inside `with open_task() as task:`, which commits when the block ends well, "
                "or start the job with `datalayer run`"
            )
        return self._attempt.output(name, packed=self.context.outputs[name].packed)

    def during(self, context: AbstractContextManager[object]) -> None:
        """Enter a context that is left when the task's block ends, before anything is committed.

        An engine that runs within the block learns there how it ended. It may raise in the place of its own exception one that says more.
        """
        self._during.enter_context(context)

    def __enter__(self) -> Self:
        check_destinations(self.context, self.layer)
        check_hot(self.layer)
        attempt = begin_attempt(self.layer, self.context, self._inputs())
        self._attempt = attempt
        attempt.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._during.__exit__(kind, value, trace)
        except BaseException as error:  # an interrupted task has failed, too, and says so
            self._end(error)
            raise
        self._end(value)

    def _end(self, error: BaseException | None) -> None:
        attempt, self._attempt = self._attempt, None
        try:
            if attempt is None:
                return
            if error is None:
                for name, spec in self.context.outputs.items():
                    attempt.output(
                        name, packed=spec.packed
                    )  # One that was declared and never written is an error at the commit.
            attempt.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
            if error is None:
                resolution = self.layer.resolve(self.key, attempt=attempt.number)
                deliver_outputs(self.context, self.layer, resolution)
                warm_outputs(self.context, self.layer, attempt.number)
                release_inputs(self.context, self.layer, self._inputs())
        finally:
            if self._copies is not None:
                shutil.rmtree(self._copies, ignore_errors=True)
                self._copies = None

    def _check_declared(self, name: str) -> None:
        if name not in self.context.outputs:
            declared = ", ".join(sorted(self.context.outputs))
            raise HandoffError(
                f"the context declares no output {name!r} (declared: {declared}). Add it to the context's outputs"
            )

    def _inputs(self) -> list[PinnedInput]:
        if self._pinned is None:
            self._pinned = pin_inputs(self.layer, self.context)
        return self._pinned

    def _read(self, one: PinnedInput, output: str) -> ResolvedOutput:
        resolved = one.resolution[output]
        if self.layer.design.in_place:
            return resolved
        if self._copies is None:
            if self._attempt is None:
                raise HandoffError(
                    f"the design {self.layer.design.name} copies inputs: read them inside `with open_task() as task:`, which removes the copies"
                )
            self._copies = Path(tempfile.mkdtemp(prefix="datalayer-task-")).resolve()
            prepare_inputs(self._inputs(), self._copies, in_place=False)
        return LocalOutput(one.resolution, output, self._copies / one.folder / output)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"


class WrappedTask(Task):
    """A task whose wrapper commits: outputs are staged, and the journal tells the wrapper what they are."""

    def __init__(self, context: TaskContext, layer: DataLayer, environ: Mapping[str, str]) -> None:
        super().__init__(context, layer)
        missing = [name for name in (IN_VARIABLE, OUT_VARIABLE, JOURNAL_VARIABLE) if not environ.get(name)]
        if missing or context.attempt is None:
            raise HandoffError(
                f"the context says that a wrapper commits, and {', '.join(missing) or 'its attempt'} is not set: this process was not started "
                "by that wrapper. Start it with `datalayer run --context FILE -- COMMAND`"
            )
        self._number = context.attempt.number
        self._in = Path(environ[IN_VARIABLE])
        self._out = Path(environ[OUT_VARIABLE])
        self._journal = FileJournal(environ[JOURNAL_VARIABLE])
        self._writers: dict[str, JournaledOutput] = {}
        self._counted = layer.receipt.by_tier()

    def output(self, name: str = DEFAULT_OUTPUT) -> OutputWriter:
        """Return the writer of one declared output.

        Raises:
            HandoffError: The context declares no such output.
        """
        self._check_declared(name)
        if name not in self._writers:
            if self.layer.design.in_place:
                data = self.layer.data
                # A wrapper takes in what lies on a mounted tier file by file.
                packed = self.context.outputs[name].packed and data.local_path("") is None
                writer = JournaledOutput(data, self.key, self._number, name, journal=self._journal, packed=packed)
            else:
                local = self._store_of(self._out)
                writer = JournaledOutput(local, self.key, self._number, name, journal=self._journal, folder=name)
            self._writers[name] = writer
        return self._writers[name]

    def __enter__(self) -> Self:
        return self

    def _end(self, error: BaseException | None) -> None:
        asked = self.layer.receipt.since(self._counted)
        self._counted = self.layer.receipt.by_tier()
        if asked:
            self._journal.add(Record(receipt=asked))
        if error is None:
            for writer in self._writers.values():
                writer.check_closed()
                writer.flush()
                writer.describe()

    def _read(self, one: PinnedInput, output: str) -> ResolvedOutput:
        resolved = one.resolution[output]
        if self.layer.design.in_place and (one.spec.access == "in-place" or resolved.path is not None):
            return resolved
        return LocalOutput(one.resolution, output, self._in / one.folder / output)

    def _store_of(self, folder: Path) -> Any:
        from datalayer.stores.volume import VolumeStore

        return VolumeStore(Location.parse(str(folder)), tier=self.layer.design.data)
