"""The server that all workloads talk to, and the clients that talk to it: ours and the rivals', each with its settings."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from datalayer import Config, DataLayer
from tests.services.faultproxy import Fault, FaultProxy
from tests.services.s3server import S3Server, versitygw_server

if TYPE_CHECKING:
    import obstore.store

POOL = 128
"""Idle connections that a rival may keep. A pool that is too small would be an easy win."""


@dataclass(frozen=True)
class Door:
    """A way to one bucket: the server itself, or a proxy before it. It can be sent to another process."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str

    def config(self, **options: Any) -> Config:
        """Return a configuration of ours with the bucket as its cold tier."""
        connection = {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
        }
        tiers = {"cold": {"url": f"s3://{self.bucket}/root", "connection": "bench"}}
        return Config.from_mapping({"tiers": tiers, "connections": {"bench": connection}, **options})

    def layer(self, **options: Any) -> DataLayer:
        """Return a layer with the bucket as its cold tier."""
        return DataLayer(self.config(**options))

    def obstore(self) -> obstore.store.S3Store:
        """Return obstore's client of the bucket."""
        from obstore.store import S3Store

        return S3Store(
            self.bucket,
            endpoint=self.endpoint,
            region=self.region,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            client_options={"allow_http": True, "pool_max_idle_per_host": str(POOL), "timeout": "600s"},
        )

    def arrow(self) -> Any:
        """Return pyarrow's own S3 file system, with as many I/O threads as connections are wanted."""
        import pyarrow
        from pyarrow.fs import S3FileSystem

        pyarrow.set_io_thread_count(64)
        address = urlsplit(self.endpoint)
        return S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
            scheme=address.scheme,
            endpoint_override=address.netloc,
            request_timeout=600,
        )


class Origin:
    """A running server with a bucket."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self.door = Door(server.endpoint, server.region, server.root.access_key, server.root.secret_key, bucket)

    @contextlib.contextmanager
    def counted(self, first_byte: float = 0.0) -> Iterator[tuple[FaultProxy, Door]]:
        """A proxy before the server that counts, and lets each request wait ``first_byte`` seconds; and the door it makes."""
        with FaultProxy(self.door.endpoint) as proxy:
            if first_byte:
                proxy.script(Fault(delay=first_byte), times=-1)
            yield proxy, replace(self.door, endpoint=proxy.endpoint)


@contextlib.contextmanager
def running_origin() -> Iterator[Origin]:
    """A versitygw process with a bucket, gone at the end."""
    with versitygw_server() as server:
        yield Origin(server, server.new_bucket("bench"))


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Return bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)  # noqa: S311  # data, no secret
