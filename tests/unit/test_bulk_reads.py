"""``read_many`` and ``read_bytes``: many files side by side, in order, verified, with a bound."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from datalayer import Config, DataLayer, NotFoundError, TaskKey, Tier, VerificationError
from datalayer.resolve.bulk import side_by_side
from datalayer.resolve.output import ResolvedOutput
from datalayer.stores.memory import MemoryStore

KEY = TaskKey("bench", "reads", "many", "20130101T000000Z")
FILES = {f"part-{number}": bytes([number]) * number for number in range(50)}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def output(store: MemoryStore) -> ResolvedOutput:
    layer = DataLayer(Config(), stores={Tier.COLD: store})
    with layer.publish(KEY) as attempt:
        for name, data in FILES.items():
            attempt.output().put(name, data)
    return layer.resolve(KEY)["default"]


def test_all_files_come_with_their_names_in_the_manifests_order(output: ResolvedOutput) -> None:
    assert list(output.read_many()) == [(name, FILES[name]) for name in sorted(FILES)]


def test_chosen_files_come_in_the_order_asked_for(output: ResolvedOutput) -> None:
    wanted = ["part-9", "part-1", "part-30"]
    assert [name for name, _ in output.read_many(wanted, parallel=2)] == wanted


def test_a_changed_file_is_found_at_its_turn(output: ResolvedOutput, store: MemoryStore) -> None:
    _, path = output.store_path("part-7")
    store.put(path, b"\x08" * 7)
    found = output.read_many(["part-6", "part-7"])
    assert next(found) == ("part-6", FILES["part-6"])
    with pytest.raises(VerificationError, match="part-7"):
        next(found)
    with pytest.raises(VerificationError, match="part-7"):
        output.read_bytes("part-7")


def test_a_file_that_is_not_there_is_named(output: ResolvedOutput) -> None:
    with pytest.raises(NotFoundError, match="part-99"):
        list(output.read_many(["part-99"]))


def test_small_files_are_as_many_at_once_as_fill_the_line_to_s3(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = threading.Barrier(192)
    layer = DataLayer(Config(), stores={Tier.COLD: store})
    with layer.publish(KEY) as attempt:
        for number in range(192):
            attempt.output().put(f"{number:03}", b"1")
    get = store.get

    def slow(path: str) -> Any:
        if path.endswith(tuple("0123456789")):
            # Broken, and so raised, if fewer come.
            at_once.wait(20)
        return get(path)

    output = layer.resolve(KEY)["default"]
    assert len(output.files) == 192
    monkeypatch.setattr(store, "get", slow)
    assert len(list(output.read_many())) == 192


@pytest.mark.parametrize("parallel", [1, 3, 8])
def test_no_more_are_begun_than_asked_for(parallel: int) -> None:
    lock = threading.Lock()
    begun = 0

    def work(number: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        return number

    answers = side_by_side(work, range(40), parallel)
    for taken in range(1, 41):
        assert next(answers) == taken - 1
        with lock:
            # Those yielded, and the window after them.
            assert begun <= taken + parallel
    assert begun == 40
    with pytest.raises(StopIteration):
        next(answers)


def test_a_caller_who_stops_early_begins_no_more() -> None:
    begun: list[int] = []
    answers = side_by_side(begun.append, range(1000), 4)
    next(answers)
    answers.close()  # type: ignore[attr-defined]  # a generator
    for thread in threading.enumerate():
        if thread.name.startswith("datalayer-bulk"):
            thread.join(10)
    assert len(begun) <= 5


def test_less_than_one_at_a_time_is_refused(output: ResolvedOutput) -> None:
    with pytest.raises(ValueError, match="parallel=0"):
        output.read_many(parallel=0)
