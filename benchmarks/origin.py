"""The server that all workloads talk to, and the clients that talk to it: ours and the rivals', each with its settings."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from benchmarks import scratch
from benchmarks.efs import EFS, Efs, memory_folder, running_efs
from benchmarks.front import Front, Limits, running_front
from datalayer import Config, DataLayer
from tests.services.alluxio import AlluxioServer
from tests.services.process import HOST
from tests.services.s3server import S3Server, versitygw_server

if TYPE_CHECKING:
    import obstore.store

_T = TypeVar("_T")

POOL = 128
"""Idle connections that a rival may keep. A pool that is too small would be an easy win."""


_ALLUXIO_MEMORY = 3 << 30


@dataclass(frozen=True)
class Alluxio:
    """A folder of Alluxio that is mounted on a bucket's ``root``."""

    url: str
    proxy: str


@dataclass(frozen=True)
class Door:
    """A way to one bucket: the server itself, or a front before it. It can be sent to another process."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    alluxio: Alluxio | None = None
    """A way to the same bucket through Alluxio, where the workload asked for one."""
    efs: str | None = None
    """A folder on the emulated EFS, empty at first, where the workload asked for one. It is no way to the bucket."""

    def config(self, *, hedge: bool = False, **options: Any) -> Config:
        """Return a configuration of ours with the bucket as its cold tier."""
        connection = {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
            "hedge": hedge,
        }
        tiers = {"cold": {"url": f"s3://{self.bucket}/root", "connection": "bench"}}
        return Config.from_mapping({"tiers": tiers, "connections": {"bench": connection}, **options})

    def layer(self, *, hedge: bool = False, **options: Any) -> DataLayer:
        """Return a layer with the bucket as its cold tier."""
        return DataLayer(self.config(hedge=hedge, **options))

    def hot_layer(self, folder: str, budget: str = "100GB") -> DataLayer:
        """Return a layer of the design ``hot-cold`` with a cache folder of this machine. Copies of another door's bucket are others."""
        return self.layer(design="hot-cold", hot={"url": folder, "budget": budget})

    def alluxio_layer(self) -> DataLayer:
        """Return a layer of the design ``hot-cold`` with Alluxio."""
        alluxio = self.required_alluxio
        return self.layer(design="hot-cold", hot={"url": alluxio.url, "proxy": alluxio.proxy, "timeout": 60})

    def efs_layer(self) -> DataLayer:
        """Return a layer of the design ``shared-fs`` on the emulated EFS."""
        return DataLayer(self.config(design="shared-fs", tiers={"shared": {"url": self.required_efs}}))

    @property
    def required_alluxio(self) -> Alluxio:
        """The way through Alluxio.

        Raises:
            LookupError: The workload did not ask for one.
        """
        return _asked_for(self.alluxio, "alluxio")

    @property
    def required_efs(self) -> str:
        """The folder on the emulated EFS.

        Raises:
            LookupError: The workload did not ask for one.
        """
        return _asked_for(self.efs, "efs")

    def obstore(self, pool: int = POOL) -> obstore.store.S3Store:
        """Return obstore's client of the bucket, which may keep so many idle connections."""
        from obstore.store import S3Store

        return S3Store(
            self.bucket,
            endpoint=self.endpoint,
            region=self.region,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            client_options={"allow_http": True, "pool_max_idle_per_host": str(pool), "timeout": "600s"},
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

    def boto3(self) -> Any:
        """Return boto3's client, with a pool as the others have it."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(max_pool_connections=POOL, read_timeout=600, s3={"addressing_style": "path"}),
        )

    def s3fs(self) -> Any:
        """Return s3fs's client, with a pool and parts in flight as the others have them."""
        from s3fs import S3FileSystem

        return S3FileSystem(
            key=self.access_key,
            secret=self.secret_key,
            endpoint_url=self.endpoint,
            client_kwargs={"region_name": self.region},
            config_kwargs={"max_pool_connections": POOL, "read_timeout": 600},
            default_block_size=16 << 20,
            max_concurrency=8,
            skip_instance_cache=True,
        )


def _asked_for(way: _T | None, name: str) -> _T:
    if way is None:
        raise LookupError(f"this workload has none: set {name} = True in it")
    return way


class Origin:
    """A running server with a bucket.

    Args:
        server: The server.
        bucket: Its bucket.
        alluxio: An Alluxio that reads from the server, or what returns one; by default one is started where it is asked for.
    """

    def __init__(
        self, server: S3Server, bucket: str, alluxio: AlluxioServer | Callable[[], AlluxioServer] | None = None
    ) -> None:
        self.door = Door(server.endpoint, server.region, server.root.access_key, server.root.secret_key, bucket)
        self._server = server
        self._alluxio = alluxio
        self._front: Front | None = None

    @contextlib.contextmanager
    def fronted(self, limits: Limits | None = None) -> Iterator[tuple[Front, Door]]:
        """A front before the server that counts and, where there are limits, is slow; and the door it makes."""
        if self._front is not None:
            yield self._front, replace(self.door, endpoint=self._front.endpoint)
            return
        with running_front(self.door.endpoint, limits) as front:
            yield front, replace(self.door, endpoint=front.endpoint)

    @contextlib.contextmanager
    def with_alluxio(self, limits: Limits | None = None, host: str = HOST) -> Iterator[Origin]:
        """The same bucket, with a folder of Alluxio on it. All go through one front: so what Alluxio asks for is counted, too.

        Args:
            limits: Of the front.
            host: The address of this machine at which both serve.
        """
        with contextlib.ExitStack() as running:
            server = None
            if host == HOST:
                server = self._alluxio() if callable(self._alluxio) else self._alluxio
            server = server or running.enter_context(_alluxio(self._server, host))
            front = running.enter_context(running_front(self.door.endpoint, limits, host))
            folder = running.enter_context(server.mount(self.door.bucket, "root", endpoint=front.endpoint))
            origin = Origin(self._server, self.door.bucket, server)
            origin.door = replace(origin.door, alluxio=Alluxio(folder.url, folder.proxy))
            origin._front = front
            yield origin

    @contextlib.contextmanager
    def with_efs(self, profile: Efs = EFS) -> Iterator[Origin]:
        """The same bucket, and beside it a folder on an emulated EFS."""
        with running_efs(profile) as folder:
            origin = Origin(self._server, self.door.bucket, self._alluxio)
            origin.door, origin._front = replace(self.door, efs=str(folder)), self._front
            yield origin


class Origins:
    """One S3 server for a whole run, and one Alluxio as soon as it is asked for: each workload gets a bucket of its own, gone afterwards.

    Args:
        server: The server.
        running: Where an Alluxio that is started is ended.
    """

    def __init__(self, server: S3Server, running: contextlib.ExitStack) -> None:
        self._server = server
        self._running = running
        self._alluxio: AlluxioServer | None = None

    @contextlib.contextmanager
    def new(self) -> Iterator[Origin]:
        """A bucket that is empty, whose objects are gone at the end: they are not in the next one's way."""
        bucket = self._server.new_bucket("bench")
        try:
            yield Origin(self._server, bucket, self._shared_alluxio)
        finally:
            if self._server.folder is not None:
                # By S3 the removal of 100,000 objects would take longer than many a workload.
                shutil.rmtree(self._server.folder / bucket, ignore_errors=True)

    def _shared_alluxio(self) -> AlluxioServer:
        if self._alluxio is None:
            self._alluxio = self._running.enter_context(_alluxio(self._server))
        return self._alluxio


@contextlib.contextmanager
def running_origins() -> Iterator[Origins]:
    """A versitygw process, gone at the end, and with it the Alluxio that was asked for. Its objects lie in memory where that has room."""
    # What a run that was killed has left, gigabytes of memory at times, is not to be in this one's way.
    scratch.remove_stale()
    with contextlib.ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix=scratch.prefix(), dir=memory_folder()))
        yield Origins(running.enter_context(versitygw_server(folder=Path(folder))), running)


def _alluxio(server: S3Server, host: str = HOST) -> AlluxioServer:
    return AlluxioServer(server, memory=_ALLUXIO_MEMORY, measured=True, host=host)


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Return bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)  # noqa: S311  # data, no secret
