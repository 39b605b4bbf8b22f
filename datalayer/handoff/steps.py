"""A job from its context to its commit, step by step, whoever runs the job itself: a command of this machine, or a container beside this one.

Inputs resolved and pinned, the attempt begun, the work folder made; then the job, which is handed in; then its outputs staged, committed and
delivered, and the hot tier told. What is found out goes into the report at once.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from datalayer.addresses import layout
from datalayer.commit import wire
from datalayer.commit.log import Committed
from datalayer.errors import CommitConflictError, HandoffError
from datalayer.handoff.attempts import begin_attempt
from datalayer.handoff.context import (
    CONTEXT_VARIABLE,
    IN_VARIABLE,
    JOURNAL_VARIABLE,
    OUT_VARIABLE,
    AttemptRef,
    TaskContext,
    check_context,
    context_config,
)
from datalayer.handoff.deliveries import check_destinations, deliver_outputs
from datalayer.handoff.hot import check_hot, release_inputs, warm_outputs
from datalayer.handoff.inputs import check_shared, prepare_inputs
from datalayer.handoff.journal import read_receipts
from datalayer.handoff.outputs import OutputFolders
from datalayer.handoff.pinning import PinnedInput, pin_inputs, with_pins
from datalayer.handoff.process import Signals, TerminatedError
from datalayer.handoff.report import OutputReport, ReportedError, TaskReport, describe, exit_code_for
from datalayer.resolve.remembered import RememberedManifests
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datalayer.commit.publisher import Attempt
    from datalayer.handoff.inputs import Progress, SharedFile
    from datalayer.layer import DataLayer
    from datalayer.resolve.resolution import Resolution


class WorkFolder(NamedTuple):
    """The folder that a job finds its inputs in and leaves its outputs in."""

    root: Path

    @property
    def inputs(self) -> Path:
        """``$DATALAYER_IN``."""
        return self.root / "in"

    @property
    def outputs(self) -> Path:
        """``$DATALAYER_OUT``."""
        return self.root / "out"

    @property
    def context(self) -> Path:
        """``$DATALAYER_CONTEXT``: what the job is told."""
        return self.root / "context.json"

    @property
    def journal(self) -> Path:
        """What the job notes of what it staged through ``open_task()``."""
        return self.root / "journal"

    @property
    def manifests(self) -> Path:
        """The manifests of the job's inputs, so that it need not ask for them again."""
        return self.root / "manifests"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a job finds it all."""
        return {
            CONTEXT_VARIABLE: str(self.context),
            IN_VARIABLE: str(self.inputs),
            OUT_VARIABLE: str(self.outputs),
            JOURNAL_VARIABLE: str(self.journal),
        }


class CommandFailedError(Exception):
    """The job itself did not end well.

    Args:
        code: Its exit code.
        message: What happened, for the report.
        retryable: Whether running the same again can help.
    """

    def __init__(self, code: int, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


def carry_out(report: TaskReport, work: Callable[[], None]) -> None:
    """Do a job's work and write into its report what became of it. Raises nothing but what nobody may catch.

    Args:
        report: Of the job; complete afterwards.
        work: In the end :meth:`Steps.execute`.
    """
    started = time.monotonic()
    try:
        work()
        report.state = "succeeded"
        report.exit_code = 0
    except TerminatedError as error:
        report.state = "terminated"
        report.exit_code = 128 + error.number
        report.error = ReportedError("Terminated", str(error), retryable=True)
    except CommandFailedError as error:
        report.exit_code = error.code
        report.error = ReportedError("CommandFailed", str(error), retryable=error.retryable)
    except Exception as error:  # noqa: BLE001  # whatever it is, the report is how it gets out
        report.exit_code = exit_code_for(error)
        report.error = describe(error)
        if report.digest is not None:
            # Whoever reads only this must not run the job again for what is there.
            told = f"{report.error.message}. The outputs of attempt {report.attempt} are committed; what failed is their delivery"
            report.error = msgspec.structs.replace(report.error, message=told)
    report.seconds["total"] = round(time.monotonic() - started, 3)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps of one job.

    Args:
        context: What the job is told.
        layer: Where data lies.
        report: What is found out goes here.
        signals: Tell when this process is asked to end.
        folder: An empty folder of this machine; with ``resumed`` that of the process before.
        job: Runs the job to its end. It raises :class:`CommandFailedError` where the job did not end well.
        progress: Called now and then while bytes are copied.
        delivers: Whether destinations are this process's to deliver to.
        resumed: Whether the job may be at work already, since a process before this one prepared everything: then nothing is made or removed.
        opened: Called with each folder that the job writes into, when it is made.
        ready: Called when all is there for the job, before it runs.
    """

    context: TaskContext
    layer: DataLayer
    report: TaskReport
    signals: Signals
    folder: WorkFolder
    job: Callable[[WorkFolder], None]
    progress: Callable[[Progress], None] | None = None
    delivers: bool = True
    resumed: bool = False
    opened: Callable[[Path], None] | None = None
    ready: Callable[[WorkFolder, list[PinnedInput]], None] | None = None

    def execute(self) -> None:
        """Do it all.

        Raises:
            TerminatedError: This process was told to end. Nothing was committed, unless the report has a digest.
            CommandFailedError: The job did not end well.
            DataLayerError: Anything else; nothing was committed, unless the report has a digest.
        """
        try:
            self._execute()
        finally:
            self.report.receipt = self.layer.receipt.by_tier()

    def _execute(self) -> None:
        check_context(self.context)
        if self.context.commit == "wrapper" and not self.resumed:
            raise HandoffError(
                'the context says commit "wrapper": it was written for a job that is wrapped already. Give the wrapper the context '
                "that was written for it"
            )
        if self.delivers:
            check_destinations(self.context, self.layer)
        check_hot(self.layer)
        with self._timed("inputs"):
            pinned = pin_inputs(self.layer, self.context)
            inputs = with_pins(self.context, pinned)
            self.report.inputs = {alias: spec.pins or [] for alias, spec in inputs.items()}
            attempt = self._begin(pinned)
        if attempt is not None:
            with attempt:
                self._run_attempt(attempt, pinned)
                commit_started = time.monotonic()
                # From here to the commit's answer nothing interrupts: a commit of which one does not know is worse than a late end.
                self.signals.hold()
            self.report.seconds["commit"] = round(self.report.seconds["commit"] + time.monotonic() - commit_started, 3)
            resolution = self.layer.resolution_of(attempt)
        else:
            resolution = self.layer.resolve(self.context.task_key, attempt=self.report.attempt)
        self._note(resolution)
        if self.delivers:
            self._deliver(resolution)
        if Tier.HOT in self.layer.design.reads:
            with self._timed("hot"):
                self._warm(resolution.attempt, pinned)

    def _deliver(self, resolution: Resolution) -> None:
        with self._timed("delivery"):
            if any(spec.destinations for spec in self.context.outputs.values()):
                # Told to end during the commit, the delivery is not begun. With nothing to deliver all is done, and that is said.
                self.signals.release()
                self.report.delivered += deliver_outputs(self.context, self.layer, resolution, self.progress)

    def _warm(self, attempt: int, pinned: list[PinnedInput]) -> None:
        """Make what was committed hot, and release what was pinned for this job. All that had to be done is done: being told to end cuts it short."""
        try:
            self.signals.release()
            warm_outputs(self.context, self.layer, attempt)
            self.signals.finish()
        except TerminatedError:
            self.layer.receipt.miss(Tier.HOT.value, "not warmed: told to end")
        # A few small requests.
        release_inputs(self.context, self.layer, pinned)

    def _begin(self, pinned: list[PinnedInput]) -> Attempt | None:
        """Return the attempt to produce, or None if this job has committed already: then only the delivery may be left to do."""
        try:
            attempt = begin_attempt(self.layer, self.context, pinned, resumed=self.resumed)
        except CommitConflictError as error:
            if error.attempt is None or self.layer.resolve(self.context.task_key).attempt != error.attempt:
                raise
            self.report.attempt = error.attempt
            return None
        self.report.attempt = attempt.number
        return attempt

    def _run_attempt(self, attempt: Attempt, pinned: list[PinnedInput]) -> None:
        folder = self.folder
        folders = OutputFolders(self.layer, attempt, self.context.outputs, folder.outputs)
        shared: list[SharedFile] = []
        if not self.resumed:
            with self._timed("inputs"):
                shared = self._prepare(attempt, pinned, folders)
        try:
            with self._timed("command"):
                self.job(folder)
        finally:
            for receipt in read_receipts(folder.journal):
                self.layer.receipt.add(receipt)
        self.signals.check()
        with self._timed("commit"):
            check_shared(shared)
            folders.stage(folder.journal)

    def _prepare(self, attempt: Attempt, pinned: list[PinnedInput], folders: OutputFolders) -> list[SharedFile]:
        folder = self.folder
        folder.inputs.mkdir()
        folder.outputs.mkdir()
        in_place = self.layer.design.in_place
        shared = prepare_inputs(pinned, folder.inputs, in_place=in_place, progress=self.progress)
        for made in folders.make():
            if self.opened:
                self.opened(made)
        self._write_context(attempt, pinned)
        if self.ready:
            self.ready(folder, pinned)
        return shared

    def _write_context(self, attempt: Attempt, pinned: list[PinnedInput]) -> None:
        """Write what the job is told, and leave it the manifests of its inputs."""
        config = context_config(self.layer.config, cache=self.folder.manifests)
        told = msgspec.structs.replace(
            self.context,
            version=wire.VERSION,
            attempt=AttemptRef(attempt.number, attempt.claim.nonce),
            inputs=with_pins(self.context, pinned),
            config=config,
            commit="wrapper",
        )
        if config.cache:
            remembered = RememberedManifests(Path(config.cache).expanduser(), self.layer.home.root)
            for one in pinned:
                found = one.resolution
                remembered.save(found.key, Committed(found.manifest, found.document))
        self.folder.context.write_bytes(told.encode())

    def _note(self, resolution: Resolution) -> None:
        self.report.digest = resolution.digest
        home, key = self.layer.home, resolution.key
        head = layout.head_path(key) if home.can_compare_and_put else layout.commit_path(key, resolution.attempt)
        self.report.head = str(home.location(head))
        self.report.outputs = {
            name: OutputReport(output.tier, output.files, output.bytes, output.rows)
            for name, output in resolution.manifest.outputs.items()
        }

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            spent = self.report.seconds.get(step, 0.0) + time.monotonic() - started
            self.report.seconds[step] = round(spent, 3)
