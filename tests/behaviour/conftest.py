"""A layer on each kind of store; the S3 one is a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from datalayer import Config, DataLayer, TaskKey, Tier
from datalayer.config import HotConfig
from datalayer.stores.memory import MemoryStore
from tests.behaviour.on_alluxio import OnAlluxio
from tests.services.alluxio import AlluxioServer
from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server

RUN = "20130101T000000Z"


def volume_layer(folder: Path) -> DataLayer:
    """A layer whose home and data are a folder."""
    folder.mkdir(exist_ok=True)
    return DataLayer(Config.from_mapping({"design": "shared-fs", "tiers": {"shared": {"url": str(folder)}}}))


def s3_config(server: S3Server, bucket: str, endpoint: str | None = None, **connection: object) -> Config:
    """A configuration whose home and data are a bucket."""
    return Config.from_mapping(
        {
            "tiers": {"cold": {"url": f"s3://{bucket}/root", "connection": "test"}},
            "connections": {
                "test": {
                    "endpoint": endpoint or server.endpoint,
                    "region": server.region,
                    "access_key_id": server.root.access_key,
                    "secret_access_key": server.root.secret_key,
                    "timeout": 5,
                    "deadline": 20,
                    **connection,
                }
            },
        }
    )


@contextmanager
def any_layer(kind: str, request: pytest.FixtureRequest) -> Iterator[DataLayer]:
    """A fresh layer of a kind: memory, volume, s3, or hot: the same read from copies in a folder."""
    if kind == "memory":
        yield DataLayer(Config(), stores={Tier.COLD: MemoryStore()})
    elif kind == "volume":
        yield volume_layer(request.getfixturevalue("tmp_path") / "volume")
    else:
        server: S3Server = request.getfixturevalue("versitygw")
        config = s3_config(server, server.new_bucket())
        if kind == "hot":
            folder = request.getfixturevalue("tmp_path") / "copies"
            config = msgspec.structs.replace(config, design="hot-cold", hot=HotConfig(url=str(folder)))
        yield DataLayer(config)


@pytest.fixture(params=["memory", "volume", "s3", "hot"])
def layer(request: pytest.FixtureRequest) -> Iterator[DataLayer]:
    """A fresh layer, once on each kind of store."""
    with any_layer(request.param, request) as made:
        yield made


@pytest.fixture
def key() -> TaskKey:
    return TaskKey("aviation", "flights", "extract", RUN)


@pytest.fixture
def proxied(versitygw: S3Server, fault_proxy: FaultProxy) -> Callable[..., DataLayer]:
    """Makes a layer on S3 that goes through the fault proxy."""
    bucket = versitygw.new_bucket()
    return lambda **connection: DataLayer(s3_config(versitygw, bucket, fault_proxy.endpoint, **connection))


@pytest.fixture
def on_alluxio(versitygw: S3Server, alluxio: AlluxioServer, fault_proxy: FaultProxy) -> Iterator[OnAlluxio]:
    """A fresh bucket with a folder of Alluxio on it."""
    bucket = versitygw.new_bucket()
    with (
        alluxio.mount(bucket, "root", endpoint=fault_proxy.endpoint) as folder,
        FaultProxy(alluxio.proxy_url) as proxy,
    ):
        fault_proxy.reset()
        yield OnAlluxio(versitygw, bucket, folder, fault_proxy, proxy)
