"""Waiting for a pod: until it is created in spite of a quota, until it starts, until the committer has said what it did. Always with a bound.

What a pod came to is read from its status and from the manifest, never from its log: a log stream may die or hang.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import tenacity
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from airflow_ops.operators import pod_states
from airflow_ops.operators.pods import COMMITTER, NONCE_ANNOTATION
from datalayer.errors import HandoffError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kubernetes.client import CoreV1Api
    from kubernetes.client import models as k8s

    from datalayer.handoff.report import TaskReport

_FORBIDDEN, _NOT_FOUND, _CONFLICT, _TOO_MANY = 403, 404, 409, 429
_LOST_ANSWERS = 5
OUTAGE = 300.0
"""Seconds for which the API server may not answer while a pod is watched."""
_CONFLICTS = 120.0
"""Seconds for which an earlier pod of the same name may take to go, or the server be too busy for a new one."""
_LATER, _LATER_PAUSE = 60.0, 5.0
_LONGEST_PAUSE = 60.0
_SLICE = 0.5


class StoppedError(Exception):
    """Whoever waits was told to end."""


class PodDeletedError(Exception):
    """Somebody has deleted the pod before its job had ended, so nothing may come of it. ``pod`` is the pod as it was seen."""

    def __init__(self, pod: k8s.V1Pod) -> None:
        super().__init__(
            f"pod {pod.metadata.name} was deleted before its job had ended: somebody did so, or the cluster did"
        )
        self.pod = pod


class PreparingFailedError(HandoffError):
    """The committer could not prepare the inputs; ``report`` is what it said, and ``retryable`` whether another try can help."""

    def __init__(self, message: str = "", *, report: TaskReport | None = None) -> None:
        super().__init__(message)
        self.report = report
        self.retryable = bool(report and report.error and report.error.retryable)


def create_pod(client: CoreV1Api, pod: k8s.V1Pod, *, limit: float, log: Any, stopped: Callable[[], bool]) -> k8s.V1Pod:
    """Create a pod and return it as the server has it.

    A refusal because the namespace's quota is used up is waited out, with growing pauses, and the log says so. So is, for two minutes, a server that
    is too busy, and an earlier pod of the same name that is about to go. A pod that is there already is taken for ours if it names our claim: then
    an earlier answer was lost.

    Args:
        client: The API server.
        pod: The complete pod, with its name.
        limit: Seconds to wait for room in the quota.
        log: Where a person reads it.
        stopped: Whether to give up.

    Raises:
        ApiException: The server refused it for another reason, or there was no room in time.
        StoppedError: ``stopped`` said so.
    """
    name, namespace = pod.metadata.name, pod.metadata.namespace
    body = client.api_client.sanitize_for_serialization(pod)
    started = time.monotonic()
    lost = 0

    def create() -> k8s.V1Pod:
        nonlocal lost
        began = time.monotonic()
        while True:
            try:
                return client.create_namespaced_pod(namespace=namespace, body=body)
            except ApiException as error:
                found = _named(client, pod) if error.status == _CONFLICT else None
                if found is not None and _is_own(found, pod):
                    log.info(
                        "Pod %s is there already (uid %s): the answer to its creation was lost",
                        name,
                        found.metadata.uid,
                    )
                    return found
                if _is_passing(error, found) and time.monotonic() - began < _CONFLICTS:
                    log.info("Pod %s cannot be created just now (%s)", name, error.reason)
                    pause(2.0, stopped)
                    continue
                if (error.status is not None and error.status < 500) or lost >= _LOST_ANSWERS:
                    raise
            except HTTPError:
                if lost >= _LOST_ANSWERS:
                    raise
            lost += 1
            pause(min(2.0**lost, 15.0), stopped)

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        seconds = state.next_action.sleep if state.next_action else 0.0
        log.warning(
            "The quota of namespace %s has no room for pod %s: %s. Trying again in %.0f s (waited %.0f s of at most %.0f s, setting quota_wait)",
            namespace,
            name,
            quota_refusal(error),
            seconds,
            time.monotonic() - started,
            limit,
        )

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: quota_refusal(error) is not None),
        wait=tenacity.wait_random_exponential(multiplier=2, min=1, max=_LONGEST_PAUSE),
        stop=tenacity.stop_before_delay(limit),
        sleep=lambda seconds: pause(seconds, stopped),
        before_sleep=tell,
        reraise=True,
    )
    created: k8s.V1Pod = retrying(create)
    return created


def quota_refusal(error: BaseException | None) -> str | None:
    """Return what the API server said if it refused because a quota is used up, else None."""
    if not isinstance(error, ApiException) or error.status != _FORBIDDEN:
        return None
    try:
        message = str(json.loads(error.body or "{}").get("message", ""))
    except (ValueError, AttributeError):
        message = str(error.body or "")
    return message if "exceeded quota" in message else None


def _is_passing(error: ApiException, found: k8s.V1Pod | None) -> bool:
    """Whether a refusal passes by itself: a server that is too busy, a quota that others change, an earlier pod of the name that goes."""
    if error.status == _CONFLICT:
        # A pod that has gone meanwhile was in the way only until now.
        return found is None or pod_states.is_deleted(found)
    return bool(error.status == _TOO_MANY)


def _named(client: CoreV1Api, pod: k8s.V1Pod) -> k8s.V1Pod | None:
    """Return the pod of the same name, whosever it is."""
    try:
        return client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
    except ApiException as error:
        if error.status == _NOT_FOUND:
            return None
        raise


def _is_own(found: k8s.V1Pod, pod: k8s.V1Pod) -> bool:
    """Whether a pod was made for the same claim."""
    mine = (pod.metadata.annotations or {}).get(NONCE_ANNOTATION)
    return bool(mine) and (found.metadata.annotations or {}).get(NONCE_ANNOTATION) == mine


async def until_started(
    read: Callable[[], Awaitable[k8s.V1Pod]],
    *,
    base: str,
    log: Any,
    schedule_timeout: float,
    startup_timeout: float,
    prepare_timeout: float,
    interval: float,
    stopped: Callable[[], bool] = lambda: False,
) -> k8s.V1Pod:
    """Wait until the user's container has started, and return the pod.

    Args:
        read: Asks for the pod.
        base: The user's container.
        log: Where a person reads it.
        schedule_timeout: Seconds until a node must be found.
        startup_timeout: Seconds from then on until the committer must run, and after it the user's container. Copying inputs does not count.
        prepare_timeout: Seconds for copying inputs.
        interval: Longest pause between two looks, in seconds.
        stopped: Whether to give up.

    Raises:
        PreparingFailedError: The committer could not prepare the inputs.
        PodDeletedError: Somebody deleted the pod.
        PodLaunchFailedException: The pod will never start.
        PodLaunchTimeoutException: It took too long.
        StoppedError: ``stopped`` said so.
    """
    began = since = time.monotonic()
    step = "scheduled"
    limits = {"scheduled": schedule_timeout, "started": startup_timeout, "prepared": prepare_timeout}
    while True:
        pod = await read()
        if pod_states.has_started(pod, base):
            return pod
        check_start(pod, base)
        now = _step(pod)
        if now != step:
            step, since = now, time.monotonic()
            if step == "prepared":
                log.info("The committer prepares the inputs")
        if time.monotonic() - since >= limits[step]:
            raise PodLaunchTimeoutException(
                f"pod {pod.metadata.name} was not {step} within {limits[step]:.0f} s; its events in Kubernetes say more"
            )
        # Often at first, when most pods start; seldom later, to spare the API server.
        until = time.monotonic() + min(interval, 0.5 + (time.monotonic() - began) / 10)
        while (left := until - time.monotonic()) > 0:
            if stopped():
                raise StoppedError
            await asyncio.sleep(min(left, _SLICE))


def check_start(pod: k8s.V1Pod, base: str) -> None:
    """Check that the user's container, which has not started, can still do so.

    Raises:
        PreparingFailedError: The committer could not prepare the inputs.
        PodDeletedError: Somebody deleted the pod.
        PodLaunchFailedException: The kubelet says that it never will.
    """
    if (report := pod_states.preparing_failed(pod, base)) is not None:
        raise preparing_error(report)
    if pod_states.is_deleted(pod):
        raise PodDeletedError(pod)
    if (problem := pod_states.launch_problem(pod)) is not None:
        raise PodLaunchFailedException(problem)


def _step(pod: k8s.V1Pod) -> str:
    if not pod_states.is_scheduled(pod):
        return "scheduled"
    committer = pod_states.status_of(pod, COMMITTER)
    if committer is not None and committer.state.running is not None and not committer.started:
        return "prepared"
    return "started"


def preparing_error(report: TaskReport) -> PreparingFailedError:
    """Return the error for a committer's report that inputs could not be prepared."""
    error = report.error
    told = f"{error.type}: {error.message}" if error else "it did not say why"
    return PreparingFailedError(
        f"what {report.key} needs could not be prepared, so its job was not started: {told}", report=report
    )


