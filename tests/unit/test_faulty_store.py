"""Faults strike the call they are scripted for, before it is applied or after."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from datalayer.errors import NotFoundError, StoreUnavailableError
from datalayer.stores.memory import MemoryStore
from datalayer.testing import Fault, FaultyStore, stale_handle
from datalayer.testing.faults import ALL, READS, WRITES

BROKEN = StoreUnavailableError("broken")


def test_a_fault_before_a_call_keeps_it_from_being_applied() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, Fault(WRITES, before=BROKEN))
    with pytest.raises(StoreUnavailableError, match="broken"):
        store.put("a", b"1")
    assert list(inner.list("")) == []
    store.put("a", b"1")


def test_a_fault_after_a_call_loses_its_answer() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, Fault(frozenset({"put_exclusive"}), after=BROKEN))
    with pytest.raises(StoreUnavailableError):
        store.put_exclusive("a", b"1")
    assert inner.get("a")[0] == b"1"


def test_calls_are_counted_over_the_verbs_and_paths_of_a_fault() -> None:
    store = FaultyStore(MemoryStore(), Fault(frozenset({"put", "head"}), at=3, times=2, path="a", before=BROKEN))
    store.put("a", b"1")
    store.put("b", b"1")
    store.get("a")
    store.head("a")
    with pytest.raises(StoreUnavailableError):
        store.put("a", b"2")
    with pytest.raises(StoreUnavailableError):
        store.head("a")
    assert store.get("a")[0] == b"1"
    assert store.put("a", b"3").size == 1
    assert [verb for verb, _ in store.calls] == ["put", "put", "get", "head", "put", "head", "get", "put"]


def test_a_fault_may_last() -> None:
    store = FaultyStore(MemoryStore(), Fault(READS, at=2, times=-1, before=BROKEN))
    with pytest.raises(NotFoundError):
        store.head("a")
    for _ in range(5):
        with pytest.raises(StoreUnavailableError):
            store.list("")
    store.put("a", b"1")


def test_writers_are_struck_too() -> None:
    inner = MemoryStore()
    for verb in ("writer", "write", "close"):
        store = FaultyStore(inner, Fault(frozenset({verb}), before=BROKEN))
        with pytest.raises(StoreUnavailableError), store.writer("a") as writer:
            writer.write(b"1")
        assert list(inner.list("")) == []


def test_every_call_is_one_of_the_verbs() -> None:
    inner = MemoryStore()
    inner.put("a", b"1")
    version = inner.head("a").version
    store = FaultyStore(inner)
    calls: list[Callable[[], object]] = [
        lambda: store.head("a"),
        lambda: store.get("a"),
        lambda: store.get_range("a", 0, 1),
        lambda: store.open("a"),
        lambda: store.stream("a"),
        lambda: store.stream_range("a", 0, 1),
        lambda: store.put("b", b""),
        lambda: store.put_exclusive("c", b""),
        lambda: store.compare_and_put("a", b"", version),
        lambda: store.writer("d").close(),
        lambda: store.copy("a", "e"),
        lambda: store.delete(["b", "c"]),
        lambda: store.list(""),
        lambda: store.children(""),
    ]
    for call in calls:
        call()
    assert {verb for verb, _ in store.calls} == ALL - {"write"}
    assert ("delete", "b c") in store.calls


def test_a_stale_handle_is_an_unavailable_store() -> None:
    error = stale_handle("here")
    assert error.retryable
    assert isinstance(error.__cause__, OSError)


def test_the_process_can_be_killed_at_a_call() -> None:
    code = """
from datalayer.stores.memory import MemoryStore
from datalayer.testing.faults import WRITES, Fault, FaultyStore, kill_this_process
store = FaultyStore(MemoryStore(), Fault(WRITES, at=2, before=kill_this_process))
store.put("a", b"1")
print("one", flush=True)
try:
    store.put("b", b"2")
finally:
    print("never", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-9, "one\n")
