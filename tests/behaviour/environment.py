"""A layer's configuration as environment variables, for processes that tests start."""

from __future__ import annotations

import os

from datalayer import DataLayer


def environment_of(layer: DataLayer, *, endpoint: str | None = None) -> dict[str, str]:
    """This process's environment with the layer's configuration in it; `endpoint` may be a proxy's."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DATALAYER_", "AWS_"))}
    if "DATALAYER_CACHE" in os.environ:
        environ["DATALAYER_CACHE"] = os.environ["DATALAYER_CACHE"]
    environ["DATALAYER_DESIGN"] = layer.config.design
    for tier, settings in layer.config.tiers.items():
        environ[f"DATALAYER_TIERS__{tier.upper()}__URL"] = settings.url
        if settings.connection:
            environ[f"DATALAYER_TIERS__{tier.upper()}__CONNECTION"] = settings.connection
    hot = layer.config.hot
    for setting in hot.__struct_fields__ if hot else ():
        value = getattr(hot, setting)
        if value is not None:
            environ[f"DATALAYER_HOT__{setting.upper()}"] = str(value)
    for name, connection in layer.config.connections.items():
        prefix = f"DATALAYER_CONNECTIONS__{name.upper()}__"
        environ |= {
            f"{prefix}ENDPOINT": endpoint or connection.endpoint or "",
            f"{prefix}REGION": connection.region or "",
            f"{prefix}ACCESS_KEY_ID": connection.access_key_id or "",
            f"{prefix}SECRET_ACCESS_KEY": connection.secret_access_key or "",
        }
    return environ
