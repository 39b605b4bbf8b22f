"""Pods of earlier tries of the same task instance: which of them are ours, and which may be gone on with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_ops import ending
from airflow_ops.operators.pod_states import phase_of
from airflow_ops.operators.pods import ATTEMPT_ANNOTATION, KEY_ANNOTATION, NONCE_ANNOTATION
from datalayer.commit.claims import read_claim

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import CoreV1Api
    from kubernetes.client import models as k8s

    from airflow_ops.enriching import Prepared

_log = logging.getLogger("airflow.task.datalayer")


def earlier_pods(client: CoreV1Api, namespace: str, selector: str, task: Prepared) -> list[k8s.V1Pod]:
    """Return the pods that earlier tries of a task instance made, newest first.

    Labels are anybody's to set who may make pods in the namespace, so a pod is ours only if it names a claim of this task as the home store has it.
    """
    found = client.list_namespaced_pod(namespace=namespace, label_selector=selector).items
    ours = [pod for pod in found if _is_ours(pod, task)]
    return sorted(ours, key=lambda pod: pod.metadata.creation_timestamp, reverse=True)


def is_live(pod: k8s.V1Pod) -> bool:
    """Whether a pod's job can still come to something."""
    return pod.metadata.deletion_timestamp is None and phase_of(pod) in {"Pending", "Running"}


def is_done(pod: k8s.V1Pod, task: Prepared, context: Context) -> bool:
    """Whether a pod has committed while nobody watched it, so that there is nothing to run again.

    Not for an instance that somebody has cleared since: whoever clears a task wants it run.
    """
    instance = context["ti"]
    if phase_of(pod) != "Succeeded" or getattr(instance, "max_tries", None) != instance.task.retries:
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
