"""The contract suite on every store. moto stands for the breadth of the API alone: its conditional puts lose races."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datalayer.addresses.location import Location
from datalayer.config import Connection
from datalayer.stores.base import Store
from datalayer.stores.memory import MemoryStore
from datalayer.stores.s3 import S3Store
from datalayer.stores.volume import VolumeStore
from datalayer.testing import (
    CompareAndPutTests,
    ConcurrentWriterTests,
    ExclusivePutOnlyTests,
    MountedStoreTests,
    StoreTests,
)
from tests.services.s3server import S3Server


def s3_store(server: S3Server, prefix: str = "/some/prefix") -> S3Store:
    connection = Connection(
        endpoint=server.endpoint,
        region=server.region,
        access_key_id=server.root.access_key,
        secret_access_key=server.root.secret_key,
    )
    return S3Store(Location.parse(f"s3://{server.new_bucket()}{prefix}"), connection=connection)


class TestMemoryStore(StoreTests, CompareAndPutTests, ConcurrentWriterTests):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestVolumeStore(StoreTests, ExclusivePutOnlyTests, ConcurrentWriterTests, MountedStoreTests):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        yield VolumeStore(Location.parse(str(tmp_path)))
        assert list(tmp_path.rglob(".datalayer-tmp-*")) == []


class TestVolumeStoreAcrossProcesses(StoreTests, ExclusivePutOnlyTests, ConcurrentWriterTests, MountedStoreTests):
    race_processes = 4

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return VolumeStore(Location.parse(str(tmp_path)))


class TestS3Store(StoreTests, CompareAndPutTests, ConcurrentWriterTests):
    @pytest.fixture
    def store(self, versitygw: S3Server) -> Store:
        return s3_store(versitygw)


class TestS3StoreAtTheTopOfItsBucket(StoreTests, CompareAndPutTests, ConcurrentWriterTests):
    @pytest.fixture
    def store(self, versitygw: S3Server) -> Store:
        return s3_store(versitygw, "")


class TestS3StoreOnMoto(StoreTests, CompareAndPutTests):
    # moto says of every upload that it began in 2010, so none is ever too young to be reaped.
    test_what_a_writer_left_behind_is_reaped = None  # type: ignore[assignment]

    @pytest.fixture
    def store(self, moto: S3Server) -> Store:
        return s3_store(moto)
