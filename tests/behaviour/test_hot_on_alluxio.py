"""The hot tier's verbs on the real Alluxio, in front of a real S3 server whose requests are counted."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import timedelta

import pyarrow
import pyarrow.parquet
import pytest

from datalayer import DataLayer, StoreUnavailableError, TaskKey
from datalayer.doctor import OK, WARNING, doctor
from tests.behaviour.on_alluxio import OnAlluxio, eventually

RUN = "20130101T000000Z"
MIB = 1 << 20


def key(task: str) -> TaskKey:
    return TaskKey("team", "dag", task, RUN)


def publish(layer: DataLayer, task: str, files: dict[str, int]) -> None:
    with layer.publish(key(task)) as attempt:
        for name, size in files.items():
            attempt.output().put(name, random.Random(name).randbytes(size))


def is_pinned(on_alluxio: OnAlluxio, task: str, name: str = "f") -> bool:
    return bool(on_alluxio.folder.status(f"{key(task).path}/attempts/1/default/{name}")["pinned"])


def test_what_was_warmed_is_read_without_the_s3_server(on_alluxio: OnAlluxio) -> None:
    layer = on_alluxio.layer()
    publish(layer, "a", {"large": 9 * MIB + 5, "small": 1000, "a b/ü%2F": 10})
    assert layer.hot.status(key("a")).hot == 0
    made = layer.hot.warm(key("a"))
    assert (made.files, made.bytes, made.fetched, made.hot) == (3, 9 * MIB + 1015, 9 * MIB + 1015, 0)
    on_alluxio.s3.reset()
    layer = on_alluxio.layer()
    again = layer.hot.warm(key("a"))
    assert (again.fetched, again.hot) == (0, 9 * MIB + 1015)
    assert layer.resolve(key("a"))["default"].read_bytes("large") == random.Random("large").randbytes(9 * MIB + 5)
    assert on_alluxio.data_gets() == 0
    status = layer.hot.status()
    assert (status.hot, status.teams[0].team) == (9 * MIB + 1015, "team")
    layer.hot.evict(key("a"))
    eventually(lambda: layer.hot.status(key("a")).hot == 0)


def test_columns_are_warmed(on_alluxio: OnAlluxio) -> None:
    layer = on_alluxio.layer()
    table = pyarrow.table({"one": list(range(100_000)), "other": [f"{n:060d}" for n in range(100_000)]})
    with layer.publish(key("t")) as attempt:
        attempt.output().write_table(table)
    made = layer.hot.warm(key("t"), columns="one")
    assert 0 < made.bytes < layer.resolve(key("t"))["default"].output.bytes
    # Alluxio keeps whole blocks, which are larger than this file.
    assert made.fetched >= made.bytes


def test_pins_are_alluxios_own_and_end_with_the_last_lease(on_alluxio: OnAlluxio) -> None:
    layer = on_alluxio.layer()
    publish(layer, "a", {"f": 1000})
    publish(layer, "b", {"f": 1000})
    layer.hot.pin(key("a"), "me")
    layer.hot.pin(key("a"), "crashed", timedelta(seconds=3))
    assert is_pinned(on_alluxio, "a")
    layer.hot.unpin(key("a"), "me")
    assert is_pinned(on_alluxio, "a")
    time.sleep(3.5)
    # Nobody tells Alluxio before somebody runs a verb.
    assert is_pinned(on_alluxio, "a")
    layer.hot.warm(key("b"))
    assert not is_pinned(on_alluxio, "a")


@pytest.mark.parametrize(("write_type", "hot"), [("CACHE_THROUGH", True), ("THROUGH", False)])
def test_cache_through_warms_what_is_committed(on_alluxio: OnAlluxio, write_type: str, hot: bool) -> None:
    layer = on_alluxio.layer(write_type=write_type)
    publish(layer, "a", {"f": 5 * MIB})
    assert layer.hot.status(key("a")).hot == (5 * MIB if hot else 0)


def test_a_workflow_on_alluxio(on_alluxio: OnAlluxio) -> None:
    layer = on_alluxio.layer()
    publish(layer, "a", {"f": MIB})
    layer.hot.committed(key("a"), readers=[key("b"), key("c")])
    assert (layer.hot.status(key("a")).hot, is_pinned(on_alluxio, "a")) == (MIB, True)
    layer.hot.finished(key("b"), [key("a")])
    assert is_pinned(on_alluxio, "a")
    layer.hot.finished(key("c"), [key("a")])
    assert not is_pinned(on_alluxio, "a")


def test_past_the_budget_the_coldest_goes(on_alluxio: OnAlluxio) -> None:
    layer = on_alluxio.layer(budget=5 * MIB)
    for task in "abc":
        publish(layer, task, {"f": 2 * MIB})
    layer.hot.warm(key("a"))
    layer.hot.warm(key("b"))
    assert layer.hot.warm(key("c")).evicted == (f"{key('a')}@1/default",)
    eventually(lambda: layer.hot.status(key("a")).hot == 0)
    assert [layer.hot.status(key(task)).hot for task in "bc"] == [2 * MIB, 2 * MIB]


def test_an_alluxio_that_does_not_answer_is_an_error_here_and_none_for_readers(
    on_alluxio: OnAlluxio, broken: Callable[[], DataLayer]
) -> None:
    publish(on_alluxio.layer(), "a", {"f": 1000})
    layer = broken()
    with pytest.raises(StoreUnavailableError) as caught:
        layer.hot.warm(key("a"))
    assert caught.value.retryable
    assert len(layer.resolve(key("a"))["default"].read_bytes("f")) == 1000
    layer.hot.committed(key("a"), readers=[key("b")])
    status = layer.hot.status()
    assert status.unavailable
    assert len(status.outputs) == 1


@pytest.fixture
def broken(on_alluxio: OnAlluxio) -> Callable[[], DataLayer]:
    from tests.services.process import free_port

    return lambda: on_alluxio.layer(proxy=f"http://127.0.0.1:{free_port()}")


def test_doctor_finds_nothing_wrong(on_alluxio: OnAlluxio) -> None:
    findings = [finding for finding in doctor(on_alluxio.layer(budget="100MB")) if finding.tier == "hot"]
    assert {finding.status for finding in findings} == {OK}, findings
    findings = [finding for finding in doctor(on_alluxio.layer(budget="100GB")) if finding.tier == "hot"]
    assert [finding.check for finding in findings if finding.status == WARNING] == ["budget"]
