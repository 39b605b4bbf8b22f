"""Waiting for a committed output without a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ops.layers import open_layer
from airflow_ops.references import OutputReference
from airflow_ops.resolving import missing_of
from datalayer.addresses.keys import TaskKey
from datalayer.errors import DataLayerError
from datalayer.layer import DataLayer


class TaskOutputTrigger(BaseTrigger):
    """Fires when every output it waits for has committed.

    Each look is taken in a thread: requests to a store must not hold up the other triggers of the process.

    Args:
        key: The address of the task that waits; references are meant from there.
        references: What is waited for: the fields of each ``OutputReference``.
        interval: Seconds between two looks.
    """

    def __init__(self, *, key: str, references: Sequence[Mapping[str, Any]], interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.key = key
        self.references = [dict(one) for one in references]
        self.interval = interval
        self._layer: DataLayer | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere. No secret is among it: the triggerer looks connections up itself."""
        kept = {"key": self.key, "references": self.references, "interval": self.interval}
        return f"{type(self).__module__}.{type(self).__qualname__}", kept

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``{"error": None}``, or why waiting on makes no sense."""
        said: str | None = None
        while True:
            try:
                missing = await asyncio.to_thread(self._look)
            except DataLayerError as error:
                if not error.retryable:
                    yield _event(f"{type(error).__name__}: {error}")
                    return
                missing = f"{type(error).__name__}: {error}"
            if missing is None:
                yield _event(None)
                return
            if missing != said:
                self.log.info("Waiting: %s", missing)
                said = missing
            await asyncio.sleep(self.interval)

    def _look(self) -> str | None:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        if self._layer is None:
            self._layer = open_layer()
        # Its questions to Airflow need no instance.
        context: Any = {"ti": RuntimeTaskInstance}
        return missing_of(references_from(self.references), TaskKey.parse(self.key), self._layer, context)


def _event(error: str | None) -> TriggerEvent:
    return TriggerEvent({"error": error})  # type: ignore[no-untyped-call]  # Airflow's


def fields_of(reference: OutputReference) -> dict[str, Any]:
    """Return a reference's plain values, for a trigger."""
    names = (one.name for one in fields(reference) if one.name != "operator")
    return {name: value for name in names if (value := getattr(reference, name)) is not None}


def references_from(values: Sequence[Mapping[str, Any]]) -> list[OutputReference]:
    """Return the references that plain values spell. Lists are what became of tuples on the way."""
    found = []
    for one in values:
        kept: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in one.items()}
        found.append(OutputReference(**kept))
    return found
