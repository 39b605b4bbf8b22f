"""Writing through a ``NodeCache``: what is written is there to be read, and the write never depends on it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalayer.errors import StoreUnavailableError
from datalayer.stores.base import Tier
from datalayer.stores.memory import MemoryStore
from datalayer.testing import Fault, FaultyStore
from tests.behaviour.copies import MIB, PAGE, Copies, expected_of, some_bytes

SIZE = 20 * MIB + 777
DATA = some_bytes(SIZE)


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path / "cache")


def places(copies: Copies) -> list[Path]:
    found = [path for some in (copies.folder / "objects").glob("*") for path in some.iterdir()]
    return found + list((copies.folder / "staging").glob("*"))


def write(copies: Copies, path: str, data: bytes, piece: int) -> None:
    with copies.cache.through.writer(path) as writer:
        for start in range(0, len(data), piece):
            assert writer.write(memoryview(data)[start : start + piece]) == len(data[start : start + piece])
    copies.files[path] = expected_of(data)


@pytest.mark.parametrize(
    ("size", "piece"),
    [*itertools.product([0, 1, PAGE, PAGE + 1, 4 * MIB, SIZE], [MIB, SIZE]), (0, 1000), (PAGE + 1, 1000)],
)
def test_what_is_written_is_read_without_asking_the_cold_store(copies: Copies, size: int, piece: int) -> None:
    write(copies, "t/f", DATA[:size], piece)
    assert copies.cold.get("t/f")[0] == DATA[:size]
    reader = copies.again()
    local = reader.view.local_path("t/f")
    assert local is not None
    assert local.read_bytes() == DATA[:size]
    assert reader.view.get("t/f")[0] == DATA[:size]
    assert b"".join(reader.view.stream("t/f")) == DATA[:size]
    assert reader.fetched == 0
    assert reader.hot.misses == {}
    assert reader.resident("t/f") == size
    reader.cache.evict(["t/f"])
    assert copies.cache.usage().held == 0


@given(st.lists(st.integers(0, 3 * PAGE), max_size=12))
def test_however_it_is_written(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    copies = Copies(tmp_path_factory.mktemp("cache"))
    data = DATA[: sum(sizes)]
    with copies.cache.through.writer("f") as writer:
        at = 0
        for size in sizes:
            writer.write(bytearray(data[at : at + size]))
            at += size
    copies.files["f"] = expected_of(data)
    assert copies.view.get("f")[0] == data
    assert copies.fetched == 0


def test_it_is_the_cold_store_in_all_else(copies: Copies) -> None:
    through = copies.cache.through
    assert through.tier is Tier.COLD
    assert through is copies.cache.through
    assert through.local_path("a") is None
    through.put("a", b"small")
    through.put_exclusive("b", b"never cached")
    copies.files |= {"a": expected_of(b"small"), "b": expected_of(b"never cached")}
    assert copies.view.get("a")[0] == through.get("a")[0] == b"small"
    assert copies.resident("a") == 5
    assert copies.resident("b") == 0
    assert sorted(info.path for info in through.list("")) == ["a", "b"]


def test_a_file_written_again_is_the_new_one(copies: Copies) -> None:
    for data in (DATA[:MIB], DATA[5:MIB], DATA[: 2 * MIB]):
        write(copies, "f", data, MIB)
        assert copies.view.get("f")[0] == data
    copies.cache.through.put("f", b"put")
    copies.files["f"] = expected_of(b"put")
    assert copies.view.get("f")[0] == b"put"
    assert copies.fetched == 0
    assert copies.cache.usage().held == 4096 * 3


def test_what_is_deleted_or_copied_over_is_not_held(copies: Copies) -> None:
    write(copies, "a", DATA[:MIB], MIB)
    write(copies, "b", DATA[:1000], MIB)
    copies.cache.through.copy("a", "b")
    assert copies.cache.resident("b", 1000) == 0
    copies.cache.through.delete(["a", "none"])
    assert copies.resident("a") == 0
    assert places(copies) == []
    assert copies.cache.usage().held == 0


def test_what_is_discarded_or_forgotten_leaves_nothing(copies: Copies) -> None:
    writer = copies.cache.through.writer("a")
    writer.write(DATA)
    writer.discard()
    with pytest.raises(RuntimeError), copies.cache.through.writer("b") as writer:
        writer.write(DATA)
        raise RuntimeError
    forgotten = copies.cache.through.writer("c")
    forgotten.write(DATA)
    assert len(places(copies)) == 1
    del forgotten
    assert places(copies) == []
    assert copies.cache.usage().held == 0


@pytest.mark.parametrize("verb", ["write", "close", "put"])
def test_what_the_cold_store_did_not_take_is_not_held(tmp_path: Path, verb: str) -> None:
    fault = Fault(verbs=frozenset({verb}), at=2 if verb == "write" else 1, before=StoreUnavailableError("scripted"))
    copies = Copies(tmp_path / "cache", cold=FaultyStore(MemoryStore(), fault))
    with pytest.raises(StoreUnavailableError):
        if verb == "put":
            copies.cache.through.put("f", DATA)
        else:
            write(copies, "f", DATA, 5 * MIB)
    assert places(copies) == []
    assert copies.cache.resident("f", SIZE) == 0


def test_a_file_for_which_there_is_no_room_is_written_all_the_same(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "cache", budget=10 * MIB)
    write(copies, "large", DATA, MIB)
    assert copies.cold.get("large")[0] == DATA
    assert places(copies) == []
    assert copies.cache.usage().held == 0
    write(copies, "small", DATA[:MIB], MIB)
    assert copies.resident("small") == MIB


def test_what_is_written_pushes_out_what_was_not_used_for_longest(tmp_path: Path) -> None:
    copies = Copies(tmp_path / "cache", budget=10 * MIB)
    for number in range(20):
        write(copies, f"f{number}", DATA[number:][:MIB], MIB)
    there = [number for number in range(20) if copies.resident(f"f{number}")]
    assert 8 <= len(there) <= 9
    assert there[-1] == 19
    assert copies.cache.usage().held <= copies.budget


def test_a_damaged_copy_of_what_was_written_is_fetched_again(copies: Copies) -> None:
    write(copies, "f", DATA, MIB)
    copies.change("f", lambda file: os.pwrite(file, bytes(10), 5 * MIB))
    assert copies.view.get("f")[0] == DATA
    assert copies.hot.misses == {"corrupt": 1}
