"""What a sweep removes, and above all what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datalayer import (
    CommitConflictError,
    Config,
    DataLayer,
    InvalidKeyError,
    NotPublishedError,
    RunId,
    StoreError,
    StoreUnavailableError,
    TaskKey,
    Tier,
)
from datalayer.addresses import layout
from datalayer.commit.publisher import Attempt
from datalayer.commit.sweep import ALIVE, FAILED, REMOVED, WOULD_REMOVE, Swept, sweep
from datalayer.stores.base import ObjectInfo, Store, StoreWriter
from datalayer.stores.memory import MemoryStore
from datalayer.stores.wrapping import WrappingStore
from tests.behaviour.aging import Aging
from tests.behaviour.conftest import any_layer
from tests.behaviour.generations import BIG, publish, read_generation, stage

NOW = timedelta(0)


@pytest.fixture
def age(request: pytest.FixtureRequest) -> Aging:
    return Aging(request)


@pytest.fixture(params=["volume", "s3"])
def leaky(request: pytest.FixtureRequest) -> Iterator[DataLayer]:
    """A layer on a store whose writers leave something behind when they die."""
    with any_layer(request.param, request) as layer:
        yield layer


def outcomes(found: Iterator[Swept]) -> list[tuple[str, int | None]]:
    return [(one.outcome, one.attempt) for one in found]


def everything(layer: DataLayer) -> dict[str, str]:
    return {info.path: info.version for info in layer.data.list("")}


# What is removed ------------------------------------------------------------------------------------------------------------------------


def test_an_abandoned_attempt_is_removed_but_for_its_claim(layer: DataLayer, key: TaskKey, age: Aging) -> None:
    attempt = layer.publish(key, owner="ti-7")
    stage(attempt, 1)
    layer.home.put(f"{layout.attempt_path(key, 1)}/{layout.ALIVE}", b"")
    age(layer, "", 25)
    (one,) = sweep(layer)
    assert one[:6] == (REMOVED, str(key), 1, "ti-7", 4, BIG + 1001)
    assert one.idle is not None
    assert one.idle >= timedelta(hours=24, minutes=59)
    left = [info.path for info in layer.data.list(layout.attempts_path(key))]
    assert left == [f"{layout.attempt_path(key, 1)}/{layout.CLAIM}"]
    assert list(sweep(layer, older_than=NOW)) == []


def test_a_dry_run_only_tells(layer: DataLayer, key: TaskKey, age: Aging) -> None:
    stage(layer.publish(key), 1)
    age(layer, "", 25)
    before = everything(layer)
    assert outcomes(sweep(layer, dry_run=True)) == [(WOULD_REMOVE, 1)]
    assert everything(layer) == before


def test_nothing_is_removed_where_nothing_is_wrong(layer: DataLayer, key: TaskKey, age: Aging) -> None:
    for generation in (1, 2, 3):
        publish(layer, key, generation)
    age(layer, "", 1000)
    before = everything(layer)
    assert list(sweep(layer, older_than=NOW)) == []
    assert everything(layer) == before


@pytest.mark.parametrize("sign", ["claim", "alive", "file"])
def test_one_sign_of_life_is_enough(layer: DataLayer, key: TaskKey, age: Aging, sign: str) -> None:
    attempt = layer.publish(key)
    stage(attempt, 1)
    folder = layout.attempt_path(key, 1)
    age(layer, "", 25)
    if sign == "claim":
        layer.home.put(f"{folder}/{layout.CLAIM}", layer.home.get(f"{folder}/{layout.CLAIM}")[0])
    elif sign == "alive":
        layer.home.put(f"{folder}/{layout.ALIVE}", b"")
    else:
        attempt.output().put("one-more", b"1")
    before = everything(layer)
    assert outcomes(sweep(layer)) == [(ALIVE, 1)]
    assert everything(layer) == before


def test_the_pinned_and_the_superseded_are_left_alone(layer: DataLayer, key: TaskKey, age: Aging) -> None:
    publish(layer, key, 1)
    old = layer.resolve(key)
    stage(layer.publish(key), 2)
    publish(layer, key, 3)
    age(layer, "", 25)
    assert outcomes(sweep(layer)) == [(REMOVED, 2)]
    assert old["default"].read_bytes("a.bin") == b"\1" * 1000
    assert DataLayer.resolve(layer, key, attempt=1)["default"].read_bytes("only-1") == b"\1"
    assert read_generation(layer, key) == 3


def test_mapped_instances_and_odd_runs(layer: DataLayer, age: Aging) -> None:
    dead = [TaskKey("a team", "d/../x", "t", RunId("..")), TaskKey("a", "d", "t", "20130101T000000Z", 4)]
    good = TaskKey("a", "d", "t", "20130101T000000Z", 5)
    for one in dead:
        layer.publish(one).output().put("x", b"1")
    with layer.publish(good) as attempt:
        # Names as a sweep itself looks for, in the data.
        attempt.output().put("attempts/9/claim.json", b"1")
        attempt.output().put("map_index-1/attempts/1/claim.json", b"1")
    layer.home.put("a/d/t/not a run/attempts/1/default/x", b"1")
    layer.home.put("a/d/t/20130101T000000Z/attempts/x/default/x", b"1")
    age(layer, "", 25)
    assert sorted(one.address for one in sweep(layer)) == sorted(map(str, dead))
    assert len(layer.resolve(good)["default"].read_bytes("attempts/9/claim.json")) == 1
    assert len(list(layer.home.list("a/d/t/not a run"))) == 1


# Claims ---------------------------------------------------------------------------------------------------------------------------------


def test_numbers_only_grow(layer: DataLayer, key: TaskKey, age: Aging) -> None:
    numbers = [layer.publish(key).number for _ in range(5)]
    assert numbers == [1, 2, 3, 4, 5]
    age(layer, "", 25)
    assert outcomes(sweep(layer)) == [(REMOVED, 2), (REMOVED, 3), (REMOVED, 4)]
    assert layer.publish(key).number == 6
    age(layer, "", 25)
    assert outcomes(sweep(layer)) == [(REMOVED, 5)]
    assert layer.publish(key).number == 7
    assert outcomes(sweep(layer)) == [(REMOVED, 6), (ALIVE, 7)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.sampled_from(["claim", "stage", "commit", "commit oldest", "sweep"]), max_size=14))
def test_any_history(steps: list[str]) -> None:
    """Whatever happens in whatever order: numbers grow, the highest commit wins, and what is committed is whole."""
    for store in (MemoryStore(), _NoCompare(MemoryStore())):
        layer = DataLayer(Config(), stores={Tier.COLD: store})
        key = TaskKey("a", "d", "t", "20130101T000000Z")
        highest = head = 0
        open_attempts = []
        for step in steps:
            if step == "claim":
                attempt = layer.publish(key)
                assert attempt.number > highest
                highest = attempt.number
                open_attempts.append(attempt)
            elif step == "stage" and open_attempts:
                open_attempts[-1].output().put("x", bytes([open_attempts[-1].number]))
            elif step.startswith("commit") and open_attempts:
                attempt = open_attempts.pop(0 if "oldest" in step else -1)
                attempt.output().put("x", bytes([attempt.number]))
                try:
                    attempt.commit()
                except CommitConflictError:
                    continue
                assert attempt.number > head
                head = attempt.number
            elif step == "sweep":
                assert all(one.outcome == REMOVED for one in sweep(layer, older_than=timedelta(days=-1)))
            try:
                seen = layer.resolve(key)
            except NotPublishedError:
                assert not head
            else:
                assert seen.attempt == head
                assert seen["default"].read_bytes("x") == bytes([head])


class _NoCompare(WrappingStore):
    """Like a volume, for the sake of the other form of the commit log."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.can_compare_and_put = False


