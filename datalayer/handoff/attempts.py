"""The attempt that a context stands for: the one it names, or a new one."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from datalayer.addresses import layout
from datalayer.commit.claims import read_claim
from datalayer.commit.log import open_log
from datalayer.commit.manifest import Producer
from datalayer.errors import CommitConflictError

if TYPE_CHECKING:
    from datalayer.commit.publisher import Attempt
    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.pinning import PinnedInput
    from datalayer.layer import DataLayer


def begin_attempt(
    layer: DataLayer, context: TaskContext, pinned: list[PinnedInput], *, resumed: bool = False
) -> Attempt:
    """Return the attempt that a job starting now produces, with nothing staged.

    A claim is handed to one job at a time: what lies in a named attempt is of a start that ended, and is removed. Without a named one, an
    attempt that the same owner left unfinished is fenced, and a new one is claimed.

    Args:
        layer: Where data lies.
        context: What the job is told.
        pinned: What it reads: the attempt's lineage.
        resumed: Whether the job of the named attempt may be at work already: then what it has staged stays.

    Raises:
        CommitConflictError: The named attempt is not this context's; or it, or one of the same owner, has committed already. Then the error's
            ``attempt`` is its number.
    """
    key, publisher = context.task_key, layer.publisher()
    lineage = [one.resolution.pin(one.alias) for one in pinned]
    producer = _producer(context)
    if context.attempt is None:
        return publisher.publish(key, owner=context.owner, inputs=lineage, producer=producer)
    number = context.attempt.number
    claim = read_claim(layer.home, key, number)
    if claim is None or claim.nonce != context.attempt.nonce:
        raise CommitConflictError(
            f"attempt {number} of {key} is not claimed by this context: claim an attempt anew, or leave it out of the context",
            key=str(key),
        )
    if context.attempt.fresh:
        return publisher.attach(key, claim, inputs=lineage, producer=producer)
    if open_log(layer.home, key).attempt(number):
        raise CommitConflictError(
            f"attempt {number} of {key} has committed already, and a commit is final. Claim an attempt anew, or leave it out of the context",
            key=str(key),
            attempt=number,
        )
    folder = layout.attempt_path(key, number)
    claim_path = f"{folder}/{layout.CLAIM}"
    for store in () if resumed else dict.fromkeys((layer.data, layer.home)):
        if not store.holds_only(folder, claim_path):
            store.delete(info.path for info in list(store.list(folder)) if info.path != claim_path)
    return publisher.attach(key, claim, inputs=lineage, producer=producer)


def _producer(context: TaskContext) -> Producer:
    from importlib.metadata import version

    told = context.producer
    versions = {"datalayer-tasks": version("datalayer-tasks"), "python": platform.python_version()}
    return Producer(
        owner=context.owner,
        operator=told.operator if told else None,
        image=told.image if told else None,
        versions=versions,
    )
