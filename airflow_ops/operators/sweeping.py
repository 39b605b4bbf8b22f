"""What workers that crashed have left on a cluster: pods and Secrets of tasks, removed once nobody can want them. Safe to repeat at any time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kubernetes.client.exceptions import ApiException

from airflow_ops import ending, metrics
from airflow_ops.operators.pod_states import phase_of
from airflow_ops.operators.pods import ATTEMPT_ANNOTATION, KEY_ANNOTATION, MANAGED_LABEL, NONCE_ANNOTATION
from airflow_ops.operators.task_pods import DELETE_GRACE
from datalayer.addresses.keys import TaskKey
from datalayer.commit.claims import attempt_numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubernetes.client import CoreV1Api
    from kubernetes.client import models as k8s

    from datalayer.layer import DataLayer

AGE = timedelta(minutes=10)
"""How long a pod that has ended is left to the worker that may still watch it."""

_ENDED = {"Succeeded", "Failed"}
_NOT_FOUND = 404


class Swept(NamedTuple):
    """What a sweep removed, by name."""

    pods: list[str]
    secrets: list[str]


def sweep_namespace(client: CoreV1Api, namespace: str, layer: DataLayer, *, age: timedelta = AGE) -> Swept:
    """Remove pods and Secrets of tasks that nobody waits for any more.

    A pod that has ended goes once it is old enough. One that still runs goes when a later attempt of its task was claimed, which is the one that
    counts; the commit of the earlier one is refused. A Secret goes when the pod that it belonged to is gone.

    Args:
        client: The API server.
        namespace: A team's.
        layer: Where attempts are claimed.
        age: How long ago a pod must have been made.

    Raises:
        ApiException: The server refused.
        DataLayerError: The home store did not say.
    """
    selector = f"{MANAGED_LABEL}=true"
    before = datetime.now(UTC) - age
    pods = client.list_namespaced_pod(namespace, label_selector=selector).items
    old = [pod for pod in pods if pod.metadata.creation_timestamp <= before and pod.metadata.deletion_timestamp is None]
    unwanted = [pod for pod in old if phase_of(pod) in _ENDED or _is_superseded(pod, layer)]
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


def _is_superseded(pod: k8s.V1Pod, layer: DataLayer) -> bool:
    named = _attempt(pod)
    if named is None:
        return False
    key, number, _ = named
    return max(attempt_numbers(layer.home, key), default=0) > number


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