def until_ended(
    read: Callable[[], k8s.V1Pod], *, base: str, limit: float, stopped: Callable[[], bool] = lambda: False
) -> k8s.V1Pod:
    """Wait until nothing more will come of a pod whose user's container has ended, for at most ``limit`` seconds, and return it as it is then.

    Raises:
        StoppedError: ``stopped`` said so.
    """
    deadline = time.monotonic() + limit
    wait = 0.5
    while True:
        pod = read()
        if pod_states.has_ended(pod, base) or time.monotonic() >= deadline:
            return pod
        pause(wait, stopped)
        wait = min(wait * 1.2, 5.0)


def until_base_ended(
    read: Callable[[], k8s.V1Pod],
    *,
    base: str,
    interval: float,
    log: Any,
    stopped: Callable[[], bool] = lambda: False,
    outage: float = OUTAGE,
) -> k8s.V1Pod:
    """Wait until the user's container has ended, however long it runs, and return the pod.

    Args:
        read: Asks for the pod.
        base: The user's container.
        interval: Seconds between two looks; more once the job has run for a minute.
        log: Where a person reads it.
        stopped: Whether to give up.
        outage: Seconds for which the API server may not answer.

    Raises:
        PodDeletedError: Somebody deleted the pod.
        ApiException: The server refused, or failed for longer than ``outage``; likewise ``HTTPError``.
        StoppedError: ``stopped`` said so.
    """
    began = time.monotonic()
    lost: float | None = None
    while True:
        try:
            pod = read()
        except (ApiException, HTTPError) as error:
            now = time.monotonic()
            if not is_outage(error) or (lost is not None and now - lost >= outage):
                raise
            if lost is None:
                lost = now
                log.warning(
                    "The API server does not answer: %s. The job is not touched by that; asking again for %.0f s",
                    error,
                    outage,
                )
        else:
            lost = None
            if pod_states.base_has_ended(pod, base):
                return pod
            if pod_states.is_deleted(pod):
                raise PodDeletedError(pod)
        pause(interval if time.monotonic() - began < _LATER else max(interval, _LATER_PAUSE), stopped)


def is_outage(error: BaseException) -> bool:
    """Whether an error says nothing about a pod, but only that the API server cannot be asked just now."""
    if isinstance(error, ApiException):
        return error.status in {None, 0, _TOO_MANY} or error.status >= 500
    return isinstance(error, HTTPError)


def pause(seconds: float, stopped: Callable[[], bool]) -> None:
    """Sleep, unless told to end.

    Raises:
        StoppedError: ``stopped`` said so, before or meanwhile.
    """
    until = time.monotonic() + seconds
    while True:
        if stopped():
            raise StoppedError
        left = until - time.monotonic()
        if left <= 0:
            return
        # A signal's handler cannot wake a sleep; it can only be noticed after it.
        time.sleep(min(left, _SLICE))
