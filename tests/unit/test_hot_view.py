"""The view through which committed files are read from copies, over a cache that serves whatever pieces it likes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalayer.errors import NotFoundError, StoreUnavailableError, VerificationError
from datalayer.stores import hot
from datalayer.stores.base import Expected, Tier
from datalayer.stores.counting import CountingStore, Receipt
from datalayer.stores.hot import HotStore
from datalayer.stores.memory import MemoryStore

DATA = bytes(range(256)) * 20


class Pieces(HotStore):
    """Serves committed files in pieces of a size, and notes what it was asked for."""

    def __init__(self, size: int = 7) -> None:
        self.receipt = Receipt()
        super().__init__(CountingStore(MemoryStore(), self.receipt), self.receipt)
        self.size = size
        self.asked: list[tuple[int, int]] = []

    def pieces(self, path: str, expected: Expected, start: int, end: int) -> Iterator[bytes]:
        self.asked.append((start, end))
        return (DATA[at : min(at + self.size, end)] for at in range(start, end, self.size))

    def resident(self, path: str, length: int) -> int:
        return 0

    def evict(self, paths: Iterable[str]) -> None: ...
    def pin(self, paths: Iterable[str], until: datetime) -> None: ...
    def unpin(self, paths: Iterable[str]) -> None: ...


def view(store: Pieces) -> Any:
    return store.verifying({"a/f": Expected(len(DATA), None, None)}.get)


def test_what_is_not_committed_never_touches_the_copies() -> None:
    store = Pieces()
    store.put("a/other", b"1")
    seen = view(store)
    assert seen.get("a/other")[0] == b"1"
    assert seen.get_range("a/other", 0, 1) == b"1"
    assert seen.open("a/other").read() == b"1"
    assert list(seen.stream("a/other")) == [b"1"]
    assert seen.head("a/other").size == 1
    with pytest.raises(NotFoundError):
        seen.get("a/none")
    assert store.get("a/other")[0] == b"1"
    assert store.asked == []


def test_committed_files_come_in_pieces_and_are_counted() -> None:
    store = Pieces()
    seen = view(store)
    assert seen.tier is Tier.HOT
    assert seen.head("a/f").size == len(DATA)
    assert seen.get("a/f")[0] == DATA
    assert seen.get_range("a/f", 100, 50) == DATA[100:150]
    assert b"".join(seen.stream("a/f", chunk_size=3)) == DATA
    assert max(map(len, seen.stream("a/f", chunk_size=3))) == 3
    with pytest.raises(VerificationError, match="ends at byte"):
        seen.get_range("a/f", len(DATA) - 1, 2)
    receipt = store.receipt.by_tier()
    assert receipt["hot"].bytes_read == 3 * len(DATA) + 50
    assert "cold" not in receipt


steps = st.lists(
    st.one_of(
        st.tuples(st.just("seek"), st.integers(0, len(DATA) + 50)), st.tuples(st.just("read"), st.integers(0, 3000))
    ),
    max_size=30,
)


@given(steps, st.integers(1, 600))
def test_a_file_reads_as_any_other_wherever_it_is_read_from(steps: list[tuple[str, int]], size: int) -> None:
    store = Pieces(size)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_FIRST_WINDOW", 64), ("_LARGEST_WINDOW", 512), ("_BUFFER", 32)):
            patch.setattr(hot, name, value)
        with view(store).open("a/f") as file, io.BytesIO(DATA) as plain:
            for step, value in steps:
                if step == "seek":
                    assert file.seek(value) == plain.seek(value)
                else:
                    assert file.read(value) == plain.read(value)
                assert file.tell() == plain.tell()
    assert all(0 <= start < end <= len(DATA) for start, end in store.asked)


def test_reading_on_asks_for_ever_more_and_jumping_for_little() -> None:
    store = Pieces(4096)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_FIRST_WINDOW", 64), ("_LARGEST_WINDOW", 512), ("_BUFFER", 32)):
            patch.setattr(hot, name, value)
        file = view(store).open("a/f")
        for _ in range(60):
            file.read(32)
        sizes = [end - start for start, end in store.asked]
        assert sizes == sorted(sizes)
        assert sizes[-1] == 512
        store.asked.clear()
        file.seek(4000)
        file.read(8)
        assert store.asked == [(4000, 4032)]
    receipt = store.receipt.by_tier()["hot"]
    assert receipt.calls == {"open": 1}
    assert receipt.bytes_read == 60 * 32 + 32


def test_a_file_that_failed_once_is_read_on_from_where_it_stands() -> None:
    class Failing(Pieces):
        left = 0

        def pieces(self, path: str, expected: Expected, start: int, end: int) -> Iterator[bytes]:
            for piece in super().pieces(path, expected, start, end):
                if self.left == 0:
                    self.left = 5
                    raise StoreUnavailableError("it broke off")
                self.left -= 1
                yield piece

    for buffered in (True, False):
        opened = view(Failing()).open("a/f")
        file = opened if buffered else opened.raw
        got, failures = b"", 0
        while len(got) < len(DATA):
            try:
                got += file.read(25)
            except StoreUnavailableError:
                failures += 1
        assert got == DATA
        assert failures
