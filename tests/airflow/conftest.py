"""Fixtures of the tests with a real Airflow and no cluster."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from datalayer import DataLayer
from datalayer.config import Config
from examples.flights.programs import by_airport
from examples.flights.source import JOBS, data_folder
from tests.services.airflow import AirflowServer, airflow_server
from tests.services.postgres import PostgresServer, postgres_server
from tests.services.s3server import S3Server

TEAM = "aviation"
CONNECTION = "lake"


ROWS = 2_000


def small_data(folder: Path) -> Path:
    """The first flights of the year and their weather, as the package has all of them; the folder they lie in."""
    with zipfile.ZipFile(data_folder() / "flights.csv.zip") as source, source.open("flights.csv") as lines:
        first = b"".join(next(lines) for _ in range(ROWS + 1))
    with zipfile.ZipFile(folder / "flights.csv.zip", "w") as target:
        target.writestr("flights.csv", first)
    with (data_folder() / "weather.csv").open("rb") as lines:
        (folder / "weather.csv").write_bytes(b"".join(next(lines) for _ in range(ROWS + 1)))
    return folder


def airflow_connection(s3: S3Server) -> str:
    """A connection of Airflow's to an S3 server, as a variable has it."""
    extra = {"endpoint_url": s3.endpoint, "region_name": s3.region}
    keys = {"login": s3.root.access_key, "password": s3.root.secret_key}
    return json.dumps({"conn_type": "aws", **keys, "extra": extra})


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

    def use_design(self, design: str) -> DataLayer:
        """Make a configuration of a design that of the tasks which begin from now on, with a place of its own; return the layer that it gives."""
        if design == "shared-fs":
            volume = tempfile.mkdtemp(prefix="volume-", dir=self.folder)
            return self.use(f'design = "{design}"\n[tiers.shared]\nurl = "{volume}"')
        text = f'design = "{design}"\n[tiers.cold]\nurl = "s3://{self.s3.new_bucket()}/outputs"\nconnection = "{CONNECTION}"'
        if design == "hot-cold":
            text += f'\n[hot]\nurl = "{tempfile.mkdtemp(prefix="copies-", dir=self.folder)}"'
        return self.use(text)

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
    settings.touch()
    flights = folder / "flights"
    flights.mkdir()
    folders = {
        "/job/data": str(small_data(flights)),
        "/job/bin": str(by_airport().parent),
        "/job": str(JOBS),
    }
    named = {
        "AIRFLOW__DATALAYER__TEAM": TEAM,
        "AIRFLOW__DATALAYER__LAUNCHER": "process",
        "AIRFLOW__DATALAYER__CONFIG_FILE": str(settings),
        "AIRFLOW__DATALAYER__PROCESS_FOLDERS": json.dumps(folders),
        # The first is in the configuration, too, and the other is not.
        f"AIRFLOW_CONN_{CONNECTION.upper()}": airflow_connection(versitygw),
        "AIRFLOW_CONN_REPORTS": airflow_connection(versitygw),
    }
    with airflow_server(postgres, named) as airflow:
        yield Deployment(airflow, settings, versitygw, folder)
