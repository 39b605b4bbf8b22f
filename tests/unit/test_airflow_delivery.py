"""The pod that delivers, and what is made of how it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from airflow_ops.enriching import Prepared
from airflow_ops.operators.delivery import DeliveryFailedError, delivery_pod, never_starts, wait_for_report
from airflow_ops.operators.pods import PodParts
from datalayer import Config, DataLayer, TaskKey
from datalayer.handoff.context import TaskContext
from datalayer.handoff.report import ReportedError, TaskReport

KEY = TaskKey(team="aviation", dag_id="dag", task_id="job", run="20260101T000000Z")


@pytest.fixture
def task(tmp_path: Path) -> Prepared:
    layer = DataLayer(Config.from_mapping({"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path)}}}))
    attempt = layer.publisher().publish(KEY)
    return Prepared(layer, TaskContext(key=str(KEY)), (), attempt.claim)


def spelled(task: Prepared, like: k8s.V1Pod | None) -> dict[str, Any]:
    parts = PodParts(committer_image="committer:1", base="base", credentials_secret="keys")
    pod = delivery_pod(task, task.context, parts, namespace="team", like=like, secret="own", limit=90.0)
    found: dict[str, Any] = ApiClient().sanitize_for_serialization(pod)
    return found


def test_a_delivery_has_the_rights_and_the_place_of_the_tasks_pod(
    task: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hook(pod: k8s.V1Pod) -> None:
        pod.metadata.labels["cluster"] = "mine"

    monkeypatch.setattr("airflow.settings.pod_mutation_hook", hook)
    like = k8s.V1Pod(
        spec=k8s.V1PodSpec(
            containers=[k8s.V1Container(name="base", image_pull_policy="Always")],
            service_account_name="team",
            image_pull_secrets=[k8s.V1LocalObjectReference(name="registry")],
            tolerations=[k8s.V1Toleration(key="team", operator="Exists")],
            node_selector={"pool": "team"},
            security_context=k8s.V1PodSecurityContext(fs_group=7, run_as_user=5),
        )
    )
    pod = spelled(task, like)
    spec = pod["spec"]
    assert spec["serviceAccountName"] == "team"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["tolerations"] == [{"key": "team", "operator": "Exists"}]
    assert spec["nodeSelector"] == {"pool": "team"}
    assert spec["securityContext"] == {"fsGroup": 7, "runAsUser": 5}
    assert spec["activeDeadlineSeconds"] == 90
    (container,) = spec["containers"]
    assert container["imagePullPolicy"] == "Always"
    assert container["securityContext"]["runAsNonRoot"] is True
    assert [one["secretRef"]["name"] for one in container["envFrom"]] == ["keys", "own"]
    assert pod["metadata"]["labels"]["cluster"] == "mine"
    assert spelled(task, None)["spec"]["securityContext"]["fsGroup"] == 10001


def looked_at(state: k8s.V1ContainerState, phase: str = "Pending") -> k8s.V1Pod:
    status = k8s.V1ContainerStatus(name="delivery", image="", image_id="", ready=False, restart_count=0, state=state)
    return k8s.V1Pod(status=k8s.V1PodStatus(phase=phase, container_statuses=[status]))


def waiting(reason: str, message: str) -> k8s.V1Pod:
    return looked_at(k8s.V1ContainerState(waiting=k8s.V1ContainerStateWaiting(reason=reason, message=message)))


def reported(error: ReportedError | None) -> k8s.V1Pod:
    report = TaskReport(state="failed" if error else "succeeded", key=str(KEY), exit_code=0, error=error)
    ended = k8s.V1ContainerStateTerminated(exit_code=1 if error else 0, message=report.encode().decode())
    return looked_at(k8s.V1ContainerState(terminated=ended), "Failed" if error else "Succeeded")


def test_what_will_never_start_is_noticed_but_its_own_secret_may_be_late() -> None:
    assert "cannot be pulled" in str(never_starts(waiting("ImagePullBackOff", "not found"), None))
    assert never_starts(waiting("CreateContainerConfigError", 'secret "keys" not found'), "own") is not None
    assert never_starts(waiting("CreateContainerConfigError", 'secret "own" not found'), "own") is None
    assert never_starts(waiting("ContainerCreating", ""), "own") is None


def wait(*answers: k8s.V1Pod | Exception) -> TaskReport:
    left = list(answers)

    def read() -> k8s.V1Pod:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return wait_for_report(read, "own", 60, lambda: False, interval=0)


def test_an_api_server_that_does_not_answer_once_ends_no_delivery() -> None:
    busy = ApiException(status=503)
    assert wait(busy, waiting("ContainerCreating", ""), busy, busy, reported(None)).state == "succeeded"
    with pytest.raises(ApiException):
        wait(*[busy] * 9)
    with pytest.raises(ApiException):
        wait(ApiException(status=403))


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        (reported(ReportedError("StoreTimeoutError", "slow", True)), True),
        (reported(ReportedError("PermissionDeniedError", "no", False)), False),
        (looked_at(k8s.V1ContainerState(), "Failed"), True),
        (ApiException(status=404), True),
        (waiting("InvalidImageName", "x"), True),
    ],
)
def test_a_delivery_can_be_tried_again_unless_its_report_says_otherwise(answer: Any, retryable: bool) -> None:
    with pytest.raises(DeliveryFailedError) as failed:
        wait(answer)
    assert failed.value.retryable is retryable
