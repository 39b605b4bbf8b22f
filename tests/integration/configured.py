"""A layer that the environment configures, on a volume or a real S3 server: what a command or a URL finds by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from datalayer import DataLayer
from tests.services.s3server import S3Server


def configure(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, folder: Path) -> DataLayer:
    """Set the environment for a kind of store, ``volume`` or ``s3``, and return the layer it gives."""
    settings = {"DESIGN": "shared-fs", "TIERS__SHARED__URL": str(folder)}
    if kind == "s3":
        server: S3Server = request.getfixturevalue("versitygw")
        settings = {
            "DESIGN": "s3-direct",
            "TIERS__COLD__URL": f"s3://{server.new_bucket()}/root",
            "TIERS__COLD__CONNECTION": "lake",
            "CONNECTIONS__LAKE__ENDPOINT": server.endpoint,
            "CONNECTIONS__LAKE__REGION": server.region,
            "CONNECTIONS__LAKE__ACCESS_KEY_ID": server.root.access_key,
            "CONNECTIONS__LAKE__SECRET_ACCESS_KEY": server.root.secret_key,
        }
    for name, value in settings.items():
        monkeypatch.setenv(f"DATALAYER_{name}", value)
    folder.mkdir(exist_ok=True)
    return DataLayer.from_env()
