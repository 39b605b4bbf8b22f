"""``run_pod``: the committer of a pod. A native sidecar beside a job of any image, which need know nothing of us.

::

    /datalayer/in, out      what the job reads and writes: $DATALAYER_IN, $DATALAYER_OUT
    /datalayer/context.json what the job is told: $DATALAYER_CONTEXT
    /datalayer/ready        there once the job may start; the startup probe looks for it
    /datalayer/tmp          this container's own

The kubelet starts the job's container when the probe finds ``ready``, starts this one anew if it is killed meanwhile, and tells it to end once
the job has ended. Killed at any moment it leaves either nothing visible, or the commit.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from datalayer.errors import DataLayerError, HandoffError
from datalayer.handoff.context import layer_for, read_context
from datalayer.handoff.packing import context_from_environment
from datalayer.handoff.pod_folders import check_readable, open_to_group
from datalayer.handoff.pod_status import CONTAINER_VARIABLE, OwnPod
from datalayer.handoff.pod_story import Story
from datalayer.handoff.pod_waiting import Bell, check_end, first_look, listen_for_deletion, wait_for_end
from datalayer.handoff.process import Signals
from datalayer.handoff.report import TaskReport, decode_report
from datalayer.handoff.steps import Steps, WorkFolder, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.pinning import PinnedInput
    from datalayer.handoff.pod_status import PodStatus
    from datalayer.layer import DataLayer

POD_FOLDER = Path("/datalayer")
"""Where the pod's own volume is mounted, in this container and in the job's."""

TERMINATION_LOG = Path("/dev/termination-log")
"""What a container leaves here, the kubelet shows in the pod's status."""

_UNKNOWN_KEY = "/"


class Engine:
    """What a distributed engine adds to a pod's work. This one adds nothing."""

    def context(self, context: TaskContext) -> TaskContext:
        """Return the context that the job works under."""
        return context

    def ready(self, layer: DataLayer, context: TaskContext, folder: WorkFolder, pinned: list[PinnedInput]) -> None:
        """Called when everything is there for the job, before it starts.

        Args:
            layer: Where data lies.
            context: What the job is told, as it stands in the folder.
            folder: Of the job.
            pinned: What the job reads.
        """


def run_pod(
    environ: Mapping[str, str],
    *,
    engine: Engine | None = None,
    folder: Path = POD_FOLDER,
    termination_log: Path = TERMINATION_LOG,
    pod: OwnPod | None = None,
    say: Callable[[str], None] | None = None,
) -> TaskReport:
    """Prepare a pod for its job, wait for the job's end, commit if it ended well, and report. Called in the main thread.

    It never raises for what goes wrong with the job, its data or its context: the report says so, and is in the termination log.

    Args:
        environ: The variables of this container: the context in pieces, and which pod this is.
        engine: What a distributed engine adds.
        folder: The pod's own volume.
        termination_log: Where the report goes, short enough for the kubelet.
        pod: The pod; by default the one that the environment names.
        say: Told the story line by line; by default it goes to standard output.
    """
    story = Story(say or print_line)
    done = folder / "tmp" / "report.json"
    report = _report_of(done)
    if report is not None:
        # The kubelet starts a sidecar again whatever it ended with. What was found out once stays so.
        story.ended_before(report)
    else:
        report = TaskReport(state="failed", key=_UNKNOWN_KEY, exit_code=1)
        started = _Pod(environ, engine or Engine(), WorkFolder(folder), pod, story, report)
        started.run()
        story.ended(report)
        if started.may_go_on:
            # Whoever reads a report takes it for the last word.
            return report
        if folder.is_dir():
            _leave(report, done, story)
    leave_short(report, termination_log)
    return report


