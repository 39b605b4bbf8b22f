"""The layer that a worker, or a triggerer, works on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from airflow_ops.settings import Settings, settings
from datalayer.config import Config, config_document
from datalayer.errors import ConfigError
from datalayer.layer import DataLayer

if TYPE_CHECKING:
    from collections.abc import Iterable


def open_layer(*, connections: Iterable[str] = (), current: Settings | None = None) -> DataLayer:
    """Return the layer of this worker: ``[datalayer] config_file`` (or the file that is found without it), and the environment over it.

    A connection that the file names and does not define is looked up among Airflow's connections.

    Args:
        connections: More connections that will be needed, by name: those of destinations.
        current: The settings, where the caller has them already.

    Raises:
        ConfigError: The configuration cannot be used, or a connection is defined nowhere.
    """
    current = current or settings()
    environ = dict(os.environ)
    if current.config_file:
        environ["DATALAYER_CONFIG"] = current.config_file
    document = config_document(environ=environ)
    defined = document.setdefault("connections", {})
    for name in dict.fromkeys([*_named(document), *connections]):
        if name not in defined:
            defined[name] = airflow_connection(name)
    return DataLayer(Config.from_mapping(document))


def worker_layer() -> DataLayer | None:
    """Return the layer of this process if it is one of Airflow's, for ``task://`` addresses in any library; None elsewhere.

    Raises:
        ConfigError: As for :func:`open_layer`.
    """
    return open_layer() if "airflow.sdk.execution_time" in sys.modules else None


def airflow_connection(name: str) -> dict[str, Any]:
    """Return one of Airflow's connections, of the type ``aws``, as the configuration spells connections.

    Raises:
        ConfigError: There is none of that name, or it is of another type.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = BaseHook.get_connection(name)
    except AirflowNotFoundException as error:
        raise ConfigError(
            f"connections: {name!r} is neither in the configuration nor a connection of Airflow's. Add it there, of the type aws"
        ) from error
    if connection.conn_type != "aws":
        raise ConfigError(
            f"connections: Airflow's connection {name!r} is of the type {connection.conn_type!r}; use one of the type aws"
        )
    wrapped = AwsConnectionWrapper(connection)
    found: dict[str, Any] = {
        "endpoint": wrapped.get_service_endpoint_url("s3"),
        "region": wrapped.region_name,
        "access_key_id": wrapped.aws_access_key_id,
        "secret_access_key": wrapped.aws_secret_access_key,
        "session_token": wrapped.aws_session_token,
    }
    if wrapped.role_arn:
        # Whoever assumes a role gets keys that end; those of the session are what is used.
        hook: AwsGenericHook[Any] = AwsGenericHook(aws_conn_id=name, client_type="s3")
        credentials = hook.get_session().get_credentials()
        if credentials is None:
            raise ConfigError(f"connections: no keys were found for the role of Airflow's connection {name!r}")
        keys = credentials.get_frozen_credentials()
        found |= {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "session_token": keys.token,
        }
    return {key: value for key, value in found.items() if value is not None}


def _named(document: dict[str, Any]) -> list[str]:
    """Return the names of the connections that tiers and references want."""
    tiers = document.get("tiers")
    references = document.get("references")
    places = [
        *(tiers.values() if isinstance(tiers, dict) else ()),
        *(references if isinstance(references, list) else ()),
    ]
    names = [place.get("connection") for place in places if isinstance(place, dict)]
    return [name for name in names if isinstance(name, str) and name]
