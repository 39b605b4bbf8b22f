"""Waiting for the end of a job that another container of the pod runs, and telling from the pod's status what the end was.

The kubelet sends SIGTERM to a native sidecar when all main containers have ended, and when the pod is deleted, evicted or out of time. So the
signal is only the bell. The evidence is the API server's. A job that ended by itself is shown with its exit code before the bell rings. One that
the kubelet ended, with all of its pod, is shown as running until the last container has ended, and there is nothing to wait for but being killed
after it, or a deletion or another reason that shows.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING

from datalayer.errors import DataLayerError, PodStatusUnknownError
from datalayer.handoff.pod_status import FAILED, OUT_OF_MEMORY, ContainerEnd, OwnPod, PodStatus
from datalayer.handoff.process import TerminatedError
from datalayer.handoff.report import decode_report
from datalayer.handoff.steps import CommandFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from datalayer.handoff.process import Signals

_FIRST_LOOK = 60.0
"""Seconds for which a pod that starts tries to reach the API server: its network may come up after it."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_UNSURE_PAUSE = 2.0
"""Seconds: a process that was started anew may have missed the bell."""
_OTHERS_PAUSE = 3.0
"""Seconds: other containers may hold the bell back for as long as they like."""
_IDLE_PAUSE = 60.0
_UNKNOWN_GRACE = 3600.0
_MARGIN = 10.0
"""Seconds of the pod's grace that are left for saying that nothing was committed."""
_KILLED = 128 + signal.SIGKILL


class Bell:
    """Is rung by a signal handler, and heard by whoever waits."""

    def __init__(self) -> None:
        # A handler may interrupt whoever holds a lock, so none is used.
        self._heard, self._rope = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ring(self) -> None:
        """Wake whoever waits, now or at the next wait."""
        with contextlib.suppress(BlockingIOError):  # It has been rung often enough.
            os.write(self._rope, b"!")

    def wait(self, seconds: float | None) -> bool:
        """Wait until it is rung, but not longer than some seconds, and return whether it was."""
        if not select.select([self._heard], [], [], seconds)[0]:
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(self._heard, 4096)
        return True


def first_look(pod: OwnPod) -> PodStatus:
    """Return the pod's status, before the job begins: what could not be read then cannot be read at the end.

    Raises:
        TerminatedError: The pod is being ended already.
        PodStatusUnknownError: The API server cannot be reached.
        HandoffError: It refuses to say.
    """
    until, pause = time.monotonic() + _FIRST_LOOK, _SHORTEST_PAUSE
    while True:
        try:
            status = pod.read()
        except PodStatusUnknownError:
            if time.monotonic() > until:
                raise
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        else:
            _refuse_if_ending(status)
            return status


def wait_for_end(pod: OwnPod, bell: Bell, first: PodStatus | None, say: Callable[[str], None]) -> ContainerEnd:
    """Wait until the job's container has ended, and return how, where that is the job's own doing.

    Args:
        pod: The pod.
        bell: Rung when the job may have ended.
        first: The pod's status before the job was let start. None where that was another process's doing: then the bell may have rung before
            this one could hear it.
        say: Told in a person's words what holds things up.

    Raises:
        TerminatedError: The pod is being deleted, evicted or is out of time. What the job wrote must not be committed.
        PodStatusUnknownError: The API server could not be asked for as long as the pod's grace lasts.
        HandoffError: It refuses to say.
    """
    rung = silent = None
    known = first
    pause = 0.0 if first is None else _calm(first)
    while True:
        if bell.wait(pause):
            rung, pause = time.monotonic(), _SHORTEST_PAUSE
        elif rung is None:
            # Sure only after some looks that a bell that was rung before would have shown.
            pause = min(max(2 * pause, _UNSURE_PAUSE), _calm(known))
        else:
            pause = min(2 * pause, _LONGEST_PAUSE)
        try:
            status = pod.read(cached=rung is None and known is not None)
        except PodStatusUnknownError as error:
            if silent is None:
                silent = time.monotonic()
                say(f"{error}. It is asked again, for as long as the pod may go on")
            passed = time.monotonic() - max(silent, rung or math.inf)
            if passed > (known.grace if known else _UNKNOWN_GRACE) - _MARGIN:
                raise PodStatusUnknownError(
                    f"the job may have ended, and how could not be found out in {passed:.0f} s: {error}. Nothing was committed"
                ) from error
            continue
        known, silent = status, None
        _refuse_if_ending(status)
        if status.end is not None:
            return status.end


def _calm(status: PodStatus | None) -> float:
    return _OTHERS_PAUSE if status is None or status.others else _IDLE_PAUSE


def check_end(end: ContainerEnd, container: str) -> None:
    """Make sure that a container ended well.

    Raises:
        CommandFailedError: It did not. The error takes over what the container's own report says, if it left one as its termination message.
    """
    if end.exit_code == 0 and end.reason != OUT_OF_MEMORY:
        return
    retryable, told = True, ""
    if end.message:
        try:
            own = decode_report(end.message.encode(), "the job's own report")
        except DataLayerError:
            told = f". It left the message: {end.message[-1000:].strip()}"
        else:
            if own.error is not None:
                retryable, told = own.error.retryable, f". Its own report says: {own.error.message}"
    if end.reason == OUT_OF_MEMORY:
        words = "was killed because it used more memory than its limit. Raise the limit, or have the job use less"
    elif end.exit_code > 128:
        words = f"was ended by signal {end.exit_code - 128}"
    else:
        words = f"ended with exit code {end.exit_code}"
    raise CommandFailedError(
        end.exit_code or _KILLED,
        f"the container {container!r} {words}{told}. Nothing was committed",
        retryable=retryable,
    )


def listen_for_deletion(pod: OwnPod, bell: Bell, signals: Signals) -> None:
    """While the outputs of a job that ended well are brought in, end this process if the pod is deleted or ended meanwhile.

    A bell that rings again proves nothing either: a kubelet that was started anew rings it for a pod that is just finishing.
    """

    def listen() -> None:
        while bell.wait(None):
            try:
                _refuse_if_ending(pod.read())
            except TerminatedError:
                signals.answer(None)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except DataLayerError:
                continue  # Unless the bell is rung again, the pod is taken to be just finishing.

    threading.Thread(target=listen, name="datalayer-bell", daemon=True).start()


def _refuse_if_ending(status: PodStatus) -> None:
    if status.deleted:
        raise TerminatedError(signal.SIGTERM, "the pod is being deleted. Nothing was committed")
    failed = status.end is not None and status.end.exit_code != 0
    if status.reason and not (status.reason == FAILED and failed):
        told = f": {status.message}" if status.message else ""
        raise TerminatedError(
            signal.SIGTERM,
            f"the node is ending the pod, as it does when the pod is out of time or the node out of room ({status.reason}{told}). "
            "Nothing was committed",
        )
