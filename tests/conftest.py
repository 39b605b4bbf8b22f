"""Fixtures for all tests: real servers, each a process of this run alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.services.alluxio import AlluxioServer
from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server, moto_server, versitygw_server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# No deadlines: no test measures time. `make test-nightly` asks for the profile "nightly".
settings.register_profile("fast", deadline=None, max_examples=100)
settings.register_profile("nightly", deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fast")


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Airflow makes files where it is imported: not in a home that somebody uses, nor with what is configured there."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    home = tempfile.TemporaryDirectory(prefix="airflow-home-")
    config.add_cleanup(home.cleanup)
    os.environ["AIRFLOW_HOME"] = home.name


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked `kills` runs once, and ten times in a row at night: what is killed at another moment each time must end well each time."""
    if metafunc.definition.get_closest_marker("kills"):
        metafunc.fixturenames.append("night")
        nights = [pytest.param(number, id=f"night{number}", marks=pytest.mark.nightly) for number in range(1, 11)]
        metafunc.parametrize("night", [pytest.param(0, id=pytest.HIDDEN_PARAM), *nights])


@pytest.fixture(scope="session")
def versitygw() -> Iterator[S3Server]:
    """A versitygw process; every test takes a bucket of its own with `new_bucket()`."""
    with versitygw_server() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """A moto server process."""
    with moto_server() as server:
        yield server


@pytest.fixture
def fault_proxy(versitygw: S3Server) -> Iterator[FaultProxy]:
    """A fault proxy in front of versitygw, with nothing scripted."""
    with FaultProxy(versitygw.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def alluxio(versitygw: S3Server) -> Iterator[AlluxioServer]:
    """The one Alluxio of this run, in front of versitygw; every test takes a folder of its own with `mount(bucket, prefix)`."""
    with AlluxioServer(versitygw) as server:
        yield server


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark of this run. It tries each of its tasks twice, and learns of stores by `spark_env.session(layer)`."""
    from datalayer import DataLayer
    from datalayer.config import Config, HotConfig, TierConfig
    from spark_env import session

    cold = TierConfig(url=str(tmp_path_factory.mktemp("spark")))
    # There is none, and nobody asks it: so that Alluxio's client is on the class path, which is set once for all tests.
    hot = HotConfig(url="alluxio://127.0.0.1:1/none", proxy="http://127.0.0.1:1")
    settings = {
        "spark.master": "local[2,2]",
        "spark.driver.memory": "1g",
        # Many small jobs: thoroughly compiled code would come too late.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.log.level": "ERROR",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
    }
    running = session(DataLayer(Config(design="hot-cold", tiers={"cold": cold}, hot=hot)), **settings)
    yield running
    running.stop()
