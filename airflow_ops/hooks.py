"""``DataLayerHook``: the worker's layer for code of one's own in a task."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, get_current_context

from airflow_ops.keys import task_key
from airflow_ops.layers import open_layer
from datalayer.addresses.keys import DEFAULT_OUTPUT, TaskKey

if TYPE_CHECKING:
    from datalayer.commit.publisher import Attempt
    from datalayer.layer import DataLayer
    from datalayer.resolve.output import ResolvedOutput


class DataLayerHook(BaseHook):
    """Committed outputs, from any Python of a task.

    ::

        hook = DataLayerHook()
        table = hook.read("flights_dag", "extract").dataset().to_table()
        with hook.publish() as attempt:
            attempt.output().write_table(table)
    """

    hook_name = "datalayer"

    @cached_property
    def layer(self) -> DataLayer:
        """The worker's layer.

        Raises:
            ConfigError: The configuration cannot be used.
        """
        return open_layer()

    def get_conn(self) -> Any:
        """Return the worker's layer."""
        return self.layer

    def key(
        self,
        dag_id: str | None = None,
        task_id: str | None = None,
        *,
        team: str | None = None,
        map_index: int | None = None,
    ) -> TaskKey:
        """Return the address of a task in the run of the task that asks; without arguments its own.

        Raises:
            InvalidKeyError: It is no address.
        """
        own = task_key(get_current_context())
        if dag_id is None and task_id is None and team is None and map_index is None:
            return own
        return TaskKey(team or own.team, dag_id or own.dag_id, task_id or own.task_id, own.run, map_index)

    def read(
        self,
        dag_id: str,
        task_id: str,
        output: str = DEFAULT_OUTPUT,
        *,
        team: str | None = None,
        map_index: int | None = None,
        latest: bool = False,
    ) -> ResolvedOutput:
        """Return a committed output: of the run of the task that asks, or of the newest one.

        Raises:
            NotPublishedError: It has not committed.
            ResolutionError: It has no such output.
        """
        key = self.key(dag_id, task_id, team=team, map_index=map_index)
        if latest:
            return self.layer.latest(key.team, key.dag_id, key.task_id, map_index)[output]
        return self.layer.resolve(key)[output]

    def publish(self) -> Attempt:
        """Return an attempt at the output of the task that asks: a context manager that commits when its block ends well."""
        context = get_current_context()
        return self.layer.publish(task_key(context), owner=str(context["ti"].id))
