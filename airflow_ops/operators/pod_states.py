"""What a pod's status says about a task: pure functions from what the API server answers. Nothing here asks anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.cncf.kubernetes.utils.pod_manager import PodPhase, detect_pod_terminate_early_issues
from kubernetes.client import models as k8s

from airflow_ops.operators.pods import COMMITTER
from datalayer.errors import DataLayerError
from datalayer.handoff.report import TaskReport, decode_report

if TYPE_CHECKING:
    from collections.abc import Iterator

# A committer that ends without a word this often will not come round.
_MAX_RESTARTS = 3


def status_of(pod: k8s.V1Pod, container: str) -> k8s.V1ContainerStatus | None:
    """Return a container's status, init containers among them; None where the kubelet has reported none."""
    status = pod.status
    if status is None:
        return None
    for one in [*(status.init_container_statuses or []), *(status.container_statuses or [])]:
        if one.name == container:
            return one
    return None


def has_started(pod: k8s.V1Pod, base: str) -> bool:
    """Whether the user's container runs or has run, or the pod has come to its end without it."""
    status = status_of(pod, base)
    if status is not None and (status.state.running is not None or status.state.terminated is not None):
        return True
    return phase_of(pod) in PodPhase.terminal_states


def base_has_ended(pod: k8s.V1Pod, base: str) -> bool:
    """Whether the user's container has ended, or the pod has come to its end without it."""
    status = status_of(pod, base)
    if status is not None and status.state.terminated is not None:
        return True
    return phase_of(pod) in PodPhase.terminal_states


def has_ended(pod: k8s.V1Pod, base: str) -> bool:
    """Whether nothing more will come of a pod: the user's container has ended, and the committer has said what it did.

    The pod's phase alone will not do: other sidecars, such as the one for XComs, may keep a pod running for ever.
    """
    if phase_of(pod) in PodPhase.terminal_states:
        committer = status_of(pod, COMMITTER)
        return committer is None or committer.state is None or committer.state.running is None
    return base_has_ended(pod, base) and (report := report_of(pod)) is not None and not _goes_on(pod, report)


def is_deleted(pod: k8s.V1Pod) -> bool:
    """Whether somebody has deleted a pod, which may still have its grace."""
    return pod.metadata is not None and pod.metadata.deletion_timestamp is not None


def report_of(pod: k8s.V1Pod) -> TaskReport | None:
    """Return the report that the committer left as its termination message; None where there is none that can be read."""
    for ended in _endings(pod):
        if ended.message:
            try:
                return decode_report(ended.message.encode())
            except DataLayerError:
                continue
    return None


def preparing_failed(pod: k8s.V1Pod, base: str) -> TaskReport | None:
    """Return the report of a committer that could not prepare the inputs, so that the user's container never starts."""
    if has_started(pod, base):
        return None
    return report_of(pod)


def launch_problem(pod: k8s.V1Pod) -> str | None:
    """Return why a pod will never start, if the kubelet says so: an image that cannot be had, or a committer that keeps ending."""
    committer = status_of(pod, COMMITTER)
    if committer is not None and committer.restart_count > _MAX_RESTARTS and not committer.started:
        ended = next(_endings(pod), None)
        why = f"exit code {ended.exit_code}, {ended.reason}" if ended else "no reason is given"
        return (
            f"the container {COMMITTER} has ended {committer.restart_count} times before the inputs were ready ({why})"
        )
    status = pod.status
    if status is None:
        return None
    for statuses in (status.init_container_statuses, status.container_statuses):
        if statuses:
            found = detect_pod_terminate_early_issues(k8s.V1Pod(status=k8s.V1PodStatus(container_statuses=statuses)))
            if found:
                return found
    return None


def is_scheduled(pod: k8s.V1Pod) -> bool:
    """Whether a node was found for the pod."""
    conditions = (pod.status.conditions if pod.status else None) or []
    return any(one.type == "PodScheduled" and one.status == "True" for one in conditions)


def is_preparing(pod: k8s.V1Pod) -> bool:
    """Whether the committer runs: what takes its time now is the copying of inputs, not the cluster."""
    status = status_of(pod, COMMITTER)
    return status is not None and status.state.running is not None


def phase_of(pod: k8s.V1Pod) -> str | None:
    """Return the pod's phase; None where it has none yet."""
    return pod.status.phase if pod.status else None


def end_of_base(pod: k8s.V1Pod, base: str) -> str:
    """Return in a person's words how the user's container ended, or why it did not run."""
    status = status_of(pod, base)
    ended = status.state.terminated if status is not None else None
    if pod.status is not None and pod.status.reason:
        return f"the pod was ended by the cluster: {pod.status.reason} ({pod.status.message or 'no message'})"
    if ended is None:
        if status is not None and status.state.waiting is not None and status.state.waiting.message:
            why = status.state.waiting
            return f"the container {base!r} did not start from the image {status.image!r}: {why.reason} ({why.message})"
        return f"the container {base!r} has not run to its end (pod phase {phase_of(pod)})"
    if ended.reason == "OOMKilled":
        return f"the container {base!r} was killed: it used more memory than its limit (OOMKilled, exit code {ended.exit_code})"
    if ended.exit_code > 128:
        return f"the container {base!r} was ended by signal {ended.exit_code - 128} (exit code {ended.exit_code})"
    return f"the container {base!r} ended with exit code {ended.exit_code}"


def _goes_on(pod: k8s.V1Pod, report: TaskReport) -> bool:
    """Whether a report is only that of an earlier start of the committer, and a later start may do what that one could not."""
    status = status_of(pod, COMMITTER)
    if status is None or status.state is None or status.state.terminated is not None:
        return False
    return report.command_exit_code is None and report.error is not None and report.error.retryable


def _endings(pod: k8s.V1Pod) -> Iterator[k8s.V1ContainerStateTerminated]:
    """How the committer ended, newest first: as a sidecar it may have been started again since."""
    status = status_of(pod, COMMITTER)
    if status is None:
        return
    for state in (status.state, status.last_state):
        if state is not None and state.terminated is not None:
            yield state.terminated
