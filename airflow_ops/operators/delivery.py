"""Deliveries after a commit: no bytes go through the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_ops.enriching import Prepared
    from datalayer.handoff.report import Delivered
    from datalayer.resolve.resolution import Resolution


def deliver_outputs(task: Prepared, resolution: Resolution, done: Sequence[Delivered]) -> list[Delivered]:
    """Deliver what the operator's outputs are to be delivered to, and is not yet.

    Raises:
        DataLayerError: As for ``datalayer.delivery.deliver``.
    """
    from datalayer.delivery import deliver

    found: list[Delivered] = []
    for name, spec in task.context.outputs.items():
        there = [one.destination for one in done if one.output == name]
        wanted = [one for one in spec.destinations if one not in there]
        if wanted:
            found += deliver(task.layer, resolution, name, wanted)
    return found
