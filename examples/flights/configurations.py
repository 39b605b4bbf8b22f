"""The same workflow under each storage design: all that differs is this configuration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from datalayer.config import Config, Connection, HotConfig, TierConfig
from examples.flights.server import ACCESS_KEY, REGION, SECRET_KEY
from examples.flights.workflow import REPORTS_CONNECTION

if TYPE_CHECKING:
    from pathlib import Path

DESIGNS = ("s3-poc", "s3-direct", "hot-cold", "shared-fs")


def configuration(design: str, endpoint: str, volume: Path, hot: HotConfig | None = None) -> Config:
    """Return the configuration of one design.

    Args:
        design: One of :data:`DESIGNS`.
        endpoint: The S3 server's URL.
        volume: The shared volume, for the design that has one. The others keep everything in a bucket named like them.
        hot: Where copies are held, for the design that has any.
    """
    s3 = Connection(endpoint=endpoint, region=REGION, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY)
    if design == "shared-fs":
        tiers = {"shared": TierConfig(url=str(volume))}
    else:
        tiers = {"cold": TierConfig(url=f"s3://{design}/outputs", connection=REPORTS_CONNECTION)}
    return Config(
        design=design, tiers=tiers, connections={REPORTS_CONNECTION: s3}, hot=hot if design == "hot-cold" else None
    )


def as_toml(config: Config) -> str:
    """Return a configuration as the text of a ``datalayer.toml``."""
    lines = [f"design = {_quoted(config.design)}"]
    for name, tier in config.tiers.items():
        lines += ["", f"[tiers.{name}]", f"url = {_quoted(tier.url)}"]
        if tier.connection:
            lines.append(f"connection = {_quoted(tier.connection)}")
    if config.hot:
        values = {"url": config.hot.url, "proxy": config.hot.proxy, "mount": config.hot.mount}
        lines += ["", "[hot]", *(f"{key} = {_quoted(value)}" for key, value in values.items() if value)]
    for name, connection in config.connections.items():
        values = {
            "endpoint": connection.endpoint,
            "region": connection.region,
            "access_key_id": connection.access_key_id,
            "secret_access_key": connection.secret_access_key,
        }
        lines += ["", f"[connections.{name}]"]
        lines += [f"{key} = {_quoted(value)}" for key, value in values.items() if value]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text)  # a TOML basic string has JSON's escapes
