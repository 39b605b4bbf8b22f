"""Every hour: what crashes have left behind is removed. Never what is committed, or shows a sign of life.

``outputs`` removes what abandoned attempts have staged. ``pods`` removes pods and Secrets of ours that nobody waits for any more, from the
namespaces of the teams: list them in the Airflow variable ``datalayer_namespaces``. It needs the right to list and delete both there.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from airflow.sdk import DAG, Variable, task


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
def pods() -> dict[str, list[str]]:
    """Remove pods and Secrets that nobody waits for, and return their names by namespace."""
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

    from airflow_ops import DataLayerHook
    from airflow_ops.operators.sweeping import sweep_namespace

    client, layer = KubernetesHook(conn_id="kubernetes_default").core_v1_client, DataLayerHook().layer
    removed = {}
    for namespace in Variable.get("datalayer_namespaces", default="default").split(","):
        swept = sweep_namespace(client, namespace.strip(), layer)
        removed[namespace.strip()] = [*swept.pods, *swept.secrets]
    return removed


with DAG("datalayer_sweep", schedule="@hourly", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False) as dag:
    outputs()
    pods()