# Scope, several stores, failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "removed"),
    [
        (
            "",
            ["/a/d/t/run_id-1", "/a/d/t/run_id-1/map_index-1", "/a/d/t/run_id-2", "/a/d/u/run_id-1", "/b/d/t/run_id-1"],
        ),
        ("/a", ["/a/d/t/run_id-1", "/a/d/t/run_id-1/map_index-1", "/a/d/t/run_id-2", "/a/d/u/run_id-1"]),
        ("a/d/t", ["/a/d/t/run_id-1", "/a/d/t/run_id-1/map_index-1", "/a/d/t/run_id-2"]),
        ("/a/d/t/run_id-1", ["/a/d/t/run_id-1", "/a/d/t/run_id-1/map_index-1"]),
        ("/a/d/t/run_id-1/map_index-1", ["/a/d/t/run_id-1/map_index-1"]),
        ("/nobody", []),
    ],
)
def test_the_scope(prefix: str, removed: list[str]) -> None:
    layer = DataLayer(Config(), stores={Tier.COLD: MemoryStore()})
    for team, dag, task, run, index in (
        ("a", "d", "t", "1", None),
        ("a", "d", "t", "1", 1),
        ("a", "d", "t", "2", None),
        ("a", "d", "u", "1", None),
        ("b", "d", "t", "1", None),
    ):
        layer.publish(TaskKey(team, dag, task, RunId(run), index)).output().put("x", b"1")
    found = sweep(layer, prefix, older_than=timedelta(days=-1))
    assert [one.address for one in found] == removed


