"""What a context wants delivered: looked at before the job starts, done after its commit. Without destinations nothing is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.inputs import Progress
    from datalayer.handoff.report import Delivered
    from datalayer.layer import DataLayer
    from datalayer.resolve.resolution import Resolution


def check_destinations(context: TaskContext, layer: DataLayer) -> None:
    """Make sure that every destination can be used and its connection is configured, before a job runs for nothing.

    Raises:
        ConfigError: One cannot; the message names the field.
    """
    for name, spec in context.outputs.items():
        for index, destination in enumerate(spec.destinations):
            from datalayer.delivery import open_destination

            open_destination(layer, destination, f"outputs.{name}.destinations[{index}]")


def deliver_outputs(
    context: TaskContext,
    layer: DataLayer,
    resolution: Resolution,
    progress: Callable[[Progress], None] | None = None,
    *,
    stream: bool = True,
) -> list[Delivered]:
    """Deliver what a context wants delivered of a committed attempt.

    Args:
        context: Names the destinations.
        layer: Knows their connections.
        resolution: The attempt; it must still be the task's head.
        progress: Called now and then while bytes are copied.
        stream: Whether bytes may go through this process, where the server cannot copy.

    Raises:
        DataLayerError: As for ``datalayer.delivery.deliver``.
    """
    done: list[Delivered] = []
    for name, spec in context.outputs.items():
        if spec.destinations:
            from datalayer.delivery import deliver

            done += deliver(layer, resolution, name, spec.destinations, stream=stream, progress=progress)
    return done
