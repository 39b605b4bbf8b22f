"""``TaskOutputSensor``: waits until the output of another DAG, or of another run, has committed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException

from airflow_ops.failures import failing_at_once
from airflow_ops.inputs import is_own_run
from airflow_ops.keys import task_key
from airflow_ops.layers import open_layer
from airflow_ops.references import OutputReference
from airflow_ops.resolving import missing_of
from airflow_ops.triggers import TaskOutputTrigger, fields_of
from datalayer.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from datalayer.layer import DataLayer


class TaskOutputSensor(BaseSensorOperator):
    """Succeeds once outputs have committed. What counts is the commit, not what Airflow says of the task.

    ::

        wait = TaskOutputSensor(task_id="wait", waits_for=task_output("weather_dag", "load"))

    Args:
        waits_for: ``task_output(…)``, or several. ``last=7`` waits until there are seven runs.
        deferrable: Whether the triggerer waits, and no worker; by default as Airflow's ``[operators] default_deferrable`` says.
        poke_interval: Seconds between two looks.
        **told: What every sensor of Airflow's takes: ``timeout``, ``mode``, ``soft_fail`` …

    Raises:
        ConfigError: One is no ``task_output``.
    """

    template_fields: Sequence[str] = ("waits_for",)

    def __init__(
        self,
        *,
        waits_for: OutputReference | Sequence[OutputReference],
        deferrable: bool | None = None,
        poke_interval: timedelta | float = 30,
        **told: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **told)
        self.waits_for = [waits_for] if isinstance(waits_for, OutputReference) else list(waits_for)
        for one in self.waits_for:
            if not isinstance(one, OutputReference):
                raise ConfigError(f"task {self.task_id!r}, waits_for: {one!r} is no task_output(dag_id, task_id)")
            if one.operator is not None or one.dag_id is None:
                raise ConfigError(
                    f"task {self.task_id!r}, waits_for: {one} is of this DAG and run, for which a dependency is enough"
                )
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        )
        self._layer: DataLayer | None = None
        self._said: str | None = None

    def execute(self, context: Context) -> None:
        """Wait, in this worker or in the triggerer."""
        if not self.deferrable:
            super().execute(context)
            return
        if self.poke(context):
            return
        trigger = TaskOutputTrigger(
            key=str(task_key(context)),
            references=[fields_of(one) for one in self.waits_for],
            interval=self.poke_interval,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:  # noqa: ARG002  # Airflow's signature
        """Go on after the trigger has fired.

        Raises:
            AirflowFailException: Waiting on makes no sense.
        """
        if event["error"] is not None:
            raise AirflowFailException(event["error"])
        self.log.info("All of it has committed")

    def poke(self, context: Context) -> bool:
        """Return whether all of it has committed."""
        with failing_at_once():
            key = task_key(context)
            for one in self.waits_for:
                if is_own_run(one, key.dag_id):
                    raise ConfigError(f"{one} is of this DAG and run, for which a dependency is enough")
            if self._layer is None:
                self._layer = open_layer()
            missing = missing_of(self.waits_for, key, self._layer, context)
        if missing is not None and missing != self._said:
            self.log.info("Waiting: %s", missing)
            self._said = missing
        return missing is None
