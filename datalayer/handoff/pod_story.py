"""What a pod's committer tells whoever reads its log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from datalayer.words import bytes_text, files_text, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.pinning import PinnedInput
    from datalayer.handoff.pod_status import ContainerEnd, OwnPod
    from datalayer.handoff.report import TaskReport


class Story:
    """Tells what happens, in a person's words, a line at a time.

    Args:
        say: Takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._started = time.monotonic()

    def say(self, line: str) -> None:
        """Tell something, in characters that cannot steer a terminal: names are made by others."""
        self._say(printable(line))

    def begun(self, context: TaskContext, pod: OwnPod, *, resumed: bool) -> None:
        """The context was read."""
        attempt = f", attempt {context.attempt.number}" if context.attempt else ""
        again = "; this container was started anew, the job goes on" if resumed else ""
        self.say(f"{context.key}{attempt} in pod {pod.namespace}/{pod.name}{again}")

    def ready(self, pinned: list[PinnedInput]) -> None:
        """The job may start."""
        for one in pinned:
            for output in one.outputs:
                size = f"{files_text(output.output.files)}, {bytes_text(output.output.bytes)}"
                slower = "".join(f"; not from {miss}" for miss in output.misses)
                self.say(
                    f"input {one.folder}/{output.key.name}: {output.key.task}@{one.resolution.attempt} from {output.tier.value}, {size}{slower}"
                )
        self.say(f"the job may start, {time.monotonic() - self._started:.1f} s after this container")

    def job_ended(self, end: ContainerEnd) -> None:
        """The job's container has ended."""
        reason = f" ({end.reason})" if end.reason not in {"", "Completed", "Error"} else ""
        self.say(f"the job ended with exit code {end.exit_code}{reason}")

    def ended(self, report: TaskReport) -> None:
        """All is done, or nothing is to be done any more."""
        if report.digest is not None:
            for name, output in report.outputs.items():
                self.say(
                    f"committed {report.key}@{report.attempt} {name}: {files_text(output.files)}, {bytes_text(output.bytes)} to {output.tier}"
                )
            self.say(f"the commit took {report.seconds.get('commit', 0.0):.1f} s: {report.head}")
        self._failed(report)

    def delivered(self, report: TaskReport) -> None:
        """A delivery is done, or failed."""
        for one in report.delivered:
            how = f"{one.copied_by_server} of {files_text(one.files)} copied by the server"
            self.say(
                f"delivered {report.key}@{report.attempt} {one.output} to {one.location}: {bytes_text(one.bytes)}, {how}"
            )
        self._failed(report)

    def _failed(self, report: TaskReport) -> None:
        if report.error is not None:
            again = "running again can help" if report.error.retryable else "running the same again will not help"
            self.say(f"{report.state}: {report.error.type}: {report.error.message} ({again})")

    def ended_before(self, report: TaskReport) -> None:
        """An earlier start of this container has ended already."""
        said = report.error.message if report.error else f"committed attempt {report.attempt}"
        self.say(f"this container has done its work before: {said}")
