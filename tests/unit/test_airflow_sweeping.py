"""Which pods a sweep takes: by how they ended and when, by what their author wants, and by what was claimed since."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import models as k8s

from airflow_ops.operators.pods import ATTEMPT_ANNOTATION, KEEP_ANNOTATION, KEY_ANNOTATION, NONCE_ANNOTATION, keep_of
from airflow_ops.operators.sweeping import is_unwanted
from datalayer import Config, DataLayer, TaskKey

KEY = TaskKey(team="aviation", dag_id="dag", task_id="job", run="20260101T000000Z")
NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def layer(tmp_path: Path) -> DataLayer:
    return DataLayer(Config.from_mapping({"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path)}}}))


def pod(phase: str = "Running", *, ended: datetime | None = None, **annotations: str) -> k8s.V1Pod:
    state = k8s.V1ContainerState(
        running=None if ended else k8s.V1ContainerStateRunning(),
        terminated=k8s.V1ContainerStateTerminated(exit_code=0, finished_at=ended) if ended else None,
    )
    status = k8s.V1ContainerStatus(name="base", image="", image_id="", ready=False, restart_count=0, state=state)
    told = {KEY_ANNOTATION: str(KEY), ATTEMPT_ANNOTATION: "1", NONCE_ANNOTATION: "n", **annotations}
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="p", creation_timestamp=NOW - 10 * HOUR, annotations=told),
        spec=k8s.V1PodSpec(containers=[]),
        status=k8s.V1PodStatus(phase=phase, container_statuses=[status]),
    )


def taken(layer: DataLayer, one: k8s.V1Pod, before: datetime = NOW - HOUR) -> bool:
    return is_unwanted(one, layer, before=before)


def test_a_running_pod_outlives_a_later_attempt_that_was_given_up(layer: DataLayer) -> None:
    publisher = layer.publisher()
    publisher.publish(KEY)
    assert not taken(layer, pod())
    later = publisher.publish(KEY)
    assert later.number == 2
    after = datetime.now(UTC) + HOUR
    # Whoever claimed it may be about to go on with this pod.
    assert not taken(layer, pod(), before=NOW - HOUR)
    assert taken(layer, pod(), before=after)
    publisher.attach(KEY, later.claim).abandon()
    assert not taken(layer, pod(), before=after)


def test_the_time_of_a_pod_that_ended_counts_from_its_end(layer: DataLayer) -> None:
    assert not taken(layer, pod("Succeeded", ended=NOW))
    assert taken(layer, pod("Succeeded", ended=NOW - 2 * HOUR))


@pytest.mark.parametrize(
    ("action", "succeeded", "failed"),
    [
        ("delete_pod", True, True),
        ("keep_pod", False, False),
        ("delete_active_pod", False, False),
        ("delete_succeeded_pod", True, False),
    ],
)
def test_a_pod_that_its_author_keeps_is_left(layer: DataLayer, action: str, succeeded: bool, failed: bool) -> None:
    kept = keep_of(action)
    told: dict[str, Any] = {KEEP_ANNOTATION: kept} if kept else {}
    assert taken(layer, pod("Succeeded", ended=NOW - 2 * HOUR, **told)) is succeeded
    assert taken(layer, pod("Failed", ended=NOW - 2 * HOUR, **told)) is failed


def test_a_delivery_is_taken_whatever_it_does_once_it_is_older_than_it_may_become(layer: DataLayer) -> None:
    delivery = pod("Pending")
    delivery.metadata.labels = {"datalayer/delivery": "true"}
    delivery.spec.active_deadline_seconds = 3600 * 8
    assert taken(layer, delivery)
    delivery.spec.active_deadline_seconds = 3600 * 12
    assert not taken(layer, delivery)
