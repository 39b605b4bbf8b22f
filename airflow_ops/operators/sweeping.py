"""What workers that crashed have left on a cluster: pods and Secrets of tasks, removed once nobody can want them. Safe to repeat at any time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kubernetes.client.exceptions import ApiException

from airflow_ops import ending, metrics
from airflow_ops.operators.pod_states import phase_of
from airflow_ops.operators.pods import (
    ATTEMPT_ANNOTATION,
    DELIVERY_LABEL,
    KEEP_ALWAYS,
    KEEP_ANNOTATION,
    KEEP_FAILED,
    KEY_ANNOTATION,
    MANAGED_LABEL,
    NONCE_ANNOTATION,
)
from airflow_ops.operators.task_pods import DELETE_GRACE
from datalayer.addresses.keys import TaskKey
from datalayer.commit.claims import attempt_numbers, read_claim
from datalayer.commit.log import open_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubernetes.client import CoreV1Api
    from kubernetes.client import models as k8s

    from datalayer.layer import DataLayer

AGE = timedelta(minutes=10)
"""How long a pod that has ended is left to the worker that may still watch it, and a claim to the worker that made it."""

_ENDED = {"Succeeded", "Failed"}
_NOT_FOUND = 404


class Swept(NamedTuple):
    """What a sweep removed, by name."""

    pods: list[str]
    secrets: list[str]


def sweep_namespace(client: CoreV1Api, namespace: str, layer: DataLayer, *, age: timedelta = AGE) -> Swept:
    """Remove pods and Secrets of tasks that nobody waits for any more.

    A pod that ended long enough ago goes, unless its author wants it kept. One that still runs goes when a later attempt of its task was claimed
    as long ago and was not given up: that one counts. (A worker that goes on with the pod of an earlier attempt gives its own up.) A delivery goes
    when it is older than it may become, whatever it does. A Secret goes when the pod that it belonged to is gone.

    Args:
        client: The API server.
        namespace: A team's.
        layer: Where attempts are claimed.
        age: How long ago a pod must have ended, or a later attempt been claimed; and how long after its limit a delivery is taken.

    Raises:
        ApiException: The server refused.
        DataLayerError: The home store did not say.
    """
    selector = f"{MANAGED_LABEL}=true"
    before = datetime.now(UTC) - age
    pods = client.list_namespaced_pod(namespace, label_selector=selector).items
    unwanted = [
        pod for pod in pods if pod.metadata.deletion_timestamp is None and is_unwanted(pod, layer, before=before)
    ]
    for pod in unwanted:
        _remove(partial(client.delete_namespaced_pod, pod.metadata.name, namespace, grace_period_seconds=DELETE_GRACE))
        _drop(pod, layer)
    there = {pod.metadata.name for pod in pods} - {pod.metadata.name for pod in unwanted}
    secrets = [
        one.metadata.name
        for one in client.list_namespaced_secret(namespace, label_selector=selector).items
        if one.metadata.name not in there and one.metadata.creation_timestamp <= before
    ]
    for name in secrets:
        _remove(partial(client.delete_namespaced_secret, name, namespace))
    metrics.swept("pods", len(unwanted))
    metrics.swept("secrets", len(secrets))
    return Swept([pod.metadata.name for pod in unwanted], secrets)


def is_unwanted(pod: k8s.V1Pod, layer: DataLayer, *, before: datetime) -> bool:
    """Whether nobody waits for a pod any more, as far as can be told from what was before a time."""
    if pod.metadata.creation_timestamp > before:
        return False
    if DELIVERY_LABEL in (pod.metadata.labels or {}):
        limit = timedelta(seconds=pod.spec.active_deadline_seconds or 0)
        return bool(_ended_at(pod) <= before or pod.metadata.creation_timestamp + limit <= before)
    phase = phase_of(pod)
    kept = (pod.metadata.annotations or {}).get(KEEP_ANNOTATION)
    if kept == KEEP_ALWAYS or (kept == KEEP_FAILED and phase != "Succeeded"):
        return False
    if phase in _ENDED:
        return _ended_at(pod) <= before
    return _is_superseded(pod, layer, before)


def _ended_at(pod: k8s.V1Pod) -> datetime:
    """Return when a pod ended: its last container, or where no container says so, its last change. One that goes on ends some day to come."""
    status = pod.status
    if phase_of(pod) not in _ENDED:
        return datetime.max.replace(tzinfo=UTC)
    states = [one.state for one in [*(status.init_container_statuses or []), *(status.container_statuses or [])]]
    times = [one.terminated.finished_at for one in states if one and one.terminated and one.terminated.finished_at]
    times = times or [one.last_transition_time for one in status.conditions or [] if one.last_transition_time]
    found: datetime = max(times, default=pod.metadata.creation_timestamp)
    return found


def _is_superseded(pod: k8s.V1Pod, layer: DataLayer, before: datetime) -> bool:
    named = _attempt(pod)
    if named is None:
        return False
    key, number, _ = named
    log = open_log(layer.home, key)
    for later in attempt_numbers(layer.home, key):
        if later <= number or log.is_fenced(later):
            continue
        claim = read_claim(layer.home, key, later)
        # A worker that has just claimed one may be about to go on with this very pod.
        if claim is not None and datetime.fromisoformat(claim.started) <= before:
            return True
    return False


def _drop(pod: k8s.V1Pod, layer: DataLayer) -> None:
    named = _attempt(pod)
    if named is not None:
        ending.drop_attempt(layer, *named)


def _attempt(pod: k8s.V1Pod) -> tuple[TaskKey, int, str] | None:
    told = pod.metadata.annotations or {}
    try:
        return TaskKey.parse(told[KEY_ANNOTATION]), int(told[ATTEMPT_ANNOTATION]), told[NONCE_ANNOTATION]
    except (KeyError, ValueError):
        return None


def _remove(delete: Callable[[], object]) -> None:
    try:
        delete()
    except ApiException as error:
        if error.status != _NOT_FOUND:
            raise
