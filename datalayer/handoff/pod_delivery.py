"""``run_delivery``: a pod that delivers what has committed, where the bytes must not go through whoever asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datalayer.handoff.context import layer_for
from datalayer.handoff.deliveries import deliver_outputs
from datalayer.handoff.packing import context_from_environment
from datalayer.handoff.pod import TERMINATION_LOG, leave_short, print_line
from datalayer.handoff.pod_story import Story
from datalayer.handoff.process import Signals
from datalayer.handoff.report import TaskReport
from datalayer.handoff.steps import carry_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def run_delivery(
    environ: Mapping[str, str],
    *,
    termination_log: Path = TERMINATION_LOG,
    say: Callable[[str], None] = print_line,
) -> TaskReport:
    """Deliver the outputs of a committed attempt to the destinations of the context in the environment, and report.

    It never raises for what goes wrong: the report says so, and is in the termination log. Called in the main thread. Delivering again is safe.

    Args:
        environ: The variables of this container: the context in pieces.
        termination_log: Where the report goes, short enough for the kubelet.
        say: Told the story line by line.
    """
    story = Story(say)
    report = TaskReport(state="failed", key="/", exit_code=1)

    def work() -> None:
        context = context_from_environment(environ)
        report.key = context.key
        layer = layer_for(context)
        attempt = context.attempt.number if context.attempt else None
        resolution = layer.resolve(context.task_key, attempt=attempt)
        report.attempt, report.digest = resolution.attempt, resolution.digest
        try:
            report.delivered = deliver_outputs(context, layer, resolution)
        finally:
            report.receipt = layer.receipt.by_tier()

    with Signals() as signals:
        carry_out(report, work)
        signals.finish()
    story.delivered(report)
    leave_short(report, termination_log)
    return report
