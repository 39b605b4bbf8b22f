"""``PodJob``: Airflow's ``KubernetesPodOperator``, taught what a committer is. Its pod is found again, waited for with a bound, and cleared.

What a pod came to is decided by the manifest alone, whatever goes wrong with its log, its XComs or the pod itself.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import OnFinishAction, OnKillAction, PodManager, PodPhase
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRuntimeError,
    AirflowSkipException,
    TaskDeferred,
)
from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airflow_ops import ending
from airflow_ops.enriching import Prepared, attach
from airflow_ops.operators import pod_states
from airflow_ops.operators.pod_trigger import TaskPodTrigger
from airflow_ops.operators.pods import (
    ATTEMPT_ANNOTATION,
    COMMITTER,
    NONCE_ANNOTATION,
    PodParts,
)
from airflow_ops.operators.reattaching import earlier_pods, is_live, may_go_on
from airflow_ops.operators.task_pods import DELETE_GRACE, TaskPods
from airflow_ops.operators.waiting import (
    PodDeletedError,
    PreparingFailedError,
    StoppedError,
    create_pod,
    is_outage,
    preparing_error,
    until_base_ended,
)
from airflow_ops.settings import Settings, settings
from datalayer.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import models as k8s

    from datalayer.handoff.report import TaskReport

Launcher = Literal["kubernetes", "process"]

_NOT_FOUND, _UNAUTHORIZED = 404, 401
# A log stream that says nothing for so long after the job's end has nothing more to say.
_LOG_SECONDS = 15.0
_KILL_SECONDS = 4.0


class PodJob(KubernetesPodOperator):
    """The part of an operator that has to do with its pod. Whoever extends it prepares the task, and says what is added to the pod."""

    _prepared: Prepared | None
    _report: TaskReport | None
    _told: str | None
    launcher: Launcher | None

    def _pod_parts(self, task: Prepared) -> PodParts:
        """Return what is added to the author's pod.

        Raises:
            ConfigError: A setting is missing.
        """
        raise NotImplementedError

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the pod's end, or a look at its log in between."""
        return self._judged(lambda: self._reenter(context, event), context)

    def on_kill(self) -> None:
        """End what was started: the pod is deleted, and the attempt fenced and dropped. Called from a signal's handler, so it takes no lock."""
        self._killed = True
        task = self._prepared
        if task is None or self._launcher == "process" or self.on_kill_action == OnKillAction.KEEP_POD:
            return
        threads = [
            threading.Thread(target=one, name="datalayer-kill", daemon=True)
            for one in (self._delete_own_pod, lambda: self._drop(task))
        ]
        for thread in threads:
            thread.start()
        # Airflow ends the process soon after.
        for thread in threads:
            thread.join(_KILL_SECONDS)

    def build_pod_request_obj(self, context: Context | None = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """Return the author's pod with our parts, as the cluster's ``pod_mutation_hook`` leaves it."""
        if self._prepared is None:
            return super().build_pod_request_obj(context, dry_run=dry_run)
        author = self.secrets
        try:
            self.secrets = [*author, cast("Any", self._pod_parts(self._prepared))]
            return super().build_pod_request_obj(context, dry_run=dry_run)
        except ConfigError as error:
            raise ending.as_airflow(error) from error
        finally:
            self.secrets = author

    def get_or_create_pod(self, pod_request_obj: k8s.V1Pod, context: Context) -> k8s.V1Pod:
        """Return the pod of an earlier try that goes on, or a new one. A full quota is waited out."""
        selector = self._build_find_pod_label_selector(context)
        adopted: k8s.V1Pod | None = None
        for pod in earlier_pods(self.client, pod_request_obj.metadata.namespace, selector, self._task):
            if adopted is None and self.durable and may_go_on(pod, self._task, context):
                self._adopt(pod)
                adopted = pod
            else:
                self._supersede(pod)
        if adopted is not None:
            self.log.info(
                "Going on with pod %s of an earlier try (uid %s), which produces attempt %s",
                adopted.metadata.name,
                adopted.metadata.uid,
                self._task.attempt,
            )
            self._persist_pod_identity_to_task_state_store(context, adopted)
            return adopted
        pod = create_pod(
            self.client, pod_request_obj, limit=self._settings.quota_wait, log=self.log, stopped=lambda: self._killed
        )
        if self._killed:
            # The signal came before there was anything to delete.
            raise StoppedError
        if self.durable:
            self._persist_pod_identity_to_task_state_store(context, pod)
        return pod

    def find_pod(self, namespace: str, context: Context, *, exclude_checked: bool = True) -> k8s.V1Pod | None:
        """Return this task's pod as it is now. By its name: labels are anybody's to set."""
        if self.pod is None:
            return super().find_pod(namespace, context, exclude_checked=exclude_checked)
        return self.pod_manager.read_pod(self.pod)

    def await_pod_completion(self, pod: k8s.V1Pod) -> None:  # type: ignore[override]  # the provider's is wrapped in retries
        """Wait until the job has ended, and copy its log meanwhile. Whether it has ended is asked of the pod, not of the log."""
        follower = None
        if self.get_logs:
            run = contextvars.copy_context().run
            follower = threading.Thread(target=run, args=(self._follow_log, pod), name="datalayer-log", daemon=True)
            follower.start()
        until_base_ended(
            lambda: self._look(pod),
            base=self.base_container_name,
            interval=self.base_container_status_polling_interval,
            log=self.log,
            stopped=lambda: self._killed,
        )
        if follower is not None:
            follower.join(_LOG_SECONDS)
            if follower.is_alive():
                self.log.warning(
                    "The job has ended and its log stream has not, so the end of its log may be missing here"
                )

    def extract_xcom(self, pod: k8s.V1Pod, *, ignore_kill_failure: bool = True) -> Any:
        """Return what the job left for XCom; None where the sidecar that hands it over is broken. Outputs do not travel that way."""
        try:
            return super().extract_xcom(pod, ignore_kill_failure=ignore_kill_failure)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it
            self.log.warning("The job's XCom cannot be read: %s. Its outputs are not touched by that", error)
            return None

    def is_istio_enabled(self, pod: k8s.V1Pod) -> bool:
        """Whether the service mesh has added a container to the pod."""
        if pod is None or pod.metadata.uid is None:
            return super().is_istio_enabled(pod)
        return any(one.name == self.ISTIO_CONTAINER_NAME for one in pod.spec.containers)

    def defer(self, *, trigger: Any, method_name: str, **told: Any) -> NoReturn:
        """Defer, with a trigger that waits for the committer, too."""
        if self._killed:
            raise StoppedError
        if type(trigger) is KubernetesPodTrigger:
            _, given = trigger.serialize()
            task = self._task
            given["termination_grace_period"] = self._delete_grace
            trigger = TaskPodTrigger(
                key=str(task.key),
                attempt=task.attempt,
                nonce=task.claim.nonce,
                commit_timeout=self._settings.commit_timeout,
                **given,
            )
        super().defer(trigger=trigger, method_name=method_name, **told)

    def cleanup(
        self,
        pod: k8s.V1Pod,
        remote_pod: k8s.V1Pod | None,
        xcom_result: Any = None,
        context: Context | None = None,
    ) -> None:
        """Note how the pod ended, and remove it as the author wants it. What it means for the task is decided later, by the manifest."""
        if self._killed or remote_pod is None or self._leaves_pod(sys.exception(), context):
            return
        try:
            ended = self._look(remote_pod)
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            self._told = f"pod {remote_pod.metadata.name} is gone: somebody deleted it"
            return
        self._note_end(ended)
        try:
            super().cleanup(pod, ended, xcom_result, context)
        except AirflowSkipException:
            raise
        except AirflowException as error:
            self.log.debug("The pod's end, as the provider has it: %s", error)

    @cached_property
    def pod_manager(self) -> TaskPods:
        return TaskPods(
            self.client,
            self.callbacks,
            base=self.base_container_name,
            commit_timeout=self._settings.commit_timeout,
            delete_grace=self._delete_grace,
            stopped=lambda: self._killed,
        )

    @property
    def _task(self) -> Prepared:
        if self._prepared is None:
            raise ConfigError(
                f"task {self.task_id!r} is run without its pre_execute: run it through Airflow, for instance dag.test()"
            )
        return self._prepared

    @cached_property
    def _settings(self) -> Settings:
        return settings()

    @property
    def _launcher(self) -> Launcher:
        return self.launcher or self._settings.launcher

    @property
    def _delete_grace(self) -> int:
        return DELETE_GRACE if self.termination_grace_period is None else self.termination_grace_period

    def _judged(self, work: Callable[[], Any], context: Context) -> Any:
        """Do the work with a pod, and let the manifest decide where something goes wrong on the way."""
        try:
            return work()
        except (TaskDeferred, AirflowFailException):
            raise
        except AirflowSkipException:
            self._drop(self._task)
            raise
        except StoppedError as error:
            if self.on_kill_action == OnKillAction.KEEP_POD:
                raise AirflowException(
                    f"task {self.task_id!r} was told to end while its pod ran, which is kept"
                ) from error
            self._delete_own_pod()
            self._drop(self._task)
            raise AirflowException(
                f"task {self.task_id!r} was told to end while its pod ran; nothing of it is kept"
            ) from error
        except PreparingFailedError as error:
            self._drop(self._task)
            if error.retryable:
                raise
            raise AirflowFailException(str(error)) from error
        except Exception as error:  # whatever it is, the pod is let go or left on purpose, and the cause is told
            if self._leaves_pod(error, context):
                self.log.warning("The pod is not touched by this, and the next try goes on with it: %s", error)
                raise
            # Fenced first: what is not committed by now never will be.
            self._drop(self._task)
            self._delete_own_pod(kept=self.on_finish_action != OnFinishAction.DELETE_POD)
            if ending.committed(self._task) is None:
                told = str(error) if isinstance(error, PodDeletedError) else self._told or str(error)
                raise ending.failure(self._task, self._report, told) from error
            self.log.warning("Something went wrong after the outputs were committed, which stay: %s", error)
            return None

    def _leaves_pod(self, error: BaseException | None, context: Context | None) -> bool:
        """Whether an error says nothing about the pod, which is at work, so that the next try goes on with it."""
        pod = self.pod or self.pod_request_obj
        if not isinstance(error, (ApiException, HTTPError, AirflowRuntimeError)) or pod is None or not self.durable:
            return False
        instance = context["ti"] if context is not None else None
        if instance is None or instance.try_number > (getattr(instance, "max_tries", None) or 0):
            return False
        try:
            found = self._look(pod)
        except (ApiException, HTTPError) as again:
            return is_outage(again)
        return is_live(found) and (found.metadata.annotations or {}).get(NONCE_ANNOTATION) == self._task.claim.nonce

    def _reenter(self, context: Context, event: dict[str, Any]) -> Any:
        try:
            pod = self.hook.get_pod(event["name"], event["namespace"])
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            self._told = f"pod {event['name']} is gone: somebody deleted it"
            raise
        self.pod = pod
        if pod.metadata.annotations.get(NONCE_ANNOTATION) != self._task.claim.nonce:
            self._adopt(pod)
        if (report := pod_states.preparing_failed(pod, self.base_container_name)) is not None:
            self.cleanup(pod, pod, context=context)
            raise preparing_error(report)
        ended = pod_states.base_has_ended(pod, self.base_container_name)
        if pod_states.is_deleted(pod) and not ended:
            self.cleanup(pod, pod, context=context)
            raise PodDeletedError(pod)
        if event["status"] != "success" and not ended and (problem := pod_states.launch_problem(pod)) is not None:
            self.cleanup(pod, pod, context=context)
            raise PodLaunchFailedException(problem)
        return super().trigger_reentry(context, event)

    def _write_logs(  # type: ignore[override]  # likewise
        self,
        pod: k8s.V1Pod,
        follow: bool = False,  # noqa: ARG002  # the provider's signature
        since_time: Any = None,
    ) -> None:
        """Copy the job's log. It has been written by now, so a stream that does not end is left alone."""
        run = contextvars.copy_context().run
        work = threading.Thread(
            target=run, args=(self._try_write_logs, pod, since_time), name="datalayer-log", daemon=True
        )
        work.start()
        work.join(4 * _LOG_SECONDS)

    def _try_write_logs(self, pod: k8s.V1Pod, since_time: Any) -> None:
        try:
            super()._write_logs(pod, follow=False, since_time=since_time)
        except Exception as error:  # noqa: BLE001  # nothing is decided by what a log says
            self.log.warning("The job's log cannot be read: %s", error)

    def _follow_log(self, pod: k8s.V1Pod) -> None:
        try:
            # A client of its own: the other one may be in the middle of something in its own thread.
            client = CoreV1Api(type(self.client.api_client)(self.client.api_client.configuration))
            PodManager(kube_client=client, callbacks=self.callbacks).fetch_requested_container_logs(
                pod=pod,
                containers=self.container_logs,
                follow_logs=True,
                container_name_log_prefix_enabled=self.container_name_log_prefix_enabled,
                log_formatter=self.log_formatter,
            )
        except Exception as error:  # noqa: BLE001  # likewise
            if not self._killed:
                self.log.warning("The job's log cannot be followed any more: %s", error)

    def _look(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        try:
            return self.pod_manager.read_pod(pod)
        except ApiException as error:
            if error.status != _UNAUTHORIZED:
                raise
            self._refresh_cached_properties()  # type: ignore[no-untyped-call]  # the provider has no types for it
            return self.pod_manager.read_pod(pod)

    def _note_end(self, pod: k8s.V1Pod) -> None:
        self._report = pod_states.report_of(pod)
        for line in self.pod_manager.committer_lines(pod):
            self.log.info("[%s] %s", COMMITTER, line)
        if pod_states.phase_of(pod) != "Succeeded":
            self._told = pod_states.end_of_base(pod, self.base_container_name)

    def _adopt(self, pod: k8s.V1Pod) -> None:
        told = pod.metadata.annotations or {}
        mine = self._task
        if mine.claim.nonce != told[NONCE_ANNOTATION]:
            # Its own claim stays empty, and must not pass for a later attempt that counts.
            self._drop(mine)
        self._prepared = attach(mine, int(told[ATTEMPT_ANNOTATION]), told[NONCE_ANNOTATION])

    def _supersede(self, pod: k8s.V1Pod) -> None:
        """End the pod of an earlier try that this one does not go on with. Its commit is refused, whenever it comes."""
        told = pod.metadata.annotations or {}
        self.log.info("Pod %s of an earlier try is superseded by attempt %s", pod.metadata.name, self._task.attempt)
        self.patch_already_checked(pod, reraise=False)
        if told[NONCE_ANNOTATION] != self._task.claim.nonce:
            ending.drop_attempt(self._task.layer, self._task.key, int(told[ATTEMPT_ANNOTATION]), told[NONCE_ANNOTATION])
        if self.on_finish_action == OnFinishAction.DELETE_POD or (
            self.on_finish_action == OnFinishAction.DELETE_ACTIVE_POD and is_live(pod)
        ):
            self.pod_manager.delete_pod(pod)

    def _drop(self, task: Prepared) -> None:
        ending.drop_attempt(task.layer, task.key, task.attempt, task.claim.nonce)

    def _delete_own_pod(self, *, kept: bool = False) -> None:
        """Delete the pod if it is this attempt's; where its author keeps pods that have ended, only one that has not."""
        pod = self.pod or self.pod_request_obj
        if pod is None:
            return
        try:
            client = CoreV1Api(type(self.client.api_client)(self.client.api_client.configuration))
            found = client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
            own = (found.metadata.annotations or {}).get(NONCE_ANNOTATION) == self._task.claim.nonce
            if not own or (kept and pod_states.phase_of(found) in PodPhase.terminal_states):
                return
            client.delete_namespaced_pod(
                pod.metadata.name, pod.metadata.namespace, grace_period_seconds=self._delete_grace
            )
        except Exception as error:  # noqa: BLE001  # a sweep finds what is left
            if isinstance(error, ApiException) and error.status == _NOT_FOUND:
                return
            self.log.warning("Pod %s could not be deleted: %s", pod.metadata.name, error)
