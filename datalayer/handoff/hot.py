"""The hot tier after a job: what it committed is warmed and pinned for its readers, and what was pinned for it is released.

Only under a design that has a hot tier. Nothing here fails a job: what goes wrong is in the receipt and the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.pinning import PinnedInput
    from datalayer.layer import DataLayer


def check_hot(layer: DataLayer) -> None:
    """Make sure that a design's hot tier is configured, before a job runs for nothing.

    Raises:
        ConfigError: It is not.
    """
    if Tier.HOT in layer.design.reads:
        _ = layer.hot_store


def warm_outputs(context: TaskContext, layer: DataLayer, attempt: int) -> None:
    """Warm what a job committed and pin it for its readers, if it has any, or if everything that is written is to be hot."""
    if Tier.HOT not in layer.design.reads:
        return
    if context.readers or layer.warms_commits:
        layer.hot.committed(context.task_key, context.readers, attempt=attempt)


def release_inputs(context: TaskContext, layer: DataLayer, pinned: list[PinnedInput]) -> None:
    """Release what is pinned for a job that has ended well. For one that failed it stays, until its retry has ended or the pin does."""
    if Tier.HOT in layer.design.reads:
        layer.hot.finished(context.task_key, {one.resolution.key for one in pinned})
