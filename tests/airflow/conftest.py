"""Fixtures of the tests with a real Airflow and no cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from datalayer import DataLayer
from datalayer.config import Config
from tests.services.airflow import AirflowServer, airflow_server
from tests.services.postgres import PostgresServer, postgres_server
from tests.services.s3server import S3Server

TEAM = "aviation"
CONNECTION = "lake"


@dataclass(frozen=True)
class Deployment:
    """A running Airflow with the data layer that its tasks use."""

    airflow: AirflowServer
    settings: Path
    """The configuration file that each task reads anew."""
    s3: S3Server
    folder: Path
    """For volumes and copies."""

    def use(self, text: str) -> DataLayer:
        """Make a configuration that of the tasks which begin from now on; return the layer that it gives."""
        fresh = self.settings.with_suffix(".new")
        fresh.write_text(f"{text}\n{self.connection()}")
        fresh.rename(self.settings)
        return DataLayer(Config.load(environ={"DATALAYER_CONFIG": str(self.settings)}))

    def connection(self) -> str:
        """The S3 server's part of a configuration."""
        values = {
            "endpoint": self.s3.endpoint,
            "region": self.s3.region,
            "access_key_id": self.s3.root.access_key,
            "secret_access_key": self.s3.root.secret_key,
        }
        return "\n".join(
            [f"[connections.{CONNECTION}]", *(f"{name} = {json.dumps(it)}" for name, it in values.items())]
        )


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL 15."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def deployment(
    postgres: PostgresServer, versitygw: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A scheduler with LocalExecutor whose tasks run as processes of its workers."""
    folder = tmp_path_factory.mktemp("deployment")
    settings = folder / "datalayer.toml"
    named = {
        "AIRFLOW__DATALAYER__TEAM": TEAM,
        "AIRFLOW__DATALAYER__LAUNCHER": "process",
        "AIRFLOW__DATALAYER__CONFIG_FILE": str(settings),
    }
    with airflow_server(postgres, named) as airflow:
        yield Deployment(airflow, settings, versitygw, folder)
