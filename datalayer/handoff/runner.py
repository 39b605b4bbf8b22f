"""``run``: a command in any language as a job. Inputs before it, the commit after exit 0, a report always.

Exit codes: the command's own where it is not 0; 128 + n where signal n ended it, or this process was told to end by it; 126 and 127 where it
cannot be started, as shells have it; 75 where we failed and running again can help; 78 (configuration or context), 66 (an input is not
there), 77 (permission), 74 (a store), 65 (what was written, or lost a race) and 70 (a fault of ours) where it cannot.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
    REPORT_VARIABLE,
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
from datalayer.handoff.process import (
    COMMAND_NOT_EXECUTABLE,
    COMMAND_NOT_FOUND,
    Signals,
    TerminatedError,
    run_command,
)
from datalayer.handoff.report import OutputReport, ReportedError, TaskReport, describe, exit_code_for
from datalayer.resolve.remembered import RememberedManifests
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from datalayer.commit.publisher import Attempt
    from datalayer.handoff.inputs import Progress
    from datalayer.layer import DataLayer
    from datalayer.resolve.resolution import Resolution


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    exit_code: int
    """What the process that ran it should end with."""
    report: TaskReport
    report_path: Path | None
    """Where the report was written; None if nobody asked for a file."""


class CommandFailedError(Exception):
    """The command itself ended with another exit code than 0."""

    def __init__(self, code: int, program: str) -> None:
        super().__init__(_words(code, program))
        self.code = code


def run(
    context: TaskContext,
    command: Sequence[str],
    *,
    layer: DataLayer,
    report_path: Path | None = None,
    work_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Run a command as a job: resolve and pin its inputs, claim its attempt, run it, commit on exit 0, deliver, and report.

    It never raises for what goes wrong with the job, its data or its context: the result says so. Called in the main thread it passes
    signals on to the command.

    Args:
        context: What the job is told.
        command: Program and arguments; no shell.
        layer: Where data lies; usually ``layer_for(context)``.
        report_path: Where the report goes; by default ``$DATALAYER_REPORT``, else ``report.json`` in ``work_dir``, else nowhere.
        work_dir: A folder of this machine with room for what is copied. Each run makes a folder of its own in it, and removes it. By default the
            system's place for temporary files.
        environment: Variables for the command beside this process's own.
        progress: Called now and then while bytes are copied.

    Raises:
        HandoffError: The report cannot be written.
    """
    started = time.monotonic()
    if report_path is None:
        named = os.environ.get(REPORT_VARIABLE)
        report_path = Path(named) if named else (work_dir / "report.json" if work_dir else None)
    report = TaskReport(state="failed", key=context.key, exit_code=1)
    try:
        with Signals() as signals, _work_folder(work_dir) as folder:
            _Run(context, command, layer, report, signals, folder, environment or {}, progress).execute()
            signals.finish()
        report.state = "succeeded"
        report.exit_code = 0
    except TerminatedError as error:
        report.state = "terminated"
        report.exit_code = 128 + error.number
        report.error = ReportedError("Terminated", str(error), retryable=True)
    except CommandFailedError as error:
        report.exit_code = error.code
        report.error = ReportedError("CommandFailed", str(error), retryable=True)
    except Exception as error:  # noqa: BLE001  # whatever it is, the report is how it gets out
        report.exit_code = exit_code_for(error)
        report.error = describe(error)
        if report.digest is not None:
            # Whoever reads only this must not run the job again for what is there.
            told = f"{report.error.message}. The outputs of attempt {report.attempt} are committed; what failed is their delivery"
            report.error = msgspec.structs.replace(report.error, message=told)
    report.receipt = layer.receipt.by_tier()
    report.seconds["total"] = round(time.monotonic() - started, 3)
    if report_path is not None:
        report.write(report_path)
    return RunResult(report.exit_code, report, report_path)


