"""Fixtures for all tests: real servers, each a process of this run alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server, moto_server, versitygw_server

# No deadlines: no test measures time. `make test-nightly` asks for the profile "nightly".
settings.register_profile("fast", deadline=None, max_examples=100)
settings.register_profile("nightly", deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fast")


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
