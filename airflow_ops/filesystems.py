"""``task://`` for Airflow: ``ObjectStoragePath("task://team/dag/task/run/output/file")`` reads through the worker's layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datalayer.taskfs import TaskFileSystem

schemes = ["task"]


def get_fs(conn_id: str | None, storage_options: Mapping[str, Any] | None = None) -> TaskFileSystem:  # noqa: ARG001  # Airflow's signature
    """Return the file system of committed outputs, as Airflow's providers give theirs.

    Args:
        conn_id: Not of use: the configuration says which connection leads where.
        storage_options: fsspec's own options.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    from airflow_ops.layers import open_layer
    from datalayer.taskfs import TaskFileSystem

    # Not one of fsspec's cached instances: the configuration may have changed, and a layer is no part of their key.
    return TaskFileSystem(layer=open_layer(), **{**(storage_options or {}), "skip_instance_cache": True})
