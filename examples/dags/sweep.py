"""Every hour: what crashes have left behind is removed. Never what is committed, or shows a sign of life.

``outputs`` removes what abandoned attempts have staged. ``pods`` removes pods and Secrets of ours that nobody waits for any more, from the
namespaces of the teams: list them in the Airflow variable ``datalayer_namespaces``. It needs the right to list and delete both there.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, Variable, task

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api
    from kubernetes.client.models import V1Pod

OURS = "datalayer/managed=true"
AFTER = timedelta(hours=1)
"""A worker that lives has removed its own by then."""
ENDED = {"Succeeded", "Failed"}


@task
def outputs() -> dict[str, int]:
    """Remove what abandoned attempts have staged, and return how many there were of each outcome."""
    from airflow_ops import DataLayerHook, metrics
    from datalayer.commit.sweep import FAILED, REMOVED, sweep

    outcomes: Counter[str] = Counter()
    for found in sweep(DataLayerHook().layer):
        print(*found)
        outcomes[found.outcome] += 1
    metrics.swept("attempts", outcomes[REMOVED])
    if outcomes[FAILED]:
        raise RuntimeError(f"{outcomes[FAILED]} places could not be swept; the log names them")
    return dict(outcomes)


@task
def pods() -> dict[str, int]:
    """Remove pods and Secrets that nobody waits for, and return how many."""
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

    from airflow_ops import metrics

    client = KubernetesHook(conn_id=None).core_v1_client
    removed = {"pods": 0, "secrets": 0}
    for namespace in Variable.get("datalayer_namespaces", default="default").split(","):
        removed["pods"] += sweep_pods(client, namespace.strip())
        removed["secrets"] += sweep_secrets(client, namespace.strip())
    for kind, count in removed.items():
        metrics.swept(kind, count)
    return removed


def sweep_pods(client: CoreV1Api, namespace: str, after: timedelta = AFTER) -> int:
    """Remove pods that have ended a while ago, or whose attempt has been superseded; return how many."""
    from airflow_ops import DataLayerHook
    from datalayer import NotPublishedError, TaskKey

    layer = DataLayerHook().layer
    now = datetime.now(UTC)

    def orphaned(pod: V1Pod) -> bool:
        if pod.status.phase in ENDED:
            ends = [one.state.terminated for one in pod.status.container_statuses or [] if one.state.terminated]
            last: datetime = max((end.finished_at for end in ends), default=pod.metadata.creation_timestamp)
            return now - last > after
        told = pod.metadata.annotations or {}
        key, attempt = told.get("datalayer/key"), told.get("datalayer/attempt", "")
        if key is None or not attempt.isdigit() or now - pod.metadata.creation_timestamp < after:
            return False
        try:
            return bool(layer.resolve(TaskKey.parse(key)).attempt > int(attempt))
        except NotPublishedError:
            return False

    found = [one for one in client.list_namespaced_pod(namespace, label_selector=OURS).items if orphaned(one)]
    for one in found:
        print("pod", namespace, one.metadata.name, one.status.phase)
        client.delete_namespaced_pod(one.metadata.name, namespace, grace_period_seconds=30)
    return len(found)


def sweep_secrets(client: CoreV1Api, namespace: str, after: timedelta = AFTER) -> int:
    """Remove Secrets of deliveries that are over. Kubernetes does so, too, where their pod has gone; return how many."""
    now = datetime.now(UTC)
    pods = {one.metadata.name for one in client.list_namespaced_pod(namespace, label_selector=OURS).items}
    found = [
        one
        for one in client.list_namespaced_secret(namespace, label_selector=OURS).items
        if one.metadata.name not in pods and now - one.metadata.creation_timestamp > after
    ]
    for one in found:
        print("secret", namespace, one.metadata.name)
        client.delete_namespaced_secret(one.metadata.name, namespace)
    return len(found)


with DAG("datalayer_sweep", schedule="@hourly", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False) as dag:
    outputs()
    pods()
