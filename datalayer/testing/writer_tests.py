"""What a store's writers promise: nothing visible before the close, and nothing left of what was dropped."""

from __future__ import annotations

import hashlib
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from datalayer.errors import NotFoundError, StoreError
from datalayer.testing.capability_tests import facts

if TYPE_CHECKING:
    from datalayer.stores.base import Store

MIB = 1 << 20


class WriterTests:
    """The part of ``StoreTests`` that is about writers."""

    def test_a_writer_shows_nothing_before_it_is_closed(self, store: Store) -> None:
        writer = store.writer("folder/a")
        for _ in range(30):
            assert writer.write(bytes(MIB)) == MIB
        assert list(store.list("")) == []
        assert store.children("folder") == ([], [])
        with pytest.raises(NotFoundError):
            store.head("folder/a")
        info = writer.close()
        assert info.size == 30 * MIB
        assert facts(info) == facts(store.head("folder/a")) == facts(writer.close())

    @pytest.mark.parametrize("size", [0, 10, 30 * MIB])
    def test_a_writer_whose_block_raises_leaves_nothing(self, store: Store, size: int) -> None:
        with pytest.raises(RuntimeError, match="broken"), store.writer("a") as writer:  # noqa: PT012  # the block is what is tested
            writer.write(bytes(size))
            raise RuntimeError("broken")
        assert list(store.list("")) == []
        with pytest.raises(NotFoundError):
            store.head("a")

    @pytest.mark.parametrize("size", [0, 30 * MIB])
    def test_a_discarded_writer_leaves_what_was_there(self, store: Store, size: int) -> None:
        store.put("a", b"before")
        writer = store.writer("a")
        writer.write(bytes(size))
        writer.discard()
        writer.discard()
        assert store.get("a")[0] == b"before"
        for call in (writer.close, lambda: writer.write(b"x")):
            with pytest.raises(StoreError):
                call()
        assert store.get("a")[0] == b"before"

    def test_a_writer_replaces_what_was_there(self, store: Store) -> None:
        store.put("a", b"before")
        with store.writer("a") as writer:
            writer.write(b"after")
        assert store.get("a")[0] == b"after"
        with pytest.raises(StoreError):
            writer.write(b"more")
        writer.discard()
        assert store.get("a")[0] == b"after"

    def test_a_writer_takes_any_buffer_and_does_not_keep_it(self, store: Store) -> None:
        block = bytearray(b"first ")
        with store.writer("a") as writer:
            assert writer.write(block) == 6
            block[:] = b"xxxxxx"
            assert writer.write(memoryview(b"second ")) == 7
            assert writer.write(b"third") == 5
            assert writer.write(b"") == 0
        assert store.get("a")[0] == b"first second third"

    def test_a_large_object_arrives_whole(self, store: Store) -> None:
        block = hashlib.shake_256(b"seed").digest(3 * MIB + 17)
        digest, size = hashlib.sha256(), 0
        with store.writer("large") as writer:
            for turn in range(20):
                part = memoryview(block)[turn:]
                writer.write(part)
                digest.update(part)
                size += len(part)
        assert store.head("large").size == size
        for chunk_size in (8 * MIB, MIB + 1):
            read = hashlib.sha256()
            for chunk in store.stream("large", chunk_size=chunk_size):
                read.update(chunk)
            assert read.digest() == digest.digest()
        with store.open("large") as file:
            assert hashlib.sha256(file.read()).digest() == digest.digest()

    def test_what_a_writer_left_behind_is_reaped(self, store: Store) -> None:
        writer = store.writer("folder/a")
        writer.write(bytes(40 * MIB))
        assert store.reap_uploads("", timedelta(hours=1)) == []
        assert store.reap_uploads("elsewhere", timedelta(seconds=-10)) == []
        reaped: list[str] = []
        # A writer may begin its upload a moment later, beside its caller.
        for _ in range(40):
            reaped = store.reap_uploads("folder", timedelta(seconds=-10))
            if reaped:
                break
            time.sleep(0.05)
        if not reaped:
            assert writer.close().size == 40 * MIB
            return
        assert all(path.startswith("folder/") for path in reaped)
        with pytest.raises(StoreError):
            writer.close()
        assert list(store.list("")) == []

    # Copies and deletes
