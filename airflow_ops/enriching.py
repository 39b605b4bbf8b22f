"""Before a task runs: inputs resolved and pinned, the attempt claimed, and the context that its job is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ops.inputs import DataTask
    from datalayer.addresses.keys import TaskKey
    from datalayer.commit.claims import Claim
    from datalayer.handoff.context import ProducerSpec, TaskContext
    from datalayer.handoff.pinning import PinnedInput
    from datalayer.layer import DataLayer


@dataclass(frozen=True)
class Prepared:
    """A task that is ready to be started."""

    layer: DataLayer
    """The worker's own layer; its receipt has counted what was asked so far."""
    context: TaskContext
    """What the job is told: inputs with their pins, outputs, the claimed attempt, readers, configuration; no secret. ``commit`` is ``self``:
    whoever wraps the job says so in the context that it writes."""
    pinned: tuple[PinnedInput, ...]
    """What was found of the inputs: ``one.alias``, ``one.resolution``, and of each of ``one.outputs`` the tier that serves it and the misses."""
    claim: Claim
    """The claim that holds the attempt's number."""
    remembered: bool = False
    """Whether the inputs are those that an earlier try of this task instance has found."""

    @property
    def key(self) -> TaskKey:
        """The task's address."""
        return self.context.task_key

    @property
    def attempt(self) -> int:
        """The number of the attempt that the job produces."""
        return self.claim.attempt


def enrich(operator: DataTask, context: Context, *, producer: ProducerSpec | None = None) -> Prepared:
    """Return a task ready to be started. Called again by the same try (after a deferral) it finds its own pins and claim.

    Args:
        operator: The operator, its templates rendered.
        context: Airflow's context of the running task.
        producer: What makes the outputs, for the manifest.

    Raises:
        AirflowFailException: Another try cannot help: the configuration cannot be used, an input of this run is not there, an address is wrong.
        DataLayerError: Another try may help: a store did not answer, or another DAG has not committed yet.
    """
    raise NotImplementedError


def attach(prepared: Prepared, number: int, nonce: str) -> Prepared:
    """Return a prepared task that goes on with an attempt which an earlier try claimed, and whose pod still runs.

    Args:
        prepared: The task, as :func:`enrich` returned it.
        number: The attempt's number, from the pod's annotation ``datalayer/attempt``.
        nonce: The claim's nonce, from ``datalayer/nonce``.

    Raises:
        AirflowFailException: There is no such claim.
    """
    raise NotImplementedError
