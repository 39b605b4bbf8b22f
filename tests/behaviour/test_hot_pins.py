"""`pin`, `unpin`, `evict`, `status`, and leases that end by themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datalayer import (
    ConfigError,
    DataLayer,
    InvalidKeyError,
    PinnedError,
    ProtocolVersionError,
    StoreUnavailableError,
    TaskKey,
    Tier,
)
from datalayer.commit.sweep import FAILED, REMOVED, sweep
from datalayer.commit.verify import verify
from datalayer.doctor import OK, WARNING, doctor
from datalayer.hot.ledger import LEDGER, Ledger, OutputRef
from datalayer.taskfs import TaskFileSystem
from tests.behaviour.hot import MemoryHot, hot_layer, memory_hot

RUN = "20130101T000000Z"
KEY = TaskKey("team", "dag", "extract", RUN)
PATHS = [f"{KEY.path}/attempts/1/default/{name}" for name in "ab"]


def publish(layer: DataLayer, key: TaskKey = KEY, size: int = 100) -> None:
    with layer.publish(key) as attempt:
        attempt.output().put("a", b"x" * size)
        attempt.output().put("b", b"y")


def holders(layer: DataLayer, key: TaskKey = KEY) -> list[str]:
    return [lease.holder for one in layer.hot.status(key).outputs for lease in one.leases]


def notes(layer: DataLayer) -> list[str]:
    return sorted(info.path for info in layer.home.list(LEDGER))


class Clock:
    """A clock that stands until it is set forward; shifts what the ledger and the leases take for now."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        clock = self

        class Shifted(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # a stand-in, narrower than the real one
                return datetime.now(tz) + clock.ahead

        for module in ("ledger", "leases", "tier", "status"):
            patch.setattr(f"datalayer.hot.{module}.datetime", Shifted)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def layer() -> DataLayer:
    made = hot_layer()
    publish(made)
    return made


def test_a_pin_is_in_the_ledger_and_in_the_store(layer: DataLayer) -> None:
    until = layer.hot.pin(KEY, "anna", timedelta(hours=2))
    assert abs(until - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)
    assert memory_hot(layer).pinned == dict.fromkeys(PATHS, until)
    (lease,) = layer.hot.status(KEY).outputs[0].leases
    assert (lease.holder, lease.until, lease.output, lease.attempt) == ("anna", until, "default", 1)
    assert notes(layer)[0].startswith(f"hot~/{KEY.path}/attempts/1/default/leases/")
    assert layer.hot.unpin(KEY, "anna") == (f"{KEY}@1/default",)
    assert (memory_hot(layer).pinned, notes(layer), holders(layer)) == ({}, [], [])
    assert layer.hot.unpin(KEY, "anna") == ()


def test_a_pin_lasts_a_day_unless_said_otherwise(layer: DataLayer) -> None:
    assert abs(layer.hot.pin(KEY, "anna") - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=1)


def publish_two(layer: DataLayer) -> TaskKey:
    key = TaskKey("team", "dag", "two", RUN)
    with layer.publish(key) as attempt:
        attempt.output("first").put("f", b"x")
        attempt.output("second").put("f", b"y")
    return key


def fail_for(patch: pytest.MonkeyPatch, words: str) -> None:
    """Have the store fail for some files while it says that all is well."""
    pin = MemoryHot.pin

    def failing(self: MemoryHot, paths: Iterable[str], until: datetime) -> None:
        paths = list(paths)
        if any(words in path for path in paths):
            raise StoreUnavailableError("no worker", tier="hot")
        pin(self, paths, until)

    patch.setattr(MemoryHot, "pin", failing)


def test_a_pin_that_fails_is_not_taken(layer: DataLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    key = publish_two(layer)
    with monkeypatch.context() as patch:
        fail_for(patch, "second")
        with pytest.raises(StoreUnavailableError, match="no worker"):
            layer.hot.pin(key, "anna")
        assert (holders(layer, key), notes(layer), memory_hot(layer).pinned) == ([], [], {})
    assert layer.hot.evict(key) == (f"{key}@1/first", f"{key}@1/second")


def test_a_pin_that_is_renewed_in_vain_ends_when_it_did(layer: DataLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    key = publish_two(layer)
    layer.hot.pin(key, "anna", timedelta(hours=1))
    layer.hot.pin(layer.resolve(key)["first"], "ben", timedelta(minutes=5))

    def ends() -> list[tuple[str, datetime]]:
        return [(lease.holder, lease.until) for one in layer.hot.status(key).outputs for lease in one.leases]

    before, pinned = ends(), dict(memory_hot(layer).pinned)
    fail_for(monkeypatch, "second")
    with pytest.raises(StoreUnavailableError):
        layer.hot.pin(key, "anna", timedelta(hours=9))
    assert [holder for holder, _ in before] == ["anna", "ben", "anna"]
    assert (ends(), memory_hot(layer).pinned) == (before, pinned)


def test_where_a_pin_cannot_be_undone_whoever_comes_next_takes_it_back(
    layer: DataLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = publish_two(layer)
    with monkeypatch.context() as patch:
        fail_for(patch, "second")

        def down(self: MemoryHot, paths: Iterable[str]) -> None:
            raise StoreUnavailableError("no master", tier="hot")

        patch.setattr(MemoryHot, "unpin", down)
        with pytest.raises(StoreUnavailableError, match="no worker"):
            layer.hot.pin(key, "anna")
        assert holders(layer, key) == []
        assert len(memory_hot(layer).pinned) == 1
    layer.hot.evict(key)
    assert (memory_hot(layer).pinned, notes(layer)) == ({}, [])


def test_a_hot_tier_that_is_down_takes_no_pin(layer: DataLayer) -> None:
    memory_hot(layer).failing = "down"
    with pytest.raises(StoreUnavailableError, match="does not serve: down. Nothing was pinned"):
        layer.hot.pin(KEY, "anna")
    assert notes(layer) == []


def test_an_output_stays_pinned_until_the_last_holder_has_gone(
    layer: DataLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.hot.pin(KEY, "anna", timedelta(hours=5))
    until = layer.hot.pin(KEY, "ben", timedelta(hours=1))
    assert set(memory_hot(layer).pinned.values()) != {until}
    assert holders(layer) == ["anna", "ben"]
    with monkeypatch.context() as patch:
        patch.setattr(MemoryHot, "unpin", None)  # Not for a moment.
        layer.hot.unpin(KEY, "anna")
    # No longer than for the holder that is left.
    assert set(memory_hot(layer).pinned.values()) == {until}
    layer.hot.unpin(KEY, "ben")
    assert memory_hot(layer).pinned == {}


def test_pinning_again_renews(layer: DataLayer) -> None:
    layer.hot.pin(KEY, "anna", timedelta(hours=5))
    until = layer.hot.pin(KEY, "anna", timedelta(hours=1))
    assert holders(layer) == ["anna"]
    assert set(memory_hot(layer).pinned.values()) == {until}


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta(days=400)])
def test_a_time_to_live_that_is_none(layer: DataLayer, ttl: timedelta) -> None:
    with pytest.raises(ConfigError, match="more than 0 and at most 366 days"):
        layer.hot.pin(KEY, "anna", ttl)


@pytest.mark.parametrize("holder", ["", " ", 7, "x" * 2001])
def test_a_holder_that_is_none(layer: DataLayer, holder: Any) -> None:
    for verb in (layer.hot.pin, layer.hot.unpin):
        with pytest.raises(InvalidKeyError, match="a pin's holder is"):
            verb(KEY, holder)
    assert notes(layer) == []


@pytest.mark.parametrize(
    "verb",
    [
        lambda hot: hot.warm(KEY),
        lambda hot: hot.pin(KEY, "ben"),
        lambda hot: hot.unpin(KEY, "ben"),
        lambda hot: hot.evict(KEY),
        lambda hot: hot.status(),
        lambda hot: hot.expire(),
    ],
    ids=["warm", "pin", "unpin", "evict", "status", "expire"],
)
def test_whoever_runs_a_verb_takes_back_pins_whose_time_is_over(
    layer: DataLayer, clock: Clock, verb: Callable[[Any], object]
) -> None:
    other = TaskKey("team", "dag", "other", RUN)
    publish(layer, other)
    layer.hot.pin(other, "crashed", timedelta(hours=1))
    layer.hot.pin(other, "alive", timedelta(hours=9))
    layer.hot.pin(KEY, "crashed", timedelta(hours=1))
    clock.ahead = timedelta(hours=2)
    verb(layer.hot)
    mine = dict.fromkeys(PATHS) if "ben" in holders(layer) else {}
    theirs = dict.fromkeys(path.replace("extract", "other") for path in PATHS)
    assert set(memory_hot(layer).pinned) == {*mine, *theirs}
    assert holders(layer, other) == ["alive"]
    # The pin is not longer than the lease that is left.
    assert {memory_hot(layer).pinned[path] for path in theirs} == {layer.hot.status(other).outputs[0].leases[0].until}


def test_expiring_says_what_it_took_back(layer: DataLayer, clock: Clock) -> None:
    layer.hot.pin(KEY, "crashed", timedelta(hours=1))
    assert layer.hot.expire() == []
    clock.ahead = timedelta(hours=2)
    assert layer.hot.expire("other") == []
    ((address, lease),) = layer.hot.expire("team/dag")
    assert (address, lease.holder) == (f"{KEY}@1/default", "crashed")
    assert notes(layer) == []


def test_a_lease_of_an_attempt_that_is_gone_goes(layer: DataLayer, clock: Clock) -> None:
    layer.hot.pin(KEY, "crashed", timedelta(hours=1))
    layer.hot.warm(KEY)
    layer.home.delete([info.path for info in layer.home.list(KEY.path)])
    fresh = hot_layer(stores={Tier.COLD: layer.home}, store=memory_hot(layer))
    assert fresh.hot.status().outputs == []
    clock.ahead = timedelta(hours=2)
    assert len(fresh.hot.expire()) == 1
    assert [path for path in notes(layer) if "/leases/" in path] == []


def test_where_the_store_cannot_be_told_the_lease_stays_for_the_next(layer: DataLayer, clock: Clock) -> None:
    layer.hot.pin(KEY, "anna", timedelta(hours=1))
    memory_hot(layer).failing = "down"
    with pytest.raises(StoreUnavailableError):
        layer.hot.unpin(KEY, "anna")
    clock.ahead = timedelta(hours=2)
    with pytest.raises(StoreUnavailableError):
        layer.hot.expire()
    status = layer.hot.status()
    assert (status.unavailable, status.outputs[0].leases) == ("down", ())
    memory_hot(layer).failing = None
    assert len(layer.hot.expire()) == 1
    assert memory_hot(layer).pinned == {}


def test_a_pin_that_is_taken_while_the_last_one_goes_holds(layer: DataLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    layer.hot.pin(KEY, "anna")
    hot = memory_hot(layer)
    unpin = MemoryHot.unpin

    def meanwhile(self: MemoryHot, paths: Any) -> None:
        monkeypatch.setattr(MemoryHot, "unpin", unpin)
        layer.hot.pin(KEY, "ben")
        unpin(self, paths)

    monkeypatch.setattr(MemoryHot, "unpin", meanwhile)
    layer.hot.unpin(KEY, "anna")
    assert holders(layer) == ["ben"]
    assert sorted(hot.pinned) == PATHS


def test_of_a_task_every_attempt_is_unpinned_of_an_output_its_own(layer: DataLayer) -> None:
    layer.hot.pin(KEY, "anna")
    first = layer.resolve(KEY)["default"]
    publish(layer)
    layer.hot.pin(KEY, "anna")
    assert len(memory_hot(layer).pinned) == 4
    assert layer.hot.unpin(first, "anna") == (f"{KEY}@1/default",)
    layer.hot.pin(first, "anna")
    assert layer.hot.unpin(KEY, "anna") == (f"{KEY}@1/default", f"{KEY}@2/default")
    assert memory_hot(layer).pinned == {}


def test_mapped_instances_are_not_unpinned_with_the_unmapped_one(layer: DataLayer) -> None:
    mapped = TaskKey("team", "dag", "extract", RUN, 3)
    publish(layer, mapped)
    layer.hot.pin(mapped, "anna")
    assert layer.hot.unpin(KEY, "anna") == ()
    assert holders(layer, mapped) == ["anna"]


# Evicting -------------------------------------------------------------------------------------------------------------------------------


def test_what_is_pinned_is_not_evicted_but_by_force(layer: DataLayer) -> None:
    layer.hot.warm(KEY)
    layer.hot.pin(KEY, "it's me")
    step = re.escape(f"""datalayer hot unpin {KEY}@1/default --holder 'it'"'"'s me'""")
    with pytest.raises(PinnedError, match=rf"is pinned by it's me until 20.*Z: nothing was evicted. .*{step}.*--force"):
        layer.hot.evict(KEY)
    layer.hot.unpin(KEY, "it's me")
    for number in range(5):
        layer.hot.pin(KEY, f"reader-{number}")
    everybody = ", ".join(rf"reader-{number} until 20\S+ \S+Z" for number in range(5))
    with pytest.raises(PinnedError, match=rf"@1/default is pinned by {everybody}: nothing .*--holder 'reader-0'"):
        layer.hot.evict(KEY)
    layer.hot.pin(KEY, "reader-5")
    with pytest.raises(PinnedError, match=rf"{everybody} and 1 more: nothing was evicted"):
        layer.hot.evict(KEY)
    layer.hot.unpin(KEY, "reader-5")
    assert layer.hot.status(KEY).hot == 101
    assert layer.hot.evict(KEY, force=True) == (f"{KEY}@1/default",)
    assert layer.hot.status(KEY).hot == 0
    assert len(holders(layer)) == 5
    # The pins are still there for copies that come again.
    assert sorted(memory_hot(layer).pinned) == PATHS


def test_an_evicted_output_is_forgotten(layer: DataLayer) -> None:
    layer.hot.warm(KEY)
    assert len(layer.hot.status().outputs) == 1
    assert layer.hot.evict(KEY) == (f"{KEY}@1/default",)
    assert (layer.hot.status().outputs, notes(layer)) == ([], [])
    assert layer.hot.evict(KEY) == (f"{KEY}@1/default",)


def test_the_budget_does_not_evict_what_is_pinned(clock: Clock) -> None:
    layer = hot_layer(budget=250)
    keys = [TaskKey("team", "dag", task, RUN) for task in "abc"]
    for key in keys:
        publish(layer, key)
    layer.hot.warm(keys[0])
    layer.hot.warm(keys[1])
    layer.hot.pin(keys[0], "anna", timedelta(hours=1))
    assert layer.hot.warm(keys[2]).evicted == (f"{keys[1]}@1/default",)
    clock.ahead = timedelta(hours=2)
    assert layer.hot.warm(keys[1]).evicted == (f"{keys[0]}@1/default",)


# Status ---------------------------------------------------------------------------------------------------------------------------------


def test_status_by_output_by_team_and_in_all(layer: DataLayer) -> None:
    other = TaskKey("a team", "dag", "extract", RUN)
    publish(layer, other, 200)
    layer.hot.warm(KEY, files="a")
    layer.hot.pin(KEY, "anna")
    layer.hot.pin(other, "ben")
    status = layer.hot.status()
    assert [(one.team, one.address, one.files, one.bytes, one.hot) for one in status.outputs] == [
        ("a team", f"{other}@1/default", 2, 201, 0),
        ("team", f"{KEY}@1/default", 2, 101, 100),
    ]
    assert (status.outputs[0].used, status.outputs[1].used is not None) == (None, True)
    assert status.teams == [("a team", 1, 201, 0, 0), ("team", 1, 101, 100, 100)]
    assert (status.bytes, status.hot, status.pinned, status.budget, status.unavailable) == (
        302,
        100,
        100,
        10_000_000,
        None,
    )
    assert [one.team for one in layer.hot.status(team="a team").outputs] == ["a team"]
    assert layer.hot.status(team="nobody").teams == []


def test_status_asks_nothing_of_a_hot_tier_that_is_down(layer: DataLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    layer.hot.warm(KEY)
    monkeypatch.setattr(MemoryHot, "out_of_service", lambda self: "no proxy")
    monkeypatch.setattr(MemoryHot, "resident", None)
    status = layer.hot.status()
    assert (status.bytes, status.hot, status.unavailable, status.held) == (101, 0, "no proxy", None)


def test_status_says_how_full_the_hot_tier_is(layer: DataLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (layer.hot.status().held, layer.hot.status().capacity) == (None, None)
    monkeypatch.setattr(MemoryHot, "usage", lambda self: (7, 9))
    assert (layer.hot.status().held, layer.hot.status().capacity) == (7, 9)

    def refuse(self: MemoryHot) -> tuple[int, int] | None:
        raise StoreUnavailableError("no", tier="hot")

    monkeypatch.setattr(MemoryHot, "usage", refuse)
    assert (layer.hot.status().unavailable, layer.hot.status().held) == (None, None)


def test_status_of_an_output_that_was_never_warmed(layer: DataLayer) -> None:
    assert layer.hot.status().outputs == []
    layer.resolve(KEY)["default"].read_bytes("a")
    (one,) = layer.hot.status(KEY).outputs
    assert (one.bytes, one.hot, one.used, one.leases) == (101, 100, None, ())


# The ledger -----------------------------------------------------------------------------------------------------------------------------


def test_two_hot_tiers_of_one_home_count_apart_and_share_leases(layer: DataLayer) -> None:
    elsewhere = hot_layer(
        stores={Tier.COLD: layer.home}, hot={"budget": 200, "url": "/elsewhere", "write_type": "THROUGH"}
    )
    layer.hot.warm(KEY)
    layer.hot.pin(KEY, "anna")
    other = TaskKey("team", "dag", "other", RUN)
    publish(layer, other)
    # What is warmed here takes no room there.
    elsewhere.hot.warm(other)
    (one,) = elsewhere.hot.status(KEY).outputs
    assert (one.hot, one.used, [lease.holder for lease in one.leases]) == (0, None, ["anna"])
    assert memory_hot(elsewhere).pinned == {}
    elsewhere.hot.warm(KEY, files="b")
    # Whoever warms what somebody has pinned pins it, too.
    assert sorted(memory_hot(elsewhere).pinned) == PATHS
    with pytest.raises(PinnedError):
        elsewhere.hot.evict(KEY)


def test_notes_of_places_that_nobody_uses_any_more_go(layer: DataLayer, clock: Clock) -> None:
    elsewhere = hot_layer(stores={Tier.COLD: layer.home}, hot={"url": "/elsewhere", "write_type": "THROUGH"})
    elsewhere.hot.warm(KEY)
    layer.hot.warm(KEY)
    clock.ahead = timedelta(days=29)
    layer.hot.expire()
    assert len(notes(layer)) == 2
    clock.ahead = timedelta(days=31)
    layer.hot.expire()
    assert len(notes(layer)) == 1
    assert layer.hot.status().outputs


def test_a_damaged_note_is_none_and_a_newer_one_is_refused(layer: DataLayer) -> None:
    layer.hot.pin(KEY, "anna")
    other = TaskKey("team", "dag", "other", RUN)
    publish(layer, other)
    (path,) = notes(layer)
    good, _ = layer.home.get(path)
    for bad in (b"{", b"[]", good.replace(b"extract", b"other"), good.replace(b"/team/", b"")):
        layer.home.put(path, bad)
        assert (holders(layer), layer.hot.status().outputs) == ([], [])
    layer.home.put(path, good.replace(b'"1.0"', b'"1.7"').replace(b"}", b',"unheard_of":1}'))
    assert holders(layer) == ["anna"]
    layer.home.put(path, good.replace(b'"1.0"', b'"2.0"'))
    with pytest.raises(ProtocolVersionError):
        layer.hot.warm(KEY)
    assert good.count(b"expires") == 1
    for when in (b"never", b"1999-01-01"):
        layer.home.put(path, good.replace(b'"expires":"2', b'"expires":"' + when + b'","was":"2'))
        assert holders(layer) == []


def test_names_however_long(layer: DataLayer) -> None:
    long = TaskKey("t" * 200, "d" * 200, "x" * 200, "run_id-" + "r" * 200)
    publish(layer, long)
    layer.hot.warm(long)
    layer.hot.pin(long, str(long))
    assert holders(layer, long) == [str(long)]
    assert max(map(len, notes(layer))) < 1000


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch, layer: DataLayer) -> None:
    def nobody() -> str:
        raise KeyError("uid")

    monkeypatch.setattr("getpass.getuser", nobody)
    Ledger(layer.home, "place").lease(OutputRef(KEY, 1, "default"), "anna", datetime.now(UTC) + timedelta(hours=1))
    (lease,) = layer.hot.status(KEY).outputs[0].leases
    assert lease.by.partition("@")[0].isdigit()


def test_nothing_else_takes_the_ledger_for_a_team(layer: DataLayer) -> None:
    layer.hot.warm(KEY)
    layer.hot.pin(KEY, "anna")
    before = notes(layer)
    assert TaskFileSystem(layer=layer, skip_instance_cache=True).ls("", detail=False) == ["team"]
    assert list(sweep(layer, older_than=timedelta(0))) == []
    assert verify(layer, layer.resolve(KEY)).problems == []
    assert [str(key) for key in layer.runs("team", "dag", "extract")] == [str(KEY)]
    assert {finding.status for finding in doctor(layer)} <= {OK, WARNING}
    assert notes(layer) == before


def test_a_sweep_takes_back_pins_whose_time_is_over(layer: DataLayer, clock: Clock) -> None:
    layer.hot.pin(KEY, "crashed", timedelta(hours=1))
    assert list(sweep(layer)) == []
    clock.ahead = timedelta(hours=2)
    assert list(sweep(layer, dry_run=True)) == []
    assert list(sweep(layer, "/another")) == []
    memory_hot(layer).failing = "down"
    (found,) = sweep(layer, "/team")
    assert (found.outcome, found.address) == (FAILED, "/team")
    assert "the hot tier: down" in found.detail
    memory_hot(layer).failing = None
    (found,) = sweep(layer, "/team")
    assert (found.outcome, found.address) == (REMOVED, f"{KEY}@1/default")
    assert "for crashed" in found.detail
    assert memory_hot(layer).pinned == {}
