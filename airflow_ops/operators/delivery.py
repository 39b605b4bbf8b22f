"""Deliveries after a commit: no bytes go through the worker. The server copies by itself, or a pod of the team streams.

That pod gets the destinations' keys in a Secret that belongs to it: it is removed with the pod, whoever removes that.
"""

from __future__ import annotations

import contextlib
import copy
import time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from kubernetes.client import CoreV1Api
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airflow_ops.operators.pod_states import end_of_base, launch_problem, phase_of, status_of
from airflow_ops.operators.pods import (
    DELIVERY_LABEL,
    KEY_ANNOTATION,
    MANAGED_LABEL,
    NONCE_ANNOTATION,
    TEAM_LABEL,
    PodParts,
    label_value,
    own_pull_policy,
    own_security,
    shared_mounts,
    with_fs_group,
)
from airflow_ops.operators.waiting import create_pod, pause
from datalayer.delivery import deliver
from datalayer.errors import DataLayerError, HandoffError, NotSupportedError
from datalayer.handoff.context import ConnectionPlace, OutputSpec
from datalayer.handoff.packing import context_environment
from datalayer.handoff.report import decode_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_ops.enriching import Prepared
    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.destinations import Destination
    from datalayer.handoff.report import Delivered, TaskReport
    from datalayer.resolve.resolution import Resolution

CONTAINER = "delivery"
_NOT_FOUND, _CONFLICT, _TOO_MANY = 404, 409, 429
_ENDED = {"Succeeded", "Failed"}
_NOT_CREATED = {"CreateContainerConfigError", "CreateContainerError"}
_LOST_ANSWERS = 5

_Answer = TypeVar("_Answer")


