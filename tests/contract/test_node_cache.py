"""The contract suite on the store that a ``NodeCache`` is written through: it is the cold store in every respect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datalayer.stores.base import Store
from datalayer.stores.counting import Receipt
from datalayer.stores.memory import MemoryStore
from datalayer.stores.node_cache import NodeCache
from datalayer.testing import CompareAndPutTests, ConcurrentWriterTests, StoreTests
from tests.behaviour.stores import s3_store
from tests.services.s3server import S3Server


def through(cold: Store, folder: Path) -> Iterator[Store]:
    """The store to write to; nothing is left that nobody asks for."""
    yield NodeCache(cold, Receipt(), folder / "cache", budget=10**9).through
    assert list((folder / "cache").glob("staging/*")) == []
    assert list((folder / "cache").glob("trash/*")) == []


class TestThroughACacheToMemory(StoreTests, CompareAndPutTests, ConcurrentWriterTests):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        yield from through(MemoryStore(), tmp_path)


class TestThroughACacheToS3(StoreTests, CompareAndPutTests, ConcurrentWriterTests):
    @pytest.fixture
    def store(self, versitygw: S3Server, tmp_path: Path) -> Iterator[Store]:
        yield from through(s3_store(versitygw), tmp_path)