class _Pod:
    """One start of the committer."""

    def __init__(
        self,
        environ: Mapping[str, str],
        engine: Engine,
        folder: WorkFolder,
        pod: OwnPod | None,
        story: Story,
        report: TaskReport,
    ) -> None:
        self._environ = environ
        self._engine = engine
        self._folder = folder
        self._pod = pod
        self._story = story
        self._report = report
        self._marker = folder.root / "ready"
        # What the job is told, where the job cannot change it.
        self._told = folder.root / "tmp" / "context.json"
        self._resumed = self._told.exists()
        self._bell = Bell()

    @property
    def may_go_on(self) -> bool:
        """Whether the job is still at work, and another start of the committer may do what this one could not."""
        error = self._report.error
        return self._resumed and self._report.command_exit_code is None and error is not None and error.retryable

    def run(self) -> None:
        """Do all of it; the report says what came of it."""
        with Signals() as signals:
            carry_out(self._report, lambda: self._work(signals))
            signals.finish()

    def _work(self, signals: Signals) -> None:
        resumed = self._resumed
        if resumed:
            # The job may be at work, or may have ended meanwhile: from the first moment on a signal is the bell.
            signals.answer(self._bell.ring)
        context = self._read_context(resumed=resumed)
        pod = self._pod or OwnPod.from_environment(self._environ)
        self._story.begun(context, pod, resumed=resumed)
        # Once the job is at work, a server that does not answer just now is no reason to give it up.
        status = None if resumed else first_look(pod)
        self._prepare_folder(resumed=resumed)
        layer = layer_for(context)
        Steps(
            context=context,
            layer=layer,
            report=self._report,
            signals=signals,
            folder=self._folder,
            job=lambda _folder: self._wait(signals, pod, status),
            delivers=False,
            resumed=resumed,
            opened=self._open,
            ready=lambda folder, pinned: self._let_start(layer, folder, pinned, signals),
        ).execute()

    def _read_context(self, *, resumed: bool) -> TaskContext:
        context = context_from_environment(self._environ)
        self._report.key = context.key
        # What was prepared goes by the pins that were found then.
        return read_context(self._told) if resumed else self._engine.context(context)

    def _prepare_folder(self, *, resumed: bool) -> None:
        # What is made here the job's container may have to read, whatever the image's umask.
        os.umask(0o002)
        own = self._folder.root / "tmp"
        try:
            own.mkdir(mode=0o700, exist_ok=True)
            if resumed:
                # The probe asks anew, too.
                self._marker.touch()
            else:
                # An earlier start of this container was killed while it prepared.
                for left in (self._folder.inputs, self._folder.outputs, self._folder.manifests):
                    shutil.rmtree(left, ignore_errors=True)
                # Made now, so that whoever appends to it first does not keep it for themselves.
                self._folder.journal.write_bytes(b"")
                self._folder.journal.chmod(0o666)
        except OSError as error:
            raise _no_room(error, self._folder.root) from error
        # The root file system may be read-only, and its /tmp is not the pod's.
        tempfile.tempdir = str(own)

    def _open(self, made: Path) -> None:
        open_to_group(made, self._folder.root)
        if not made.is_relative_to(self._folder.root):
            # On a volume of many pods, where Spark makes an output's folder anew before it writes there.
            open_to_group(made.parent, self._folder.root)

    def _let_start(self, layer: DataLayer, folder: WorkFolder, pinned: list[PinnedInput], signals: Signals) -> None:
        try:
            self._engine.ready(layer, read_context(folder.context), folder, pinned)
            # They are remembered for one user, and in a pod the job's is another.
            for made in (*folder.root.glob("manifests"), *folder.manifests.rglob("*")):
                made.chmod(0o755 if made.is_dir() else 0o644)
            signals.answer(self._bell.ring)
            # Whole or not at all: from here on nothing is prepared again.
            begun = self._told.with_suffix(".new")
            shutil.copyfile(folder.context, begun)
            begun.replace(self._told)
            self._marker.touch()
        except OSError as error:
            if isinstance(error, DataLayerError):
                raise
            raise _no_room(error, folder.root) from error
        self._story.ready(pinned)

    def _wait(self, signals: Signals, pod: OwnPod, status: PodStatus | None) -> None:
        end = wait_for_end(pod, self._bell, status, self._story.say)
        self._report.command_exit_code = end.exit_code
        self._story.job_ended(end)
        check_end(end, self._environ.get(CONTAINER_VARIABLE, "base"))
        listen_for_deletion(pod, self._bell, signals)
        check_readable(self._folder.outputs)


def _no_room(error: OSError, folder: Path) -> HandoffError:
    return HandoffError(
        f"{error.filename or folder} cannot be written: {error.strerror}. Give the pod more ephemeral storage, or look at the rights of its volume"
    )


def _report_of(path: Path) -> TaskReport | None:
    try:
        return decode_report(path.read_bytes(), str(path))
    except (OSError, DataLayerError):
        return None


def _leave(report: TaskReport, path: Path, story: Story) -> None:
    try:
        report.write(path)
    except HandoffError as error:
        story.say(str(error))


def leave_short(report: TaskReport, path: Path) -> None:
    """Leave a report where the kubelet looks for it; it has made the file. Where that cannot be done the log says so."""
    try:
        with path.open("r+b") as file:
            file.write(report.encode_short())
            file.truncate()
    except OSError as error:
        print_line(f"the report cannot be left in {path}: {error.strerror}")


def print_line(line: str) -> None:
    """Print a line of the log."""
    sys.stdout.write(f"{line}\n")
    # The end of a container that is killed is what one wants to read.
    sys.stdout.flush()
