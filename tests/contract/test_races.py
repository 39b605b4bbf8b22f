"""The full size of the races: of up to 32 writers one wins, 10,000 times a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from datalayer.addresses.location import Location
from datalayer.stores.base import Store
from datalayer.stores.memory import MemoryStore
from datalayer.stores.volume import VolumeStore
from datalayer.testing import run_races
from tests.contract.test_stores import s3_store

# Writers, processes, and rounds of each kind of race: together 10,000 of both kinds on a store with compare-and-put.
SIZES = [(2, 1, 1000), (8, 1, 2000), (16, 4, 1000), (32, 4, 1000)]


@pytest.fixture(params=["memory", "volume", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "volume":
        return VolumeStore(Location.parse(str(tmp_path)))
    return s3_store(request.getfixturevalue("versitygw"))


@pytest.mark.nightly
@pytest.mark.parametrize(("writers", "processes", "rounds"), SIZES)
def test_nightly_races_have_one_winner_each(store: Store, writers: int, processes: int, rounds: int) -> None:
    if isinstance(store, MemoryStore):
        processes = 1
    rounds *= 1 if store.can_compare_and_put else 2
    races = run_races(store, rounds, writers, processes=processes)
    assert races.wrong == []
    assert races.count == rounds * len(races.winners)
    assert all(counts == {1: rounds} for counts in races.winners.values())


class _Unfair(MemoryStore):
    """Looks before it puts: what a store without an atomic exclusive put does."""

    def put_exclusive(self, path: str, data: bytes) -> object:  # type: ignore[override]  # a stand-in, narrower than the real one
        return self.put(path, data)


def test_a_store_that_lets_two_win_is_found_out() -> None:
    races = run_races(_Unfair(), 3, 4)
    assert not races.fair
    assert races.winners["create"] == {4: 3}
    assert races.winners["supersede"] == {1: 3}
    assert races.wrong[0] == "create race 0 had 4 winners of 4"
