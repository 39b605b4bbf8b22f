"""Tests of what only some stores can do. A suite inherits from those that fit its store, beside ``StoreTests``, which checks the choice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

import pytest

from datalayer.errors import NotSupportedError, PreconditionFailedError
from datalayer.testing.races import run_races

if TYPE_CHECKING:
    from datalayer.stores.base import ObjectInfo, Store


def facts(info: ObjectInfo) -> tuple[str, int, str]:
    """All of an info but the time: what was just written may have this machine's, what is looked up has the server's."""
    return info.path, info.size, info.version


class CompareAndPutTests:
    """For a store with compare-and-put."""

    def test_a_compare_and_put_replaces_the_version_it_names(self, store: Store) -> None:
        first = store.put_exclusive("a", b"first")
        second = store.compare_and_put("a", b"second", first.version)
        assert facts(second) == facts(store.head("a"))
        with pytest.raises(PreconditionFailedError):
            store.compare_and_put("a", b"third", first.version)
        assert store.get("a")[0] == b"second"
        assert store.compare_and_put("a", b"third", store.get("a")[1].version).size == 5

    def test_a_compare_and_put_of_nothing_fails(self, store: Store) -> None:
        version = store.put("a", b"1").version
        store.delete(["a"])
        with pytest.raises(PreconditionFailedError):
            store.compare_and_put("a", b"2", version)
        assert list(store.list("")) == []


class ExclusivePutOnlyTests:
    """For a store without compare-and-put."""

    def test_a_store_without_compare_and_put_says_so(self, store: Store) -> None:
        version = store.put("a", b"1").version
        with pytest.raises(NotSupportedError):
            store.compare_and_put("a", b"2", version)
        assert store.get("a")[0] == b"1"


class ConcurrentWriterTests:
    """For a store that may be a home. One that promises nothing for concurrent writers must not be."""

    races: ClassVar[int] = 250
    """Races of each kind that one test runs."""
    race_writers: ClassVar[int] = 8
    race_processes: ClassVar[int] = 1
    """More than one for a store that pickles."""

    def test_of_many_writers_one_wins(self, store: Store) -> None:
        races = run_races(store, self.races, self.race_writers, processes=self.race_processes)
        assert races.wrong == []
        assert races.winners["create"] == {1: self.races}
        assert list(store.list("")) == []

    def test_readers_see_one_put_or_the_other(self, store: Store) -> None:
        store.put("a", b"0" * 200_000)
        done = threading.Event()

        def write() -> None:
            try:
                for turn in range(30):
                    store.put("a", b"%d" % (turn % 10) * 200_000)
            finally:
                done.set()

        writer = threading.Thread(target=write)
        writer.start()
        torn = []
        while not done.is_set():
            data, info = store.get("a")
            if len(set(data)) != 1 or len(data) != info.size or len(data) != 200_000:
                torn.append(info)
        writer.join()
        assert torn == []


class MountedStoreTests:
    """For a store that lies in this machine's file system."""

    def test_a_local_path_is_the_object(self, store: Store) -> None:
        store.put("a/b", b"hello")
        path = store.local_path("a/b")
        assert path is not None
        assert path.read_bytes() == b"hello"
        path.with_name("c").write_bytes(b"by another program")
        assert store.get("a/c")[0] == b"by another program"
