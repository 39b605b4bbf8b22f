"""Waiting for a pod, and going on with one: what ends it, what is borne, and which pods a later try may take for its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from airflow_ops.enriching import Prepared
from airflow_ops.operators import pod_states, waiting
from airflow_ops.operators.pods import ATTEMPT_ANNOTATION, COMMITTER, KEY_ANNOTATION, NONCE_ANNOTATION
from airflow_ops.operators.reattaching import may_go_on, origin_of
from datalayer import Config, DataLayer, TaskKey
from datalayer.commit.claims import claim_attempt
from datalayer.handoff.context import InputSpec, Pin, TaskContext
from datalayer.handoff.report import ReportedError, TaskReport

KEY = TaskKey(team="aviation", dag_id="dag", task_id="job", run="20260101T000000Z")
NOW = datetime.now(UTC)
LOG = logging.getLogger("test")


def report(*, retryable: bool) -> str:
    error = ReportedError(type="StoreError", message="no answer", retryable=retryable)
    return TaskReport(state="failed", key=str(KEY), exit_code=1, error=error).encode().decode()


def status(name: str, **states: Any) -> k8s.V1ContainerStatus:
    made = {key: k8s.V1ContainerState(**value) for key, value in states.items()}
    return k8s.V1ContainerStatus(name=name, image="", image_id="", ready=False, restart_count=1, **made)


def ended(code: int = 0, message: str | None = None) -> dict[str, Any]:
    return {"terminated": k8s.V1ContainerStateTerminated(exit_code=code, message=message, finished_at=NOW)}


RUNS = {"running": k8s.V1ContainerStateRunning()}


def pod(
    base: dict[str, Any] | None = None, committer: dict[str, Any] | None = None, *, deleted: bool = False, **told: Any
) -> k8s.V1Pod:
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="p", namespace="n", deletion_timestamp=NOW if deleted else None, **told),
        status=k8s.V1PodStatus(
            phase="Running",
            container_statuses=[status("base", state=base or RUNS)],
            init_container_statuses=[status(COMMITTER, **(committer or {"state": RUNS}))],
        ),
    )


def test_an_earlier_start_of_the_committer_that_failed_in_passing_is_not_the_end() -> None:
    passing = {"state": RUNS, "last_state": ended(1, report(retryable=True))}
    assert not pod_states.has_ended(pod(ended(), passing), "base")
    assert pod_states.has_ended(pod(ended(), {**passing, "last_state": ended(1, report(retryable=False))}), "base")
    assert pod_states.has_ended(pod(ended(), {"state": ended(1, report(retryable=True))}), "base")


def look(reads: list[Any]) -> Callable[[], k8s.V1Pod]:
    def read() -> k8s.V1Pod:
        found = reads.pop(0) if len(reads) > 1 else reads[0]
        if isinstance(found, Exception):
            raise found
        return found

    return read


def until_base_ended(*reads: Any, outage: float = 60) -> k8s.V1Pod:
    return waiting.until_base_ended(look(list(reads)), base="base", interval=0, log=LOG, outage=outage)


def test_a_server_that_does_not_answer_for_a_while_ends_no_watch(caplog: pytest.LogCaptureFixture) -> None:
    lost = ApiException(status=503)
    assert pod_states.base_has_ended(until_base_ended(pod(), lost, lost, lost, pod(ended())), "base")
    assert caplog.text.count("does not answer") == 1
    with pytest.raises(ApiException):
        until_base_ended(lost, outage=0)
    with pytest.raises(ApiException):
        until_base_ended(ApiException(status=404), pod(ended()))


def test_a_pod_that_somebody_deleted_is_not_waited_for() -> None:
    with pytest.raises(waiting.PodDeletedError):
        until_base_ended(pod(), pod(deleted=True))
    assert until_base_ended(pod(ended(), deleted=True))
    waits = {"waiting": k8s.V1ContainerStateWaiting()}
    with pytest.raises(waiting.PodDeletedError):
        waiting.check_start(pod(waits, deleted=True), "base")
    with pytest.raises(PodLaunchFailedException):
        waiting.check_start(pod({"waiting": k8s.V1ContainerStateWaiting(reason="ErrImagePull", message="no")}), "base")


class Server:
    """The two calls of the API that a creation makes, with their answers in order."""

    def __init__(self, *refusals: int, found: k8s.V1Pod | None = None) -> None:
        self.api_client = SimpleNamespace(sanitize_for_serialization=lambda body: body)
        self.refusals = list(refusals)
        self.found = found

    def create_namespaced_pod(self, namespace: str, body: k8s.V1Pod) -> k8s.V1Pod:
        assert namespace == "n"
        if self.refusals:
            raise ApiException(status=self.refusals.pop(0))
        return body

    def read_namespaced_pod(self, *_: str) -> k8s.V1Pod:
        if self.found is None:
            raise ApiException(status=404)
        return self.found


@pytest.mark.parametrize(
    ("server", "made"),
    [
        (Server(429), True),
        (Server(409), True),
        (Server(409, found=pod(deleted=True)), True),
        (Server(409, found=pod()), False),
        (Server(422), False),
    ],
    ids=["busy", "a quota that others change", "one that goes", "one that stays", "refused"],
)
def test_what_passes_does_not_keep_a_pod_from_being_created(
    server: Server, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "pause", lambda *_: None)
    wanted = pod(annotations={NONCE_ANNOTATION: "mine"})

    def create() -> k8s.V1Pod:
        return waiting.create_pod(cast("Any", server), wanted, limit=1, log=LOG, stopped=lambda: False)

    if made:
        assert create() is wanted
        return
    with pytest.raises(ApiException):
        create()


def test_a_try_goes_on_only_with_a_pod_of_the_same_inputs_that_was_not_given_up(tmp_path: Path) -> None:
    layer = DataLayer(Config.from_mapping({"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path)}}}))
    claim = claim_attempt(layer.home, KEY, owner="one")

    def task(digest: str) -> Prepared:
        told = TaskContext(key=str(KEY), inputs={"a": InputSpec(pins=[Pin("/x/a/b/c", 1, digest)])})
        return Prepared(layer, told, (), claim)

    context = cast("Any", {"ti": SimpleNamespace(max_tries=1)})
    names = {KEY_ANNOTATION: str(KEY), ATTEMPT_ANNOTATION: "1", NONCE_ANNOTATION: claim.nonce}
    live = pod(annotations={**names, **origin_of(task("d"), context)})
    assert may_go_on(live, task("d"), context)
    assert not may_go_on(live, task("other"), context)
    assert not may_go_on(live, task("d"), cast("Any", {"ti": SimpleNamespace(max_tries=2)}))
    assert not may_go_on(pod(annotations=names), task("d"), context)
    layer.publisher().attach(KEY, claim).abandon()
    assert not may_go_on(live, task("d"), context)


def test_inputs_that_cannot_be_prepared_end_the_trigger_too() -> None:
    from airflow_ops.operators.pod_trigger import _Pods

    failed = pod({"waiting": k8s.V1ContainerStateWaiting()}, {"state": ended(1, report(retryable=False))})

    class Hook:
        async def get_pod(self, **_: str) -> k8s.V1Pod:
            return failed

    pods = _Pods(Hook(), base="base", prepare_timeout=5)
    pods.read_pod = lambda *_: Hook().get_pod()  # type: ignore[method-assign]  # a stand-in for this object's
    with pytest.raises(waiting.PreparingFailedError):
        asyncio.run(pods.await_pod_start(cast("Any", failed)))
