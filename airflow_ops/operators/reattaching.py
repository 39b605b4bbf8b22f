"""Pods of earlier tries of the same task instance: which of them are ours, and which may be gone on with."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import msgspec
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry

from airflow_ops import ending
from airflow_ops.operators.pod_states import phase_of
from airflow_ops.operators.pods import ATTEMPT_ANNOTATION, KEY_ANNOTATION, NONCE_ANNOTATION
from datalayer.commit.claims import read_claim
from datalayer.commit.log import open_log

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import CoreV1Api
    from kubernetes.client import models as k8s

    from airflow_ops.enriching import Prepared

INPUTS_ANNOTATION = "datalayer/inputs"
"""A digest of the pinned inputs."""
TRIES_ANNOTATION = "datalayer/max-tries"

_log = logging.getLogger("airflow.task.datalayer")


def earlier_pods(client: CoreV1Api, namespace: str, selector: str, task: Prepared) -> list[k8s.V1Pod]:
    """Return the pods that earlier tries of a task instance made, newest first.

    Labels are anybody's to set who may make pods in the namespace, so a pod is ours only if it names a claim of this task as the home store has it.
    """
    listed = generic_api_retry(client.list_namespaced_pod)  # type: ignore[no-untyped-call]  # the provider has no types for it
    found = listed(namespace=namespace, label_selector=selector).items
    ours = [pod for pod in found if _is_ours(pod, task)]
    return sorted(ours, key=lambda pod: pod.metadata.creation_timestamp, reverse=True)


def is_live(pod: k8s.V1Pod) -> bool:
    """Whether a pod's job can still come to something."""
    return pod.metadata.deletion_timestamp is None and phase_of(pod) in {"Pending", "Running"}


def origin_of(task: Prepared, context: Context) -> dict[str, str]:
    """Return the annotations that say what a pod was made for: which inputs it reads, and how often the task may be tried.

    Airflow raises the latter when somebody clears the task, who then wants it run.
    """
    pins = {
        alias: [(pin.key, pin.attempt, pin.digest) for pin in spec.pins or ()]
        for alias, spec in sorted(task.context.inputs.items())
    }
    digest = hashlib.sha256(msgspec.json.encode(pins)).hexdigest()
    return {INPUTS_ANNOTATION: digest, TRIES_ANNOTATION: str(getattr(context["ti"], "max_tries", None))}


def may_go_on(pod: k8s.V1Pod, task: Prepared, context: Context) -> bool:
    """Whether a try may go on with the pod of an earlier one: it was made for the same, was not given up, and runs or has committed."""
    told = pod.metadata.annotations or {}
    if any(told.get(name) != value for name, value in origin_of(task, context).items()):
        return False
    if not is_live(pod) and not is_done(pod, task):
        return False
    return not open_log(task.layer.home, task.key).is_fenced(int(told[ATTEMPT_ANNOTATION]))


def is_done(pod: k8s.V1Pod, task: Prepared) -> bool:
    """Whether a pod has committed while nobody watched it, so that there is nothing to run again."""
    if phase_of(pod) != "Succeeded":
        return False
    head = ending.head_of(task)
    return head is not None and str(head.attempt) == pod.metadata.annotations.get(ATTEMPT_ANNOTATION)


def _is_ours(pod: k8s.V1Pod, task: Prepared) -> bool:
    told = pod.metadata.annotations or {}
    number, nonce = told.get(ATTEMPT_ANNOTATION, ""), told.get(NONCE_ANNOTATION)
    if told.get(KEY_ANNOTATION) == str(task.key) and number.isascii() and number.isdigit() and nonce:
        claim = read_claim(task.layer.home, task.key, int(number))
        if claim is not None and claim.nonce == nonce:
            return True
    _log.warning("Pod %s has this task's labels and no claim of it: it is left alone", pod.metadata.name)
    return False
