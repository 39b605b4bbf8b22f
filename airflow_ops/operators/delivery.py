"""Deliveries after a commit: no bytes go through the worker. The server copies by itself, or a pod of the team streams.

That pod gets the destinations' keys in a Secret that belongs to it: it is removed with the pod, whoever removes that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from kubernetes.client import CoreV1Api
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from airflow_ops.operators.pod_states import phase_of
from airflow_ops.operators.pods import (
    KEY_ANNOTATION,
    MANAGED_LABEL,
    NONCE_ANNOTATION,
    TEAM_LABEL,
    PodParts,
    label_value,
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
_NOT_FOUND = 404
_ENDED = {"Succeeded", "Failed"}


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
    pull_policy: str | None,
    quota_wait: float,
    limit: float,
    log: Any,
    stopped: Callable[[], bool],
) -> list[Delivered]:
    """Deliver from a pod of the team, and return what was delivered. Pod and Secret are gone afterwards.

    Raises:
        DataLayerError: It was not delivered; the outputs stay committed.
    """
    context, secret = _told(task, wanted)
    pod = create_pod(
        client,
        delivery_pod(task, context, parts, namespace=namespace, pull_policy=pull_policy, secret=bool(secret)),
        limit=quota_wait,
        log=log,
        stopped=stopped,
    )
    name = pod.metadata.name
    try:
        if secret:
            owner = k8s.V1OwnerReference(api_version="v1", kind="Pod", name=name, uid=pod.metadata.uid)
            body = k8s.V1Secret(
                metadata=k8s.V1ObjectMeta(name=name, labels={MANAGED_LABEL: "true"}, owner_references=[owner]),
                string_data=secret,
                immutable=True,
            )
            client.create_namespaced_secret(namespace, body)
        report = _wait(client, name, namespace, limit, stopped)
    finally:
        _remove(client, name, namespace, secret=bool(secret), log=log)
    if report is None or report.state != "succeeded":
        error = report.error if report is not None else None
        told = f"{error.type}: {error.message}" if error else "its pod left no report"
        raise HandoffError(f"the outputs of {task.key} are committed, and could not be delivered: {told}")
    return _named(report.delivered, wanted)


def delivery_pod(
    task: Prepared, context: TaskContext, parts: PodParts, *, namespace: str, pull_policy: str | None, secret: bool
) -> k8s.V1Pod:
    """Return the pod that delivers. Where it needs a Secret, that has its own name, and it starts once the Secret is there."""
    name = f"deliver-{task.claim.nonce[:20]}"
    volumes, mounts = shared_mounts(parts)
    sources = [one for one in (parts.credentials_secret, name if secret else None) if one]
    container = k8s.V1Container(
        name=CONTAINER,
        image=parts.committer_image,
        image_pull_policy=pull_policy,
        command=["datalayer", "deliver"],
        env=[k8s.V1EnvVar(name=key, value=value) for key, value in context_environment(context).items()],
        env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=one)) for one in sources],
        volume_mounts=mounts,
        resources=k8s.V1ResourceRequirements(
            requests={"cpu": "50m", "memory": "128Mi"}, limits={"cpu": "1", "memory": "512Mi"}
        ),
    )
    return k8s.V1Pod(
        api_version="v1",
        kind="Pod",
        metadata=k8s.V1ObjectMeta(
            name=name,
            namespace=namespace,
            labels={MANAGED_LABEL: "true", TEAM_LABEL: label_value(task.key.team)},
            annotations={KEY_ANNOTATION: str(task.key), NONCE_ANNOTATION: task.claim.nonce},
        ),
        spec=k8s.V1PodSpec(
            restart_policy="Never",
            containers=[container],
            volumes=volumes,
            automount_service_account_token=False,
            security_context=with_fs_group(None),
        ),
    )


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


def _wait(client: CoreV1Api, name: str, namespace: str, limit: float, stopped: Callable[[], bool]) -> TaskReport | None:
    waited = 0.0
    while waited < limit:
        pod = client.read_namespaced_pod(name, namespace)
        if phase_of(pod) in _ENDED:
            for status in pod.status.container_statuses or ():
                if status.state.terminated is not None and status.state.terminated.message:
                    try:
                        return decode_report(status.state.terminated.message.encode())
                    except DataLayerError:
                        return None
            return None
        pause(1.0, stopped)
        waited += 1.0
    return None


def _remove(client: CoreV1Api, name: str, namespace: str, *, secret: bool, log: Any) -> None:
    removals: list[Callable[[], Any]] = [lambda: client.delete_namespaced_pod(name, namespace, grace_period_seconds=5)]
    if secret:
        removals.insert(0, lambda: client.delete_namespaced_secret(name, namespace))
    for remove in removals:
        try:
            remove()
        except ApiException as error:
            if error.status != _NOT_FOUND:
                log.warning("%s in namespace %s could not be removed: %s. A sweep will", name, namespace, error.reason)