@pytest.mark.parametrize(
    "prefix", ["/a b", "/..", "/a/d/t/not-a-run", "/a/d/t/run_id-1/x", "/a/d/t/run_id-1/map_index-1/x"]
)
def test_a_prefix_that_is_none(prefix: str) -> None:
    layer = DataLayer(Config(), stores={Tier.COLD: MemoryStore()})
    with pytest.raises(InvalidKeyError):
        list(sweep(layer, prefix))


def two_stores() -> tuple[DataLayer, MemoryStore, MemoryStore]:
    home, data = MemoryStore(), MemoryStore(tier=Tier.SHARED)
    return DataLayer(Config(design="shared-fs"), stores={Tier.COLD: home, Tier.SHARED: data}), home, data


def test_data_on_another_store_than_the_home(key: TaskKey, age: Aging) -> None:
    layer, home, data = two_stores()
    assert layer.home.root == home.root
    publish(layer, key, 1)
    stage(layer.publish(key), 2)
    layer.publish(key)
    age(layer, "", 0.5)
    # Their claims on the home are young.
    assert outcomes(sweep(layer, older_than=timedelta(minutes=20))) == [(ALIVE, 2), (ALIVE, 3)]
    found = list(sweep(layer, older_than=NOW))
    assert [(one.outcome, one.attempt, one.files) for one in found] == [(REMOVED, 2, 3)]
    assert [info for info in data.list("") if "/attempts/2/" in info.path] == []
    assert read_generation(layer, key) == 1


def test_data_without_a_claim_on_the_home_are_left_alone(key: TaskKey) -> None:
    layer, home, data = two_stores()
    for generation in (1, 2, 3):
        stage(layer.publish(key), generation)
    home.delete([f"{layout.attempt_path(key, 2)}/{layout.CLAIM}"])
    home.put(f"{layout.attempt_path(key, 2)}/{layout.ALIVE}", b"")
    found = list(sweep(layer, older_than=timedelta(days=-1)))
    assert [(one.outcome, one.attempt, one.files) for one in found] == [
        (REMOVED, 1, 3),
        (REMOVED, 2, 1),
        (REMOVED, 3, 3),
    ]
    assert len([info for info in data.list("") if "/attempts/2/" in info.path]) == 3


def test_data_under_another_home_are_left_alone(key: TaskKey, age: Aging) -> None:
    layer, _, data = two_stores()
    publish(layer, key, 1)
    stage(layer.publish(key), 2)
    before = {info.path for info in data.list("")}
    wrong_home = DataLayer(Config(design="shared-fs"), stores={Tier.COLD: MemoryStore(), Tier.SHARED: data})
    assert list(sweep(wrong_home, older_than=timedelta(days=-1))) == []
    # Even where it has claims of that task itself, and they are old by now.
    age(layer, "", 30)
    wrong_home.publish(key)
    found = list(sweep(wrong_home, older_than=NOW))
    assert [(one.outcome, one.attempt) for one in found] == [(FAILED, 1)]
    assert "is memory://" in found[0].detail
    assert {info.path for info in data.list("")} == before


