"""``pod``: the committer beside a job in a pod."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(pod)


def pod() -> None:
    """Be the committer of a pod: bring the inputs of the job beside this container, wait for its end, commit its outputs if it ended with 0.

    It is a native sidecar: an init container with restartPolicy Always, whose startup probe looks for /datalayer/ready. The operator that makes
    the pod sets DATALAYER_INTERNAL_CONTEXT_0 and so on, and DATALAYER_INTERNAL_POD_NAME, _NAMESPACE, _UID and _CONTAINER. The pod's ServiceAccount
    must be allowed to get pods. docs/job-contract.md has a whole pod.

    The job runs in any image, as any user. It finds its inputs in $DATALAYER_IN/TASK/OUTPUT/ and leaves files in $DATALAYER_OUT/OUTPUT/.

    datalayer pod

    Exit codes are those of [b]run[/b]. The report is the container's termination message.
    """
    import typer

    raise typer.Exit(be_committer())


def be_committer() -> int:
    """Do what :func:`pod` says, and return the exit code."""
    from datalayer.handoff.pod import run_pod

    return run_pod(os.environ).exit_code
