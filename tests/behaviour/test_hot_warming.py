"""`warm`: what it fetches, and what it does not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from datalayer import (
    Config,
    ConfigError,
    DataLayer,
    InvalidKeyError,
    Location,
    NotFoundError,
    NotPublishedError,
    NotSupportedError,
    OutputKey,
    StoreFullError,
    StoreUnavailableError,
    TaskKey,
    Tier,
    VerificationError,
)
from datalayer.commit.reference import pin_location
from datalayer.handoff.local_copy import LocalOutput
from datalayer.hot import copying
from datalayer.hot.columns import column_spans
from datalayer.resolve.parquet import merged
from datalayer.stores.base import Store
from datalayer.stores.memory import MemoryStore
from datalayer.stores.volume import VolumeStore
from tests.behaviour.conftest import volume_layer
from tests.behaviour.hot import BLOCK, hot_layer, memory_hot

RUN = "20130101T000000Z"
KEY = TaskKey("team", "dag", "extract", RUN)


def key(task: str, team: str = "team") -> TaskKey:
    return TaskKey(team, "dag", task, RUN)


def publish(layer: DataLayer, where: TaskKey, files: dict[str, int], output: str = "default") -> None:
    """Publish files of so many bytes each."""
    with layer.publish(where) as attempt:
        for name, size in files.items():
            attempt.output(output).put(name, bytes(index % 251 for index in range(size)))


@pytest.fixture
def layer() -> DataLayer:
    return hot_layer()


def test_an_output_is_warmed_once(layer: DataLayer) -> None:
    publish(layer, KEY, {"a": 5500, "d/b": 10, "empty": 0})
    first = layer.hot.warm(KEY)
    assert (first.files, first.bytes, first.fetched, first.hot) == (3, 5510, 5510, 0)
    assert (first.evicted, first.left_out) == ((), ())
    asked = memory_hot(layer).fetches()
    assert asked == 7
    again = layer.hot.warm(KEY)
    assert (again.files, again.bytes, again.fetched, again.hot) == (3, 5510, 0, 5510)
    assert memory_hot(layer).fetches() == asked
    assert layer.resolve(KEY)["default"].read_bytes("a")[:3] == b"\x00\x01\x02"
    assert memory_hot(layer).fetches() == asked


@pytest.mark.parametrize("form", ["key", "output key", "resolution", "output"])
def test_everything_that_stands_for_an_output_can_be_warmed(layer: DataLayer, form: str) -> None:
    with layer.publish(KEY) as attempt:
        attempt.output("default").put("a", b"x" * 30)
        attempt.output("second").put("b", b"y" * 12)
    resolution = layer.resolve(KEY)
    what: Any = {"key": KEY, "output key": OutputKey(KEY), "resolution": resolution, "output": resolution["default"]}[
        form
    ]
    assert layer.hot.warm(what).bytes == (30 if "output" in form else 42)


def test_a_local_copy_of_an_output_stands_for_it(layer: DataLayer, tmp_path: Path) -> None:
    publish(layer, KEY, {"a": 100})
    (tmp_path / "a").write_bytes(bytes(100))
    local = LocalOutput(layer.resolve(KEY), "default", tmp_path)
    assert layer.hot.warm(local).fetched == 100
    assert layer.hot.status(local).hot == 100
    assert layer.hot.evict(local) == (f"{KEY}@1/default",)
    assert layer.hot.status(KEY).hot == 0


def test_what_is_nothing_of_the_kind(layer: DataLayer) -> None:
    with pytest.raises(InvalidKeyError, match="'team/dag/extract' is nothing that can be hot"):
        layer.hot.warm("team/dag/extract")  # type: ignore[arg-type]  # the wrong type is what is tested
    with pytest.raises(NotPublishedError):
        layer.hot.warm(KEY)


def test_some_files_alone(layer: DataLayer) -> None:
    publish(layer, KEY, {"a": 100, "d/b": 10, "d/c": 20, "da": 1})
    assert layer.hot.warm(KEY, files="a").bytes == 100
    for _ in range(2):
        assert layer.hot.warm(KEY, files=["d", "d/b"]).bytes == 30
    assert layer.resolve(KEY)["default"].files
    with pytest.raises(NotFoundError, match="has no file 'e'; it has a, d/b"):
        layer.hot.warm(KEY, files=["e"])
    status = layer.hot.status(KEY).outputs[0]
    assert (status.bytes, status.hot) == (131, 130)


def test_a_part_of_a_file_that_is_a_copy_is_not_fetched_again(layer: DataLayer) -> None:
    publish(layer, KEY, {"a": 5 * BLOCK})
    with layer.resolve(KEY)["default"].open("a") as file:
        file.seek(2 * BLOCK)
        assert len(file.read(10)) == 10
    held = memory_hot(layer).resident(f"{KEY.path}/attempts/1/default/a", 5 * BLOCK)
    assert 0 < held <= 5 * BLOCK
    found = layer.hot.warm(KEY)
    assert (found.fetched, found.hot) == (5 * BLOCK - held, held)
    assert memory_hot(layer).fetches() == 5


def test_columns_alone(layer: DataLayer) -> None:
    count = 30_000
    table = pyarrow.table(
        {
            "wide": pyarrow.array([f"{n * 7919 % 1000003:08d}{n:08d}" for n in range(count)]),
            "id": list(range(count)),
            "nested": [{"x": n, "y": f"{n:030d}"} for n in range(count)],
        }
    )
    with layer.publish(KEY) as attempt, attempt.output().open("t.parquet") as file:
        pyarrow.parquet.write_table(table, file, row_group_size=10_000, use_dictionary=["id"], compression="none")
    output = layer.resolve(KEY)["default"]
    spans = column_spans(output, "t.parquet", ["id", "nested.x"])
    asked = sum(end - start for start, end in spans)
    footer = pyarrow.parquet.read_metadata(output.open("t.parquet"))
    for group in range(footer.num_row_groups):
        chunk = footer.row_group(group).column(1)
        assert chunk.dictionary_page_offset < chunk.data_page_offset
        first = chunk.dictionary_page_offset
        assert any(start <= first and first + chunk.total_compressed_size <= end for start, end in spans)
    memory_hot(layer).evict([output.store_path("t.parquet")[1]])
    found = layer.hot.warm(KEY, columns=["id", "nested.x"])
    assert (found.files, found.bytes) == (1, asked)
    # Whole blocks; and pyarrow reads some of what is before a footer with it.
    assert asked <= found.fetched < asked + 2 * BLOCK * len(spans) + (256 << 10) < output.output.bytes
    before = memory_hot(layer).fetches()
    store, path = output.store_path("t.parquet")
    for start, end in spans:
        assert len(store.get_range(path, start, end - start)) == end - start
    assert layer.hot.warm(KEY, columns=["id", "nested.x"]).fetched == 0
    assert memory_hot(layer).fetches() == before
    assert layer.hot.warm(KEY, columns="nested").bytes > layer.hot.warm(KEY, columns="nested.x").bytes
    whole = layer.hot.warm(KEY)
    assert whole.hot > found.fetched
    again = layer.hot.warm(KEY, columns=["id", "nested.x"])
    assert (again.bytes, again.hot, again.fetched) == (asked, asked, 0)


def test_columns_of_files_that_hold_data(layer: DataLayer) -> None:
    with layer.publish(KEY) as attempt:
        attempt.output().write_table(pyarrow.table({"a": [1], "b": ["x"]}))
        attempt.output().put("_SUCCESS", b"")
    assert layer.hot.warm(KEY, columns="a").files == 1
    memory_hot(layer).evict([f"{KEY.path}/attempts/1/default/part-0.parquet"])
    with pytest.raises(NotFoundError, match="no column 'c'; it has a, b"):
        layer.hot.warm(KEY, columns=["a", "c"])
    with pytest.raises(NotFoundError, match="'_SUCCESS' holds no data"):
        layer.hot.warm(KEY, files="_SUCCESS", columns="a")
    publish(layer, key("csv"), {"a.csv": 100})
    with pytest.raises(NotSupportedError, match="is no Parquet file"):
        layer.hot.warm(key("csv"), columns="a")


def test_spans_are_merged() -> None:
    assert merged([(5, 7), (0, 2), (2, 3), (6, 9), (9, 9)]) == [(0, 3), (5, 9)]


def test_many_are_read_side_by_side_and_no_more(layer: DataLayer) -> None:
    publish(layer, KEY, {f"f{number}": 3000 for number in range(30)})
    hot = memory_hot(layer)
    barrier = threading.Barrier(3)
    real = hot.cold.get_range

    def slow(path: str, start: int, length: int) -> bytes:
        if start == 0:
            barrier.wait(20)
        return real(path, start, length)

    hot.cold.get_range = slow  # type: ignore[method-assign]  # a stand-in for this object's
    layer.hot.warm(KEY, parallel=3)
    assert hot.read_at_once == 3


def test_a_large_file_is_read_in_parts(layer: DataLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_PART", 2 * BLOCK)
    publish(layer, KEY, {"a": 9 * BLOCK})
    hot = memory_hot(layer)
    barrier = threading.Barrier(5)
    real = hot.cold.get_range

    def slow(path: str, start: int, length: int) -> bytes:
        if start % (2 * BLOCK) == 0:
            barrier.wait(20)
        return real(path, start, length)

    hot.cold.get_range = slow  # type: ignore[method-assign]  # a stand-in for this object's
    assert layer.hot.warm(KEY, parallel=5).fetched == 9 * BLOCK
    assert memory_hot(layer).fetches() == 9


def test_progress_is_told(layer: DataLayer) -> None:
    publish(layer, KEY, {"a": 3 * BLOCK, "b": 10})
    layer.hot.warm(KEY, files="b")
    told: list[tuple[int, int]] = []
    layer.hot.warm(KEY, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (10, 3 * BLOCK + 10)
    assert told[-1] == (3 * BLOCK + 10, 3 * BLOCK + 10)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_hot_tier_that_is_down_is_an_error_here(layer: DataLayer) -> None:
    publish(layer, KEY, {"a": 100})
    memory_hot(layer).failing = "connection refused"
    with pytest.raises(StoreUnavailableError, match=r"does not serve: connection refused.*cold tier's bytes") as caught:
        layer.hot.warm(KEY)
    assert caught.value.retryable
    assert layer.resolve(KEY)["default"].read_bytes("a")


def test_a_hot_tier_that_keeps_nothing_is_an_error_that_says_why(
    layer: DataLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_PATIENCE", 0.2)
    publish(layer, KEY, {"a": 100, "b": 50})
    memory_hot(layer).full = True
    with pytest.raises(
        StoreUnavailableError, match=r"file 'a' and 1 more: .* does not hold 150 of the bytes .*\(the cache is full\)"
    ):
        layer.hot.warm(KEY)


def test_damage_on_the_cold_tier_is_an_error(layer: DataLayer) -> None:
    publish(layer, KEY, {"a": 100})
    layer.data.delete([f"{KEY.path}/attempts/1/default/a"])
    with pytest.raises(NotFoundError):
        layer.hot.warm(KEY)
    layer.data.put(f"{KEY.path}/attempts/1/default/a", b"short")
    with pytest.raises(VerificationError):
        layer.hot.warm(KEY)


def test_a_reference_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "f").write_bytes(b"1")
    layer = hot_layer(references=[{"prefix": f"file://{tmp_path}/lake"}])
    layer.reference(KEY, f"file://{tmp_path}/lake")
    verbs: list[Callable[[], object]] = [
        lambda: layer.hot.warm(KEY),
        lambda: layer.hot.pin(KEY, "me"),
        lambda: layer.hot.evict(KEY),
    ]
    for verb in verbs:
        with pytest.raises(NotSupportedError, match="it is a reference"):
            verb()


def test_an_output_on_another_tier() -> None:
    stores: dict[Tier, Store] = {Tier.COLD: MemoryStore(), Tier.SHARED: MemoryStore(tier=Tier.SHARED)}
    publish(DataLayer(Config(design="shared-fs"), stores=stores), KEY, {"a": 100})
    with pytest.raises(NotSupportedError, match="the tier shared, which has no copies"):
        hot_layer(stores=stores).hot.warm(KEY)


def test_a_reference_beside_an_output_that_is_warmed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    layer = hot_layer()
    location = Location.parse(f"file://{tmp_path}")
    entries = pin_location(VolumeStore(location, tier=Tier.COLD), location)
    with layer.publish(KEY) as attempt:
        attempt.output("own").put("a", b"1" * 10)
        attempt.refer("other", "cold", location, entries)
    layer = hot_layer(stores={Tier.COLD: layer.home}, references=[{"prefix": f"file://{tmp_path}"}])
    found = layer.hot.warm(KEY)
    assert (found.files, found.bytes) == (1, 10)
    assert [(one.output, one.file) for one in found.left_out] == [(f"{KEY}@1/other", None)]
    assert "a reference" in found.left_out[0].reason


def test_a_design_without_a_hot_tier(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="design: shared-fs has no hot tier; use the design hot-cold"):
        _ = volume_layer(tmp_path / "volume").hot


# The budget -----------------------------------------------------------------------------------------------------------------------------


def warm_ones(layer: DataLayer, *tasks: str) -> None:
    for task in tasks:
        publish(layer, key(task), {"f": 100})
        layer.hot.warm(key(task))


def hot_bytes(layer: DataLayer) -> dict[str, int]:
    found: dict[str, int] = {}
    for path, number in memory_hot(layer).blocks:
        found[path.split("/")[2]] = found.get(path.split("/")[2], 0) + len(memory_hot(layer).blocks[path, number])
    return found


def test_past_the_budget_the_coldest_outputs_go() -> None:
    layer = hot_layer(budget=350)
    warm_ones(layer, "a", "b", "c")
    layer.hot.warm(key("a"))  # Used again, so that b is the coldest.
    publish(layer, key("d"), {"f": 120})
    found = layer.hot.warm(key("d"))
    assert found.evicted == (f"{key('b')}@1/default",)
    assert hot_bytes(layer) == {"a": 100, "c": 100, "d": 120}
    publish(layer, key("e"), {"f": 240})
    assert layer.hot.warm(key("e")).evicted == tuple(f"{key(task)}@1/default" for task in ("c", "a", "d"))
    assert hot_bytes(layer) == {"e": 240}
    assert [one.address for one in layer.hot.status().outputs] == [f"{key('e')}@1/default"]


def test_what_others_have_read_into_it_is_not_ours_to_evict() -> None:
    layer = hot_layer(budget=250)
    publish(layer, key("read"), {"f": 200})
    layer.resolve(key("read"))["default"].read_bytes("f")
    warm_ones(layer, "a", "b", "c")
    assert hot_bytes(layer) == {"read": 200, "b": 100, "c": 100}


def test_an_output_larger_than_the_budget_is_refused_before_bytes_move() -> None:
    layer = hot_layer(budget=250)
    warm_ones(layer, "a")
    publish(layer, key("large"), {"f": 200, "g": 51})
    asked = memory_hot(layer).fetches()
    with pytest.raises(StoreFullError, match=r"large.*: 251 bytes are more than hot.budget, which is 250"):
        layer.hot.warm(key("large"))
    with pytest.raises(StoreFullError):
        layer.hot.pin(key("large"), "me")
    assert (memory_hot(layer).fetches(), hot_bytes(layer)) == (asked, {"a": 100})
    assert layer.hot.warm(key("large"), files="f").evicted == (f"{key('a')}@1/default",)


def test_where_the_rest_is_pinned_what_fits_is_warmed_and_the_rest_named() -> None:
    layer = hot_layer(budget=250)
    warm_ones(layer, "a", "b")
    layer.hot.pin(key("a"), "me")
    publish(layer, key("c"), {"1": 60, "2": 120, "3": 90})
    with pytest.raises(StoreFullError):
        layer.hot.warm(key("c"))
    publish(layer, key("c"), {"1": 60, "2": 120, "3": 50})
    found = layer.hot.warm(key("c"))
    assert (found.files, found.bytes, found.evicted) == (2, 110, (f"{key('b')}@1/default",))
    assert [(one.output, one.file, one.bytes) for one in found.left_out] == [(f"{key('c')}@2/default", "2", 120)]
    assert "the rest is pinned" in found.left_out[0].reason
    assert hot_bytes(layer) == {"a": 100, "c": 110}
    # Nothing goes for what could not come anyway.
    layer.hot.pin(key("c"), "me")
    publish(layer, key("d"), {"f": 200})
    assert layer.hot.warm(key("d")).left_out
    assert hot_bytes(layer) == {"a": 100, "c": 110}


def test_warming_again_needs_no_room_twice() -> None:
    layer = hot_layer(budget=300)
    publish(layer, key("a"), {"1": 100, "2": 150})
    for files in ("1", "2", None, "1"):
        found = layer.hot.warm(key("a"), files=files)
        assert (found.left_out, found.evicted) == ((), ())
    warm_ones(layer, "b")
    assert hot_bytes(layer) == {"b": 100}


def test_columns_count_what_they_brought() -> None:
    layer = hot_layer(budget=90_000)
    with layer.publish(KEY) as attempt:
        attempt.output().write_table(
            pyarrow.table({"a": list(range(1000)), "b": [os.urandom(100) for _ in range(1000)]})
        )
    size = layer.resolve(KEY)["default"].output.bytes
    for _ in range(5):
        assert layer.hot.warm(KEY, columns="a").left_out == ()
    held = sum(hot_bytes(layer).values())
    assert layer.hot.status().hot == held < size


def test_what_another_warm_has_make_room_meanwhile_is_left_out() -> None:
    layer = hot_layer(budget=250)
    publish(layer, key("a"), {"f": 200})
    publish(layer, key("b"), {"f": 200})
    evicted: list[str] = []

    def other(done: int, total: int) -> None:
        if done == total and not evicted:
            evicted.extend(layer.hot.warm(key("b")).evicted)

    found = layer.hot.warm(key("a"), progress=other)
    assert evicted == [f"{key('a')}@1/default"]
    assert (found.files, found.bytes, found.fetched) == (0, 0, 0)
    assert [(one.output, one.file, one.bytes) for one in found.left_out] == [(f"{key('a')}@1/default", "f", 200)]
    assert "what others warm at the same time" in found.left_out[0].reason
    assert hot_bytes(layer) == {"b": 200}
    assert layer.hot.status().hot == 200


def test_many_at_once_and_afterwards_the_budget_is_kept() -> None:
    layer = hot_layer(budget=500)
    for number in range(12):
        publish(layer, key(f"t{number}"), {"f": 100})

    def work(number: int) -> None:
        layer.hot.warm(key(f"t{number % 12}"))
        layer.hot.pin(key(f"t{number % 12}"), f"holder {number}")
        layer.hot.status()
        layer.hot.unpin(key(f"t{number % 12}"), f"holder {number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(48)))
    assert memory_hot(layer).pinned == {}
    publish(layer, key("last"), {"f": 100})
    layer.hot.warm(key("last"))
    status = layer.hot.status()
    assert status.hot == sum(hot_bytes(layer).values()) <= 500
