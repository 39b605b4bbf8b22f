"""The provider's ``PodManager``, taught what a committer is: what it waits for has a bound, and a broken XCom sidecar breaks nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from airflow.sdk.exceptions import AirflowException
from kubernetes.client.exceptions import ApiException

from airflow_ops.operators.pods import COMMITTER
from airflow_ops.operators.waiting import until_ended, until_started

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubernetes.client import CoreV1Api
    from kubernetes.client import models as k8s

DELETE_GRACE = 30
"""Seconds that a pod has to end once we delete it: what it stages is given up, so it need not finish an upload."""

_NOT_FOUND = 404
_COMMITTER_LINES = 1000
_LOG_TIMEOUT = (5, 30)


class TaskPods(PodManager):
    """Pods that have a committer."""

    def __init__(
        self,
        client: CoreV1Api,
        callbacks: Any,
        *,
        base: str,
        commit_timeout: float,
        delete_grace: int,
        stopped: Callable[[], bool],
    ) -> None:
        super().__init__(kube_client=client, callbacks=callbacks)
        self._base = base
        self._commit_timeout = commit_timeout
        self._delete_grace = delete_grace
        self._stopped = stopped

    async def await_pod_start(
        self, pod: k8s.V1Pod, schedule_timeout: int = 120, startup_timeout: int = 120, check_interval: float = 1
    ) -> None:
        """Wait until the user's container has started. Copying inputs does not count against ``startup_timeout``.

        Raises:
            PreparingFailedError: The committer could not prepare the inputs.
            PodLaunchFailedException: The pod will never start.
            PodLaunchTimeoutException: It took too long.
        """

        async def read() -> k8s.V1Pod:
            return self.read_pod(pod)

        try:
            await until_started(
                read,
                base=self._base,
                log=self.log,
                schedule_timeout=schedule_timeout,
                startup_timeout=startup_timeout,
                prepare_timeout=self._commit_timeout,
                interval=check_interval,
                stopped=self._stopped,
            )
        finally:
            self.stop_watching_events = True

    def await_pod_completion(
        self,
        pod: k8s.V1Pod,
        istio_enabled: bool = False,  # noqa: ARG002  # the provider's signature
        container_name: str = "base",
        do_xcom_push: bool = False,  # noqa: ARG002  # likewise
    ) -> k8s.V1Pod:
        """Wait until the committer has said what it did, for at most the time that a commit may take, and return the pod."""
        return until_ended(
            lambda: self.read_pod(pod), base=container_name, limit=self._commit_timeout, stopped=self._stopped
        )

    def await_xcom_sidecar_container_start(self, pod: k8s.V1Pod, timeout: int = 60, log_interval: int = 30) -> None:
        """Wait for the XCom sidecar. One that has ended is told of in the log only: outputs do not travel through it."""
        try:
            super().await_xcom_sidecar_container_start(pod, timeout=timeout, log_interval=log_interval)
        except AirflowException as error:
            self.log.warning("The XCom sidecar does not run, so the job's XCom is lost: %s", error)

    def get_init_container_names(self, pod: k8s.V1Pod) -> list[str]:
        """Return the author's own init containers: the committer runs as long as the pod, so its log is not followed."""
        return [name for name in super().get_init_container_names(pod) if name != COMMITTER]

    def delete_pod(self, pod: k8s.V1Pod) -> None:
        """Delete a pod, with the grace that is left to one whose work is not wanted any more."""
        try:
            self._client.delete_namespaced_pod(
                pod.metadata.name, pod.metadata.namespace, grace_period_seconds=self._delete_grace
            )
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise

    def committer_lines(self, pod: k8s.V1Pod) -> list[str]:
        """Return what the committer told; nothing where it cannot be had."""
        try:
            answer = self._client.read_namespaced_pod_log(
                pod.metadata.name,
                pod.metadata.namespace,
                container=COMMITTER,
                tail_lines=_COMMITTER_LINES,
                # Decoded here: the client takes bytes for text in its own way.
                _preload_content=False,
                _request_timeout=_LOG_TIMEOUT,
            )
            text = answer.read().decode("utf-8", errors="backslashreplace")
        except Exception as error:  # noqa: BLE001  # nothing is decided by what a log says
            self.log.warning("What the committer told cannot be read: %s", error)
            return []
        return [line for line in text.splitlines() if line.strip()]