class DeliveryFailedError(HandoffError):
    """Outputs are committed and were not delivered. Another try can help, unless whoever delivered says otherwise."""

    def __init__(self, message: str = "", *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


def wanted_deliveries(task: Prepared, done: Sequence[Delivered]) -> dict[str, list[Destination]]:
    """Return the destinations of each output that nothing was delivered to yet."""
    found = {}
    for name, spec in task.context.outputs.items():
        there = [one.destination for one in done if one.output == name]
        if left := [one for one in spec.destinations if one not in there]:
            found[name] = left
    return found


def deliver_by_server(
    task: Prepared, resolution: Resolution, wanted: dict[str, list[Destination]], log: Any
) -> tuple[list[Delivered], dict[str, list[Destination]]]:
    """Have the server copy what it can, and return what was delivered, and what it cannot copy by itself.

    Raises:
        DataLayerError: A destination failed.
    """
    done: list[Delivered] = []
    left: dict[str, list[Destination]] = {}
    for name, destinations in wanted.items():
        for destination in destinations:
            try:
                done += deliver(task.layer, resolution, name, [destination], stream=False)
            except NotSupportedError as error:
                log.info("%s: so a pod of the team delivers it", error)
                left.setdefault(name, []).append(destination)
    return done, left


def deliver_in_pod(
    client: CoreV1Api,
    task: Prepared,
    wanted: dict[str, list[Destination]],
    parts: PodParts,
    *,
    namespace: str,
    like: k8s.V1Pod | None,
    quota_wait: float,
    limit: float,
    log: Any,
    stopped: Callable[[], bool],
) -> list[Delivered]:
    """Deliver from a pod of the team, and return what was delivered. Pod and Secret are gone afterwards.

    Args:
        client: The API server.
        task: What is delivered.
        wanted: Where to.
        parts: What the task's pod was given.
        namespace: The team's.
        like: The task's pod, whose place and rights the delivery has.
        quota_wait: Seconds to wait for room in the quota.
        limit: Seconds for the delivery itself.
        log: Where a person reads it.
        stopped: Whether to give up.

    Raises:
        DeliveryFailedError: It was not delivered; the outputs stay committed.
        ApiException: The API server refused.
        StoppedError: ``stopped`` said so.
    """
    context, secret = _told(task, wanted)
    secret_name = _name(task) if secret else None
    pod = create_pod(
        client,
        delivery_pod(task, context, parts, namespace=namespace, like=like, secret=secret_name, limit=limit),
        limit=quota_wait,
        log=log,
        stopped=stopped,
    )
    # The cluster's hook may have named it otherwise.
    name, namespace = pod.metadata.name, pod.metadata.namespace
    try:
        if secret:
            owner = k8s.V1OwnerReference(api_version="v1", kind="Pod", name=name, uid=pod.metadata.uid)
            body = k8s.V1Secret(
                metadata=k8s.V1ObjectMeta(name=secret_name, labels={MANAGED_LABEL: "true"}, owner_references=[owner]),
                string_data=secret,
                immutable=True,
            )
            _patiently(lambda: _make_secret(client, namespace, body), stopped)
        report = wait_for_report(lambda: client.read_namespaced_pod(name, namespace), secret_name, limit, stopped)
    except DeliveryFailedError as error:
        error.message = f"the outputs of {task.key} are committed, and could not be delivered: {error.message}"
        raise
    finally:
        _remove(client, name, namespace, secret=secret_name, log=log)
    return _named(report.delivered, wanted)


def delivery_pod(
    task: Prepared,
    context: TaskContext,
    parts: PodParts,
    *,
    namespace: str,
    like: k8s.V1Pod | None,
    secret: str | None,
    limit: float,
) -> k8s.V1Pod:
    """Return the pod that delivers, as the cluster's ``pod_mutation_hook`` leaves it. Where it needs a Secret it starts once that is there.

    It has the ServiceAccount of the task's pod and may run where that may: the rights to the team's data, and to its nodes, hang on them.
    """
    volumes, mounts = shared_mounts(parts)
    own: k8s.V1PodSpec = like.spec if like is not None else k8s.V1PodSpec(containers=[])
    policies = [one.image_pull_policy for one in own.containers if one.name == parts.base]
    security = with_fs_group(copy.deepcopy(own.security_context))
    container = k8s.V1Container(
        name=CONTAINER,
        image=parts.committer_image,
        image_pull_policy=own_pull_policy(policies[0] if policies else None),
        security_context=own_security(security),
        command=["datalayer", "deliver"],
        env=[k8s.V1EnvVar(name=key, value=value) for key, value in context_environment(context).items()],
        env_from=[
            k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=one))
            for one in (parts.credentials_secret, secret)
            if one
        ],
        volume_mounts=mounts,
        resources=k8s.V1ResourceRequirements(
            requests={"cpu": "50m", "memory": "128Mi"}, limits={"cpu": "1", "memory": "512Mi"}
        ),
    )
    pod = k8s.V1Pod(
        api_version="v1",
        kind="Pod",
        metadata=k8s.V1ObjectMeta(
            name=_name(task),
            namespace=namespace,
            labels={MANAGED_LABEL: "true", DELIVERY_LABEL: "true", TEAM_LABEL: label_value(task.key.team)},
            annotations={KEY_ANNOTATION: str(task.key), NONCE_ANNOTATION: task.claim.nonce},
        ),
        spec=k8s.V1PodSpec(
            restart_policy="Never",
            active_deadline_seconds=max(int(limit), 1),
            containers=[container],
            volumes=volumes,
            service_account_name=own.service_account_name,
            automount_service_account_token=False,
            image_pull_secrets=own.image_pull_secrets,
            tolerations=own.tolerations,
            node_selector=own.node_selector,
            security_context=security,
        ),
    )
    # As the provider takes it, so that it is the same for all of a cluster's pods.
    from airflow.settings import pod_mutation_hook

    pod_mutation_hook(pod)  # type: ignore[no-untyped-call]  # Airflow has no types for it
    return pod


def _name(task: Prepared) -> str:
    return f"deliver-{task.claim.nonce[:20]}"


def _told(task: Prepared, wanted: dict[str, list[Destination]]) -> tuple[TaskContext, dict[str, str]]:
    """Return what the pod is told, and the keys it needs. Connections are numbered: their own names may be no variable's."""
    connections = dict(task.context.config.connections) if task.context.config else {}
    secret: dict[str, str] = {}
    names: dict[str, str] = {}
    outputs = {}
    for name, destinations in wanted.items():
        numbered = []
        for one in destinations:
            own = one.data.aws_conn_id
            if own is not None and own not in names:
                alias = names[own] = f"destination{len(names)}"
                found = task.layer.connection(own)
                connections[alias] = ConnectionPlace(found.endpoint, found.region, found.timeout, found.deadline)
                secret |= {
                    f"DATALAYER_CONNECTIONS__{alias.upper()}__{field.upper()}": value
                    for field in ("access_key_id", "secret_access_key", "session_token")
                    if (value := getattr(found, field))
                }
            place = msgspec.structs.replace(one.data, aws_conn_id=names.get(own) if own else None)
            numbered.append(msgspec.structs.replace(one, data=place))
        outputs[name] = OutputSpec(numbered)
    config = msgspec.structs.replace(task.context.config, connections=connections) if task.context.config else None
    return msgspec.structs.replace(task.context, inputs={}, readers=[], outputs=outputs, config=config), secret


