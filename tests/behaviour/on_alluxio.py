"""A design hot-cold on the real Alluxio, with proxies that count and break what passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from datalayer import Config, DataLayer, TaskKey
from datalayer.resolve.output import ResolvedOutput
from datalayer.stores.alluxio import AlluxioStore
from datalayer.stores.counting import TierReceipt
from tests.services.alluxio import AlluxioFolder
from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server

_WARM_SECONDS = 120


@dataclass
class OnAlluxio:
    """A bucket, and the folder of Alluxio that is mounted on it."""

    server: S3Server
    bucket: str
    folder: AlluxioFolder
    s3: FaultProxy
    """Through which everybody reaches the S3 server, Alluxio too."""
    proxy: FaultProxy
    """Through which layers reach Alluxio's proxy."""

    def layer(self, **hot: object) -> DataLayer:
        """A fresh layer; `hot` are other values for its configuration."""
        return DataLayer(
            Config.from_mapping(
                {
                    "design": "hot-cold",
                    "tiers": {"cold": {"url": f"s3://{self.bucket}/root", "connection": "test"}},
                    "connections": {
                        "test": {
                            "endpoint": self.s3.endpoint,
                            "region": self.server.region,
                            "access_key_id": self.server.root.access_key,
                            "secret_access_key": self.server.root.secret_key,
                        }
                    },
                    "hot": {"url": self.folder.url, "proxy": self.proxy.endpoint, **hot},
                }
            )
        )

    def data_gets(self) -> int:
        """How many GETs of committed files have reached the S3 server since the last reset."""
        return sum(
            request.kind == "GET" and "/attempts/" in request.path and not request.path.endswith(".json")
            for request in self.s3.requests
        )

    def resident(self, output: ResolvedOutput, name: str) -> int:
        """How many bytes of a file Alluxio holds."""
        blocks = [block["blockInfo"] for block in self.folder.status(output.store_path(name)[1])["fileBlockInfos"]]
        return sum(block["length"] for block in blocks if block["locations"])

    def warm(self, output: ResolvedOutput, *names: str) -> None:
        """Read files until Alluxio holds all of them."""
        deadline = time.monotonic() + _WARM_SECONDS
        for name in names or list(output.files):
            while (held := self.resident(output, name)) < output.entry(name).length:
                assert time.monotonic() < deadline, f"Alluxio holds {held} bytes of {name}, and no more"
                output.read_bytes(name)
                time.sleep(0.3)


def store_of(layer: DataLayer) -> AlluxioStore:
    """The layer's hot store."""
    store = layer.hot_store
    assert isinstance(store, AlluxioStore)
    return store


def published(layer: DataLayer, key: TaskKey, files: dict[str, bytes]) -> ResolvedOutput:
    """Publish files, and return the output to read."""
    with layer.publish(key) as attempt:
        for name, data in files.items():
            attempt.output().put(name, data)
    return layer.resolve(key)["default"]


def hot_receipt(layer: DataLayer) -> TierReceipt:
    """What the hot tier did so far."""
    return layer.receipt.by_tier().get("hot", TierReceipt())


def eventually(wanted: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)