class _Run:
    """One run, step by step; what is found out goes into the report at once."""

    def __init__(
        self,
        context: TaskContext,
        command: Sequence[str],
        layer: DataLayer,
        report: TaskReport,
        signals: Signals,
        folder: Path,
        environment: Mapping[str, str],
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._context = context
        self._command = command
        self._layer = layer
        self._report = report
        self._signals = signals
        self._folder = folder
        self._environment = environment
        self._progress = progress

    def execute(self) -> None:
        """Do it all.

        Raises:
            TerminatedError: This process was told to end. Nothing was committed, unless the report has a digest.
            CommandFailedError: The command did not end with 0.
            DataLayerError: Anything else; nothing was committed, unless the report has a digest.
        """
        if not self._command:
            raise HandoffError("there is no command to run: give the program and its arguments after --")
        check_context(self._context)
        if self._context.commit == "wrapper":
            raise HandoffError(
                'the context says commit "wrapper": it was written for a job that is wrapped already. Give the wrapper the context '
                "that was written for it"
            )
        check_destinations(self._context, self._layer)
        check_hot(self._layer)
        with self._timed("inputs"):
            pinned = pin_inputs(self._layer, self._context)
            inputs = with_pins(self._context, pinned)
            self._report.inputs = {alias: spec.pins or [] for alias, spec in inputs.items()}
            attempt = self._begin(pinned)
        if attempt is not None:
            with attempt:
                self._run_attempt(attempt, pinned)
                commit_started = time.monotonic()
                # From here to the commit's answer nothing interrupts: a commit of which one does not know is worse than a late end.
                self._signals.hold()
            self._report.seconds["commit"] = round(
                self._report.seconds["commit"] + time.monotonic() - commit_started, 3
            )
        resolution = self._layer.resolve(self._context.task_key, attempt=self._report.attempt)
        self._note(resolution)
        with self._timed("delivery"):
            if any(spec.destinations for spec in self._context.outputs.values()):
                # Told to end during the commit, the delivery is not begun. With nothing to deliver all is done, and that is said.
                self._signals.release()
                self._report.delivered += deliver_outputs(self._context, self._layer, resolution, self._progress)
        if Tier.HOT in self._layer.design.reads:
            with self._timed("hot"):
                self._warm(resolution.attempt, pinned)

    def _warm(self, attempt: int, pinned: list[PinnedInput]) -> None:
        """Make what was committed hot, and release what was pinned for this job. All that had to be done is done: being told to end cuts it short."""
        try:
            self._signals.release()
            warm_outputs(self._context, self._layer, attempt)
            self._signals.finish()
        except TerminatedError:
            self._layer.receipt.miss(Tier.HOT.value, "not warmed: told to end")
        # A few small requests.
        release_inputs(self._context, self._layer, pinned)

    def _begin(self, pinned: list[PinnedInput]) -> Attempt | None:
        """Return the attempt to produce, or None if this job has committed already: then only the delivery may be left to do."""
        try:
            attempt = begin_attempt(self._layer, self._context, pinned)
        except CommitConflictError as error:
            if error.attempt is None or self._layer.resolve(self._context.task_key).attempt != error.attempt:
                raise
            self._report.attempt = error.attempt
            return None
        self._report.attempt = attempt.number
        return attempt

    def _run_attempt(self, attempt: Attempt, pinned: list[PinnedInput]) -> None:
        into, out, journal = self._folder / "in", self._folder / "out", self._folder / "journal"
        with self._timed("inputs"):
            into.mkdir()
            out.mkdir()
            shared = prepare_inputs(pinned, into, in_place=self._layer.design.in_place, progress=self._progress)
            folders = OutputFolders(self._layer, attempt, self._context.outputs, out)
            context_path = self._write_context(attempt, pinned)
        inherited = {name: value for name, value in os.environ.items() if name != REPORT_VARIABLE}
        told = {
            CONTEXT_VARIABLE: str(context_path),
            IN_VARIABLE: str(into),
            OUT_VARIABLE: str(out),
            JOURNAL_VARIABLE: str(journal),
        }
        with self._timed("command"):
            ended = run_command(self._command, inherited | dict(self._environment) | told, self._signals)
        for receipt in read_receipts(journal):
            self._layer.receipt.add(receipt)
        self._report.command_exit_code = ended.code
        self._report.peak_memory = ended.peak_memory
        self._signals.check()
        if ended.code:
            raise CommandFailedError(ended.code, self._command[0])
        with self._timed("commit"):
            check_shared(shared)
            folders.stage(journal)

    def _write_context(self, attempt: Attempt, pinned: list[PinnedInput]) -> Path:
        """Write what the command is told, and leave it the manifests of its inputs, so that it need not ask for them again."""
        config = context_config(self._layer.config, cache=self._folder / "manifests")
        told = msgspec.structs.replace(
            self._context,
            version=wire.VERSION,
            attempt=AttemptRef(attempt.number, attempt.claim.nonce),
            inputs=with_pins(self._context, pinned),
            config=config,
            commit="wrapper",
        )
        if config.cache:
            remembered = RememberedManifests(Path(config.cache).expanduser(), self._layer.home.root)
            for one in pinned:
                found = one.resolution
                remembered.save(found.key, Committed(found.manifest, found.document, found.digest))
        path = self._folder / "context.json"
        path.write_bytes(told.encode())
        return path

    def _note(self, resolution: Resolution) -> None:
        self._report.digest = resolution.digest
        home, key = self._layer.home, resolution.key
        head = layout.head_path(key) if home.can_compare_and_put else layout.commit_path(key, resolution.attempt)
        self._report.head = str(home.location(head))
        self._report.outputs = {
            name: OutputReport(output.tier, output.files, output.bytes, output.rows)
            for name, output in resolution.manifest.outputs.items()
        }

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            spent = self._report.seconds.get(step, 0.0) + time.monotonic() - started
            self._report.seconds[step] = round(spent, 3)


@contextlib.contextmanager
def _work_folder(parent: Path | None) -> Iterator[Path]:
    try:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        # 0700, and a name that nobody can have taken before: other users of the machine see no data.
        folder = Path(tempfile.mkdtemp(prefix="datalayer-run-", dir=parent)).resolve()
    except OSError as error:
        raise HandoffError(
            f"no work folder can be made in {parent or tempfile.gettempdir()}: {error.strerror}"
        ) from error
    try:
        yield folder
    finally:
        # A job may have taken away its own rights on a folder it made; what cannot be removed stays for the machine's own cleaning.
        shutil.rmtree(folder, ignore_errors=True)


def _words(code: int, program: str) -> str:
    if code == COMMAND_NOT_FOUND:
        return f"the command {program!r} was not found (exit code {code})"
    if code == COMMAND_NOT_EXECUTABLE:
        return f"the command {program!r} cannot be executed (exit code {code})"
    if code > 128:
        return f"the command {program!r} was ended by signal {code - 128}. Nothing was committed"
    return f"the command {program!r} ended with exit code {code}. Nothing was committed"
