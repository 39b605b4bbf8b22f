"""After a task of ours has committed in the worker itself: the log, the counters, destinations, assets, the link, and the address for XCom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ops import ending, metrics, story
from airflow_ops.links import note_output
from datalayer.handoff.deliveries import deliver_outputs

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ops.enriching import Prepared


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
