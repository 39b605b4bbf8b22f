"""Tasks that publish from the worker itself: what follows their commit, and what is left of them when they are killed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from airflow_ops import ending, metrics, story
from airflow_ops.inputs import DataTask
from airflow_ops.links import note_output
from datalayer.handoff.deliveries import deliver_outputs

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ops.enriching import Prepared

# Airflow ends the process soon after it has told it to end.
_KILL_SECONDS = 4.0


class PublishingTask(DataTask):
    """A task of ours whose work is done in the worker's own process."""

    _prepared: Prepared | None = None

    def on_kill(self) -> None:
        """Fence the attempt, so that what still runs of the task cannot commit, and drop what it staged.

        Airflow calls this from a signal's handler, in the midst of anything; so it is done by a thread, and not waited for without end.
        """
        task = self._prepared
        if task is None:
            return
        drop = threading.Thread(
            target=ending.drop_attempt,
            args=(task.layer, task.key, task.attempt, task.claim.nonce),
            name="datalayer-kill",
            daemon=True,
        )
        drop.start()
        drop.join(_KILL_SECONDS)


def after_commit(operator: Any, prepared: Prepared, context: Context) -> Any:
    """Return the address of what a task has committed: of its only output, or of each by name.

    Raises:
        AirflowException: The head does not name this try's attempt.
        DataLayerError: A destination failed; the outputs are committed.
    """
    resolution = ending.require_commit(prepared, None)
    for line in story.of_commit(resolution, None):
        operator.log.info("%s", line)
    metrics.committed(prepared.key)
    for line in story.of_deliveries(deliver_outputs(prepared.context, prepared.layer, resolution)):
        operator.log.info("%s", line)
    metrics.moved(prepared.key, prepared.layer.receipt.by_tier())
    ending.note_assets(context, operator.outlets, resolution)
    note_output(operator, prepared.layer, resolution, context)
    uris = {name: resolution[name].uri for name in sorted(resolution)}
    return next(iter(uris.values())) if len(uris) == 1 else uris
