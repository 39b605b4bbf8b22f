"""The trigger of a deferred task: the provider's, which also waits for the committer, and drops the attempt of a task that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import AsyncPodManager, OnKillAction
from kubernetes_asyncio.client.exceptions import ApiException

from airflow_ops.operators import pod_states
from airflow_ops.operators.waiting import OUTAGE, PodDeletedError, until_started

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent
    from kubernetes_asyncio.client.models import V1Pod

PATH = "airflow_ops.operators.pod_trigger.TaskPodTrigger"


class TaskPodTrigger(KubernetesPodTrigger):
    """Waits until nothing more will come of a pod: its job has ended and its committer has said what it did.

    Args:
        key: The task's address.
        attempt: The attempt that the pod produces.
        nonce: Of the attempt's claim.
        commit_timeout: Seconds that a commit may take after the job, and the preparing of inputs before it.
        **told: As for the provider's trigger.
    """

    def __init__(self, *, key: str, attempt: int, nonce: str, commit_timeout: float, **told: Any) -> None:
        super().__init__(**told)
        self.key = key
        self.attempt = attempt
        self.nonce = nonce
        self.commit_timeout = commit_timeout

    def serialize(self) -> tuple[str, dict[str, Any]]:
        _, told = super().serialize()
        ours = {"key": self.key, "attempt": self.attempt, "nonce": self.nonce, "commit_timeout": self.commit_timeout}
        return PATH, {**told, **ours}

    @cached_property
    def pod_manager(self) -> AsyncPodManager:
        return _Pods(self.hook, base=self.base_container_name, prepare_timeout=self.commit_timeout)

    async def _get_pod(self) -> V1Pod:  # type: ignore[override]  # the provider's is wrapped in retries
        """Return the pod. A server that does not answer for some minutes ends nothing.

        Raises:
            PodDeletedError: Somebody deleted the pod before its job had ended: it may have an hour's grace, or its node be lost.
        """
        deadline = time.monotonic() + OUTAGE
        while True:
            try:
                pod = await super()._get_pod()
                break
            except (ApiException, ClientError, TimeoutError) as error:
                status = getattr(error, "status", None) or 0
                if 400 <= status < 500 or time.monotonic() >= deadline:
                    raise
                self.log.warning("The API server does not answer: %s", error)
                await asyncio.sleep(self.poll_interval)
        if pod_states.is_deleted(pod) and not pod_states.base_has_ended(pod, self.base_container_name):
            raise PodDeletedError(pod)
        return pod

    async def _wait_for_container_completion(self) -> TriggerEvent:
        event = await super()._wait_for_container_completion()
        if event.payload.get("status") in {"success", "failed"}:
            await self._wait_for_committer()
        return event

    async def _wait_for_committer(self) -> None:
        deadline = time.monotonic() + self.commit_timeout
        while time.monotonic() < deadline:
            if pod_states.has_ended(await self._get_pod(), self.base_container_name):
                return
            await asyncio.sleep(self.poll_interval)

    async def on_kill(self) -> None:
        """Delete the pod of a task that somebody ends while it is deferred, and drop its attempt; unless its author keeps the pod."""
        await super().on_kill()
        if self._fired_event or self.on_kill_action == OnKillAction.KEEP_POD:
            return
        with contextlib.suppress(Exception):  # Whatever is left is fenced by the next try, or swept.
            await asyncio.to_thread(self._drop)

    def _drop(self) -> None:
        from airflow_ops.ending import drop_attempt
        from airflow_ops.layers import open_layer
        from datalayer.addresses.keys import TaskKey

        drop_attempt(open_layer(), TaskKey.parse(self.key), self.attempt, self.nonce)


class _Pods(AsyncPodManager):
    def __init__(self, hook: Any, *, base: str, prepare_timeout: float) -> None:
        super().__init__(async_hook=hook)
        self._base = base
        self._prepare_timeout = prepare_timeout

    async def await_pod_start(
        self, pod: V1Pod, schedule_timeout: int = 120, startup_timeout: int = 120, check_interval: float = 1
    ) -> None:
        # What goes wrong ends the trigger with an event. The worker reads from the pod what it was, and says it to the person.
        try:
            await until_started(
                lambda: self.read_pod(pod),
                base=self._base,
                log=self.log,
                schedule_timeout=schedule_timeout,
                startup_timeout=startup_timeout,
                prepare_timeout=self._prepare_timeout,
                interval=check_interval,
            )
        finally:
            self.stop_watching_events = True
