"""A commit and a sweep of the same attempt at once: it is committed and whole, or refused and unseen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from datalayer import CommitConflictError, Config, DataLayer, Location, NotPublishedError, TaskKey, Tier
from datalayer.addresses import layout
from datalayer.commit.publisher import Attempt
from datalayer.commit.sweep import FAILED, REMOVED, Swept, sweep
from datalayer.stores.base import Store
from datalayer.stores.memory import MemoryStore
from datalayer.stores.volume import VolumeStore
from datalayer.stores.wrapping import WrappingStore

EVERYTHING = timedelta(days=-1)
REQUESTS = {"get", "head", "put", "put_exclusive", "compare_and_put", "list", "children", "delete"}


class Interrupted(WrappingStore):
    """Does something else right before one of its requests."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.left = -1
        self.interrupt: Callable[[], None] = lambda: None

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name not in REQUESTS:
            return found

        def call(*args: object) -> object:
            self.left -= 1
            if self.left == -1:
                self.interrupt()
            return found(*args)

        return call

    def arm(self, request: int, interrupt: Callable[[], None]) -> None:
        self.left, self.interrupt = request, interrupt

    def disarm(self) -> None:
        self.left = -1


class Round:
    """One attempt that has staged its output, and both things that can happen to it."""

    def __init__(self, store: Store, *, committed_before: bool) -> None:
        self.store = Interrupted(store)
        self.layer = DataLayer(Config(), stores={Tier.COLD: self.store})
        self.key = TaskKey("a", "d", "t", "20130101T000000Z")
        self.before = 0
        if committed_before:
            self.stage().commit()
            self.before = 1
        self.attempt = self.stage()
        self.refused = False

    def stage(self) -> Attempt:
        attempt = self.layer.publish(self.key)
        attempt.output().put("x", bytes([attempt.number]))
        return attempt

    def commit(self) -> None:
        try:
            self.attempt.commit()
        except CommitConflictError:
            self.refused = True

    def sweep(self) -> None:
        found = list(sweep(self.layer, older_than=EVERYTHING))
        assert all(one.outcome == REMOVED for one in found)

    def check(self) -> None:
        expected = self.before if self.refused else self.attempt.number
        try:
            output = self.layer.resolve(self.key)["default"]
        except NotPublishedError:
            assert expected == 0
        else:
            assert output.read_bytes("x") == bytes([expected])
        if self.refused:
            self.sweep()
            assert not list(self.store.list(layout.output_path(self.key, self.attempt.number, "default")))


@pytest.mark.parametrize("kind", ["memory", "volume"])
@pytest.mark.parametrize("within", ["commit", "sweep"])
@pytest.mark.parametrize("committed_before", [False, True])
def test_the_one_within_the_other(tmp_path: Path, kind: str, within: str, committed_before: bool) -> None:
    """At every request of the one, all of the other happens."""
    results: list[bool] = []
    while True:
        store: Store = MemoryStore()
        if kind == "volume":
            folder = tmp_path / str(len(results))
            folder.mkdir()
            store = VolumeStore(Location.parse(str(folder)), tier=Tier.COLD)
        this = Round(store, committed_before=committed_before)
        outer, inner = (this.commit, this.sweep) if within == "commit" else (this.sweep, this.commit)
        this.store.arm(len(results), inner)
        outer()
        over = this.store.left >= 0  # It has no more requests than this: the other comes after it.
        this.store.disarm()
        if over:
            inner()
        this.check()
        results.append(this.refused)
        if over:
            break
    assert set(results) == {True, False}, "each of the two must have won at times"


def test_many_commits_beside_many_sweeps(layer: DataLayer, key: TaskKey) -> None:
    ended = threading.Event()
    failures: list[Swept] = []

    def clean() -> None:
        while not ended.is_set():
            failures.extend(one for one in sweep(layer, older_than=EVERYTHING) if one.outcome == FAILED)

    cleaners = [threading.Thread(target=clean) for _ in range(2)]
    for cleaner in cleaners:
        cleaner.start()
    committed = 0
    try:
        for _ in range(25):
            attempt = layer.publish(key)
            try:
                attempt.output().put("x", bytes([attempt.number]))
                attempt.commit()
            except CommitConflictError:
                pass
            else:
                committed = attempt.number
            if committed:
                seen = layer.resolve(key)
                assert (seen.attempt, seen["default"].read_bytes("x")) == (committed, bytes([committed]))
    finally:
        ended.set()
        for cleaner in cleaners:
            cleaner.join()
    assert failures == []
