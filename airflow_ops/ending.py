"""After a job: whether it succeeded, which the manifest alone decides; what follows from its success; and what is cleared where it failed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_ops import metrics
from datalayer.commit.claims import read_claim
from datalayer.errors import DataLayerError, NotPublishedError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ops.enriching import Prepared
    from datalayer.addresses.keys import TaskKey
    from datalayer.handoff.report import TaskReport
    from datalayer.layer import DataLayer
    from datalayer.resolve.resolution import Resolution

_log = logging.getLogger("airflow.task.datalayer")


def committed(prepared: Prepared) -> Resolution | None:
    """Return the head of a task if it names the attempt of this try, else None: one request.

    Raises:
        DataLayerError: The home store did not say.
    """
    head = head_of(prepared)
    return head if head is not None and head.attempt == prepared.attempt else None


def head_of(prepared: Prepared) -> Resolution | None:
    """Return the head of a task, whichever attempt it names; None where nothing has committed.

    Raises:
        DataLayerError: The home store did not say.
    """
    try:
        return prepared.layer.resolve(prepared.key)
    except NotPublishedError:
        return None


def require_commit(prepared: Prepared, report: TaskReport | None, told: str | None = None) -> Resolution:
    """Return the head of a task, which names the attempt of this try.

    Args:
        prepared: The task.
        report: What whoever committed said of it, if anything.
        told: How the job ended, in a person's words, where that is known.

    Raises:
        AirflowFailException: It names another or none, and another try cannot help.
        AirflowException: It names another or none.
        DataLayerError: The home store did not say.
    """
    found = committed(prepared)
    if found is not None:
        return found
    drop_attempt(prepared.layer, prepared.key, prepared.attempt, prepared.claim.nonce)
    raise failure(prepared, report, told)


def failure(prepared: Prepared, report: TaskReport | None, told: str | None = None) -> AirflowException:
    """Return the error to raise for a task whose attempt is not the head: it says why, and whether another try can help."""
    error = report.error if report is not None else None
    if error is not None and error.type == "CommitConflictError":
        metrics.conflicted(prepared.key)
    parts = [f"attempt {prepared.attempt} of {prepared.key} was not committed"]
    if error is not None:
        parts.append(f"{error.type}: {error.message}")
    if told is not None and (error is None or told not in error.message):
        parts.append(told)
    if error is None and told is None:
        parts.append("nobody said why: the committer left no report. The pod's events and the log above say more")
    message = ". ".join(part.rstrip(".") for part in parts)
    return AirflowException(message) if error is None or error.retryable else AirflowFailException(message)


def as_airflow(error: DataLayerError) -> Exception:
    """Return an error as Airflow has to see it: one that another try cannot help fails the task for good."""
    return error if error.retryable else AirflowFailException(f"{type(error).__name__}: {error}")


def drop_attempt(layer: DataLayer, key: TaskKey, number: int, nonce: str) -> None:
    """Fence an attempt that is given up, and remove what it staged. One that has committed is left as it is.

    It raises nothing: what cannot be removed now, a sweep removes later.
    """
    try:
        claim = read_claim(layer.home, key, number)
        if claim is not None and claim.nonce == nonce:
            layer.publisher().attach(key, claim).abandon()
    except DataLayerError as error:
        _log.warning(
            "what attempt %s of %s staged could not be removed: %s. `datalayer sweep` will", number, key, error
        )


def note_assets(context: Context, outlets: Any, resolution: Resolution) -> None:
    """Add to the events of a task's assets where exactly the output lies: its head, attempt, and the files of each output."""
    from airflow.sdk import Asset

    extra: dict[str, Any] = {
        "key": str(resolution.key),
        "attempt": resolution.attempt,
        "digest": resolution.digest,
        "outputs": {name: str(resolution[name].uri) for name in resolution.manifest.outputs},
    }
    for outlet in outlets or ():
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)
