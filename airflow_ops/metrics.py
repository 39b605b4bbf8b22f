"""Counters of what tasks read, commit and drop, through Airflow's own metrics (StatsD, OpenTelemetry, Datadog: whatever it is set to).

Tags: ``team``, ``dag_id``, ``task_id``, and ``tier`` where a tier is meant. Without a metrics backend all of it does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.observability import stats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datalayer.addresses.keys import TaskKey
    from datalayer.stores.counting import TierReceipt

PREFIX = "datalayer."


def committed(key: TaskKey) -> None:
    """Count a task that ended with its attempt as the head."""
    _count("commits", 1, _tags(key))


def conflicted(key: TaskKey) -> None:
    """Count a task whose attempt was refused, or superseded before it ended."""
    _count("conflicts", 1, _tags(key))


def moved(key: TaskKey, receipt: Mapping[str, TierReceipt]) -> None:
    """Count what a job's receipt says: bytes read, written and served from copies by tier, and how often a faster tier was passed over."""
    for tier, one in receipt.items():
        tags = {**_tags(key), "tier": tier}
        _count("bytes_read", one.bytes_read, tags)
        _count("bytes_written", one.bytes_written, tags)
        _count("bytes_hit", one.bytes_hit, tags)
        _count("fallbacks", sum(one.misses.values()), tags)


def swept(what: str, count: int) -> None:
    """Count orphans that a sweep removed: ``attempts``, ``pods`` or ``secrets``."""
    _count("orphans_swept", count, {"kind": what})


def _count(name: str, count: int, tags: dict[str, str]) -> None:
    if count:
        stats.incr(f"{PREFIX}{name}", count, tags=tags)


def _tags(key: TaskKey) -> dict[str, str]:
    return {"team": key.team, "dag_id": key.dag_id, "task_id": key.task_id}
