"""A workflow's reads drive the hot tier: warm on commit, pinned until the last reader has finished."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from datalayer import DataLayer, InvalidKeyError, TaskKey
from datalayer.hot.ledger import LEDGER
from datalayer.hot.plan import ReadPlan
from tests.behaviour.hot import MemoryHot, hot_layer, memory_hot
from tests.behaviour.test_hot_pins import Clock

RUN = "20130101T000000Z"


def key(task: str) -> TaskKey:
    return TaskKey("team", "dag", task, RUN)


EXTRACT, LATE, EARLY, REPORT = map(key, ("extract", "late", "early", "report"))
PLAN = ReadPlan({LATE: [EXTRACT], EARLY: [EXTRACT], REPORT: [LATE, EARLY]})


def publish(layer: DataLayer, where: TaskKey, size: int = 100) -> None:
    with layer.publish(where) as attempt:
        attempt.output().put("f", b"x" * size)


def pinned(layer: DataLayer) -> set[str]:
    return {path.split("/")[2] for path in memory_hot(layer).pinned}


def hot(layer: DataLayer, where: TaskKey) -> int:
    return layer.hot.status(where).hot


@pytest.fixture
def layer() -> DataLayer:
    return hot_layer()


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING):
        yield caplog


def test_an_output_is_hot_from_its_commit_and_pinned_until_its_last_reader_has_finished(
    layer: DataLayer, log: pytest.LogCaptureFixture
) -> None:
    publish(layer, EXTRACT)
    layer.hot.committed(EXTRACT, readers=PLAN.readers(EXTRACT))
    assert (hot(layer, EXTRACT), pinned(layer)) == (100, {"extract"})
    (status,) = layer.hot.status().outputs
    assert [lease.holder for lease in status.leases] == [str(EARLY), str(LATE)]
    for reader in (LATE, EARLY):
        assert "extract" in pinned(layer)
        publish(layer, reader)
        layer.hot.committed(reader, readers=PLAN.readers(reader))
        layer.hot.finished(reader, inputs=PLAN.inputs(reader))
    # Released, not evicted.
    assert (hot(layer, EXTRACT), pinned(layer)) == (100, {"late", "early"})
    layer.hot.finished(REPORT, inputs=PLAN.inputs(REPORT))
    assert pinned(layer) == set()
    assert log.messages == []
    assert "hot" not in layer.receipt.by_tier() or not [
        reason for reason in layer.receipt.by_tier()["hot"].misses if reason != "no copy yet"
    ]


def test_finishing_counts_as_reading(layer: DataLayer) -> None:
    layer = hot_layer(250)
    for where in (EXTRACT, LATE):
        publish(layer, where)
        layer.hot.committed(where, readers=[REPORT])
    layer.hot.finished(REPORT, [LATE])
    layer.hot.finished(REPORT, [EXTRACT])
    publish(layer, EARLY)
    assert layer.hot.warm(EARLY).evicted == (f"{LATE}@1/default",)


def test_a_reader_that_never_finished_holds_nothing_for_ever(layer: DataLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    publish(layer, EXTRACT)
    layer.hot.committed(EXTRACT, readers=[LATE, EARLY])
    layer.hot.finished(LATE, [EXTRACT])
    clock.ahead = timedelta(hours=23)
    layer.hot.expire()
    assert pinned(layer) == {"extract"}
    clock.ahead = timedelta(hours=25)
    layer.hot.expire()
    assert pinned(layer) == set()


def test_without_readers_it_is_warmed_and_not_pinned(layer: DataLayer) -> None:
    publish(layer, EXTRACT)
    layer.hot.committed(str(EXTRACT))
    assert (hot(layer, EXTRACT), pinned(layer)) == (100, set())


def test_the_attempt_that_was_committed_is_warmed_even_if_another_follows(layer: DataLayer) -> None:
    publish(layer, EXTRACT, 100)
    publish(layer, EXTRACT, 120)
    layer.hot.committed(EXTRACT, readers=[LATE], attempt=1)
    assert [one.address for one in layer.hot.status().outputs] == [f"{EXTRACT}@1/default"]
    layer.hot.committed(EXTRACT, readers=[LATE], attempt=2)
    # Finishing releases what was held of either.
    layer.hot.finished(LATE, [EXTRACT])
    assert pinned(layer) == set()


def test_what_goes_wrong_after_a_commit_is_told_and_no_error(layer: DataLayer, log: pytest.LogCaptureFixture) -> None:
    publish(layer, EXTRACT)
    memory_hot(layer).failing = "connection refused"
    layer.hot.committed(EXTRACT, readers=[LATE])
    layer.hot.finished(LATE, [EXTRACT])
    first, second = log.messages
    assert f"{EXTRACT}@1/default was not warmed after its commit" in first
    assert "connection refused" in first
    assert f"the pin of {EXTRACT} for {LATE} was not taken back" in second
    assert set(layer.receipt.by_tier()["hot"].misses) == {
        "unavailable",
        "not warmed: StoreUnavailableError",
        "pin not taken back: StoreUnavailableError",
    }
    # Who reads later is served by the next best tier; the lease ends by itself.
    assert layer.resolve(EXTRACT)["default"].tier.value == "cold"
    memory_hot(layer).failing = None
    assert [lease.holder for lease in layer.hot.status(EXTRACT).outputs[0].leases] == [str(LATE)]


def test_what_does_not_fit_is_told_and_no_error(log: pytest.LogCaptureFixture) -> None:
    layer = hot_layer(250)
    with layer.publish(EXTRACT) as attempt:
        attempt.output("large").put("f", b"x" * 300)
        attempt.output("small").put("f", b"x" * 100)
    layer.hot.committed(EXTRACT, readers=[LATE])
    (told,) = log.messages
    assert f"{EXTRACT}@1/large was not warmed after its commit: " in told
    assert [(one.address, one.hot) for one in layer.hot.status().outputs] == [(f"{EXTRACT}@1/small", 100)]
    publish(layer, LATE, 200)
    layer.hot.committed(LATE, readers=[REPORT])
    assert f"{LATE}@1/default, file 'f', was not warmed" in log.messages[1]
    assert "the rest is pinned" in log.messages[1]


def test_a_fault_of_ours_fails_no_task_either(
    layer: DataLayer, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    publish(layer, EXTRACT)
    monkeypatch.setattr(MemoryHot, "pieces", broken)
    monkeypatch.setattr(MemoryHot, "unpin", broken)
    layer.hot.committed(EXTRACT, readers=[LATE])
    layer.hot.finished(LATE, [EXTRACT])
    assert len(log.messages) == 2
    assert {"not warmed: RuntimeError", "pin not taken back: RuntimeError"} <= set(
        layer.receipt.by_tier()["hot"].misses
    )


def test_what_was_not_committed_is_told(layer: DataLayer, log: pytest.LogCaptureFixture) -> None:
    layer.hot.committed(EXTRACT, readers=[LATE])
    assert "was not warmed after its commit" in log.text


def test_references_are_read_where_they_lie_and_that_is_no_failure(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "f").write_bytes(b"1")
    layer = hot_layer(references=[{"prefix": f"file://{tmp_path}"}])
    layer.reference(EXTRACT, f"file://{tmp_path}")
    layer.hot.committed(EXTRACT, readers=[LATE])
    layer.hot.finished(LATE, [EXTRACT])
    assert (log.messages, list(layer.home.list(LEDGER))) == ([], [])


def test_a_reader_is_a_key(layer: DataLayer) -> None:
    publish(layer, EXTRACT)
    with pytest.raises(InvalidKeyError, match="'late' is not an address"):
        layer.hot.committed(EXTRACT, readers=["late"])
    with pytest.raises(InvalidKeyError):
        layer.hot.finished("late", [EXTRACT])
    assert pinned(layer) == set()
