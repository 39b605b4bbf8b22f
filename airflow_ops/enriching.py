"""Before a task runs: inputs resolved and pinned, the attempt claimed, and the context that its job is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from airflow_ops.failures import failing_at_once
from airflow_ops.inputs import check_upstream
from airflow_ops.keys import task_key
from airflow_ops.layers import open_layer
from airflow_ops.reading import readers_of
from airflow_ops.remembering import recall_inputs, remember_inputs
from airflow_ops.resolving import resolve_inputs
from datalayer.commit.claims import claim_once, read_claim
from datalayer.errors import CommitConflictError, NotPublishedError
from datalayer.handoff.context import AttemptRef, InputSpec, ProducerSpec, TaskContext, check_context, context_config
from datalayer.handoff.deliveries import check_destinations
from datalayer.handoff.pinning import pin_inputs, with_pins
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from airflow_ops.inputs import DataTask
    from datalayer.addresses.keys import TaskKey
    from datalayer.commit.claims import Claim
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


def enrich(
    operator: DataTask, context: Context, *, producer: ProducerSpec | None = None, connections: Iterable[str] = ()
) -> Prepared:
    """Return a task ready to be started. Called again by the same try (after a deferral) it finds its own claim, and what it reads of other runs.

    Args:
        operator: The operator, its templates rendered.
        context: Airflow's context of the running task.
        producer: What makes the outputs, for the manifest.
        connections: More connections that the task needs, by name.

    Raises:
        AirflowFailException: Another try cannot help: the configuration cannot be used, an input of this run is not there, an address is wrong.
        DataLayerError: Another try may help: a store did not answer, or another DAG has not committed yet.
    """
    with failing_at_once():
        declared = operator.declared()
        check_upstream(operator, declared)
        wanted = (place.data.aws_conn_id for spec in declared.outputs.values() for place in spec.destinations)
        layer = open_layer(connections=[*connections, *filter(None, wanted)])
        key = task_key(context)
        told = TaskContext(
            key=str(key),
            owner=str(context["ti"].id),
            outputs=declared.outputs,
            config=context_config(layer.config),
            readers=_readers(layer, key, context),
            producer=producer or ProducerSpec(operator=type(operator).__name__),
        )
        check_destinations(told, layer)
        recalled = recall_inputs(declared, context)
        told = msgspec.structs.replace(told, inputs=resolve_inputs(declared, key, layer, context, recalled))
        pinned = _pin(layer, told, recalled)
        told = msgspec.structs.replace(told, inputs=with_pins(told, pinned))
        check_context(told)
        remember_inputs(declared, told.inputs, recalled, context)
        claim, fresh = claim_once(layer.home, key, str(context["ti"].id))
        told = msgspec.structs.replace(told, attempt=AttemptRef(claim.attempt, claim.nonce, fresh=fresh))
        return Prepared(layer, told, tuple(pinned), claim, bool(recalled))


def attach(prepared: Prepared, number: int, nonce: str) -> Prepared:
    """Return a prepared task that goes on with an attempt which an earlier try claimed, and whose pod still runs.

    Args:
        prepared: The task, as :func:`enrich` returned it.
        number: The attempt's number, from the pod's annotation ``datalayer/attempt``.
        nonce: The claim's nonce, from ``datalayer/nonce``.

    Raises:
        AirflowFailException: There is no such claim.
    """
    with failing_at_once():
        claim = read_claim(prepared.layer.home, prepared.key, number)
        if claim is None or claim.nonce != nonce:
            raise CommitConflictError(
                f"a pod says that it produces attempt {number} of {prepared.key}, and that attempt is not claimed for it. Delete the pod, "
                "or clear the task",
                key=str(prepared.key),
                attempt=number,
            )
    told = msgspec.structs.replace(prepared.context, attempt=AttemptRef(number, nonce), owner=claim.owner)
    return replace(prepared, context=told, claim=claim)


def _pin(layer: DataLayer, context: TaskContext, recalled: dict[str, InputSpec]) -> list[PinnedInput]:
    try:
        return pin_inputs(layer, context)
    except NotPublishedError as error:
        if not recalled:
            raise
        raise NotPublishedError(
            f"{error}. An earlier try of this task read it; clear the task to have its inputs looked up anew",
            key=error.key,
            misses=error.misses,
        ) from error


def _readers(layer: DataLayer, key: TaskKey, context: Context) -> list[str]:
    """Return for whom the outputs are to be kept hot; nobody asks where there is no hot tier."""
    if Tier.HOT not in layer.design.reads:
        return []
    return [str(one) for one in readers_of(key, context)]