def _named(delivered: Sequence[Delivered], wanted: dict[str, list[Destination]]) -> list[Delivered]:
    """Return the pod's deliveries with the destinations as their author wrote them."""
    found = []
    for one in delivered:
        for own in wanted.get(one.output, ()):
            if (own.data.bucket, own.data.path) == (one.destination.data.bucket, one.destination.data.path):
                found.append(msgspec.structs.replace(one, destination=own))
                break
    return found


def wait_for_report(
    read: Callable[[], k8s.V1Pod],
    secret: str | None,
    limit: float,
    stopped: Callable[[], bool],
    *,
    interval: float = 1.0,
) -> TaskReport:
    """Return the report of a delivery that succeeded.

    Args:
        read: Asks for the pod.
        secret: The name of its own Secret.
        limit: Seconds to wait.
        stopped: Whether to give up.
        interval: Seconds between two looks.

    Raises:
        DeliveryFailedError: It failed, will never start, is gone, or took too long.
        ApiException: The API server did not answer several times in a row, or refused.
        StoppedError: ``stopped`` said so.
    """
    deadline = time.monotonic() + limit
    while True:
        try:
            pod = _patiently(read, stopped, interval=interval)
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            raise DeliveryFailedError("its pod is gone: somebody deleted it") from error
        if phase_of(pod) in _ENDED:
            return _ended_well(pod)
        if (problem := never_starts(pod, secret)) is not None:
            raise DeliveryFailedError(f"its pod will never start: {problem}")
        if time.monotonic() >= deadline:
            raise DeliveryFailedError(f"it took more than {limit:.0f} s (commit_timeout)")
        pause(interval, stopped)


def _ended_well(pod: k8s.V1Pod) -> TaskReport:
    status = status_of(pod, CONTAINER)
    ended = status.state.terminated if status is not None and status.state is not None else None
    report = None
    if ended is not None and ended.message:
        with contextlib.suppress(DataLayerError):
            report = decode_report(ended.message.encode())
    if report is not None and report.state == "succeeded":
        return report
    if report is not None and report.error is not None:
        error = report.error
        raise DeliveryFailedError(f"{error.type}: {error.message}", retryable=error.retryable)
    raise DeliveryFailedError(f"its pod left no report: {end_of_base(pod, CONTAINER)}")


def never_starts(pod: k8s.V1Pod, secret: str | None) -> str | None:
    """Return why a delivery's pod will never start, if the kubelet says so. That its own Secret is not there yet is no reason."""
    status = status_of(pod, CONTAINER)
    waiting = status.state.waiting if status is not None and status.state is not None else None
    if waiting is not None and waiting.reason in _NOT_CREATED:
        message = waiting.message or ""
        if secret is None or f'"{secret}"' not in message:
            return f"{waiting.reason}: {message}"
    return launch_problem(pod)


def _make_secret(client: CoreV1Api, namespace: str, body: k8s.V1Secret) -> None:
    try:
        client.create_namespaced_secret(namespace, body)
    except ApiException as error:
        # Made before, by a request whose answer was lost: its name is the claim's.
        if error.status != _CONFLICT:
            raise


def _patiently(call: Callable[[], _Answer], stopped: Callable[[], bool], *, interval: float = 1.0) -> _Answer:
    """Call, and again where the API server did not answer, a few times."""
    for left in reversed(range(_LOST_ANSWERS)):
        try:
            return call()
        except ApiException as error:
            if left == 0 or (error.status is not None and error.status < 500 and error.status != _TOO_MANY):
                raise
        except HTTPError:
            if left == 0:
                raise
        pause(interval, stopped)
    raise AssertionError("unreachable")


def _remove(client: CoreV1Api, name: str, namespace: str, *, secret: str | None, log: Any) -> None:
    removals: list[Callable[[], Any]] = [lambda: client.delete_namespaced_pod(name, namespace, grace_period_seconds=5)]
    if secret:
        removals.insert(0, lambda: client.delete_namespaced_secret(secret, namespace))
    for remove in removals:
        try:
            remove()
        except ApiException as error:
            if error.status != _NOT_FOUND:
                log.warning("%s in namespace %s could not be removed: %s. A sweep will", name, namespace, error.reason)
        except HTTPError as error:
            log.warning("%s in namespace %s could not be removed: %s. A sweep will", name, namespace, error)