def test_a_store_that_fails_removes_nothing_and_stops_nothing(key: TaskKey) -> None:
    class Failing(WrappingStore):
        broken = ""

        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            if self.broken and self.broken in f"{prefix}/":
                raise StoreUnavailableError("the store is gone")
            return super().list(prefix)

    store = Failing(MemoryStore())
    layer = DataLayer(Config(), stores={Tier.COLD: store})
    other = TaskKey("aviation", "flights", "extract", "20130102T000000Z")
    for one in (key, other):
        stage(layer.publish(one), 1)
    store.broken = f"{key.run}/"
    found = list(sweep(layer, older_than=timedelta(days=-1)))
    assert [(one.outcome, one.address) for one in found] == [(FAILED, str(key)), (REMOVED, str(other))]
    store.broken = ""
    assert outcomes(sweep(layer, older_than=timedelta(days=-1))) == [(REMOVED, 1)]


def test_a_damaged_head_is_reported_and_left_alone(layer: DataLayer, key: TaskKey) -> None:
    publish(layer, key, 1)
    stage(layer.publish(key), 2)
    head = layout.head_path(key) if layer.home.can_compare_and_put else layout.commit_path(key, 1)
    layer.home.put(head, b"{")
    before = everything(layer)
    assert outcomes(sweep(layer, older_than=NOW)) == [(FAILED, None)]
    assert everything(layer) == before


# Unfinished uploads ---------------------------------------------------------------------------------------------------------------------


def begin_upload(layer: DataLayer, key: TaskKey) -> tuple[Attempt, StoreWriter]:
    """An attempt with a large file half written, in parts on S3 and in a temporary file on a volume."""
    attempt = layer.publish(key)
    writer = layer.data.writer(f"{layout.output_path(key, attempt.number, 'default')}/big")
    writer.write(b"x" * (20 << 20))
    return attempt, writer


def test_unfinished_uploads_of_the_abandoned_are_aborted(leaky: DataLayer, key: TaskKey, age: Aging) -> None:
    attempt, writer = begin_upload(leaky, key)
    attempt.output().put("x", b"1")
    age(leaky, "", 25)
    age.uploads(leaky, 25)
    (one,) = sweep(leaky)
    assert (one.outcome, one.files, one.uploads) == (REMOVED, 1, 1)
    with pytest.raises(StoreError):
        writer.close()
    assert [info.path for info in leaky.data.list("") if info.path.endswith("big")] == []


def test_unfinished_uploads_beside_a_committed_output_are_aborted(leaky: DataLayer, key: TaskKey, age: Aging) -> None:
    attempt, writer = begin_upload(leaky, key)
    attempt.output().put("x", b"1")
    attempt.commit()
    age.uploads(leaky, 25)
    (one,) = sweep(leaky)
    assert one == Swept(REMOVED, "/aviation/flights/extract", uploads=1, detail="unfinished uploads")
    with pytest.raises(StoreError):
        writer.close()
    assert leaky.resolve(key)["default"].read_bytes("x") == b"1"


def test_young_uploads_are_left_alone_whatever_the_time_to_live(leaky: DataLayer, key: TaskKey) -> None:
    attempt, writer = begin_upload(leaky, key)
    attempt.output().put("x", b"1")
    assert outcomes(sweep(leaky, older_than=timedelta(days=-1))) == [(REMOVED, 1)]
    writer.close()


def test_a_living_attempt_keeps_its_old_upload(leaky: DataLayer, key: TaskKey, age: Aging) -> None:
    publish(leaky, TaskKey("aviation", "flights", "extract", "20130102T000000Z"), 1)
    with leaky.publish(key) as attempt, attempt.output().open("big") as file:
        file.write(b"x" * (20 << 20))
        age(leaky, "", 25)
        age.uploads(leaky, 25)
        leaky.home.put(f"{layout.attempt_path(key, 1)}/{layout.ALIVE}", b"")
        assert outcomes(sweep(leaky)) == [(ALIVE, 1)]
        file.write(b"y")
    assert len(leaky.resolve(key)["default"].read_bytes("big")) == (20 << 20) + 1
