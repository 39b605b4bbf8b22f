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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datalayer.errors import HandoffError
from datalayer.handoff.context import REPORT_VARIABLE
from datalayer.handoff.process import COMMAND_NOT_EXECUTABLE, COMMAND_NOT_FOUND, Signals, run_command
from datalayer.handoff.report import TaskReport
from datalayer.handoff.steps import CommandFailedError, Steps, WorkFolder, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.inputs import Progress
    from datalayer.layer import DataLayer


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    exit_code: int
    """What the process that ran it should end with."""
    report: TaskReport
    report_path: Path | None
    """Where the report was written; None if nobody asked for a file."""


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
    if report_path is None:
        named = os.environ.get(REPORT_VARIABLE)
        report_path = Path(named) if named else (work_dir / "report.json" if work_dir else None)
    report = TaskReport(state="failed", key=context.key, exit_code=1)

    def work() -> None:
        if not command:
            raise HandoffError("there is no command to run: give the program and its arguments after --")
        with Signals() as signals, _work_folder(work_dir) as folder:

            def job(folder: WorkFolder) -> None:
                inherited = {name: value for name, value in os.environ.items() if name != REPORT_VARIABLE}
                ended = run_command(command, inherited | dict(environment or {}) | folder.environment, signals)
                report.command_exit_code = ended.code
                report.peak_memory = ended.peak_memory
                signals.check()
                if ended.code:
                    raise CommandFailedError(ended.code, _words(ended.code, command[0]))

            Steps(
                context=context,
                layer=layer,
                report=report,
                signals=signals,
                folder=WorkFolder(folder),
                job=job,
                progress=progress,
            ).execute()
            signals.finish()

    carry_out(report, work)
    if report_path is not None:
        report.write(report_path)
    return RunResult(report.exit_code, report, report_path)


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
