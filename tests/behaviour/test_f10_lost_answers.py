"""F10: a request is applied and its answer never arrives. The retry is refused, and we know our own commit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from datalayer import CommitStateUnknownError, DataLayer, TaskKey
from datalayer.addresses import layout
from datalayer.commit.claims import attempt_numbers
from tests.services.faultproxy import Fault, FaultProxy


def publish(layer: DataLayer, key: TaskKey, data: bytes) -> int:
    with layer.publish(key) as attempt:
        attempt.output().put("a", data)
    return attempt.number


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("superseding", [False, True], ids=["first", "superseding"])
@pytest.mark.parametrize("fault", [Fault(drop_answer=True), Fault(delay_answer=1.5)], ids=["dropped", "late"])
def test_f10_a_commit_whose_answer_is_lost_is_recognised(
    proxied: Callable[..., DataLayer],
    key: TaskKey,
    fault_proxy: FaultProxy,
    fault: Fault,
    superseding: bool,
    times: int,
) -> None:
    layer = proxied(timeout=0.5, deadline=10)
    if superseding:
        publish(layer, key, b"old")
    fault_proxy.script(fault, kind="PUT", path="/manifest.json", skip=int(superseding), times=times)
    number = publish(layer, key, b"new")
    resolution = layer.resolve(key)
    assert resolution.attempt == number == 1 + superseding
    assert resolution["default"].read_bytes("a") == b"new"


def test_f10_a_claim_whose_answer_is_lost_is_recognised(
    proxied: Callable[..., DataLayer], key: TaskKey, fault_proxy: FaultProxy
) -> None:
    layer = proxied(timeout=0.5, deadline=10)
    fault_proxy.script(Fault(drop_answer=True), kind="PUT", path="/claim.json")
    assert publish(layer, key, b"1") == 1
    assert attempt_numbers(layer.home, key) == [1]


def test_f10_a_commit_that_cannot_be_known_says_so_and_loses_nothing(
    proxied: Callable[..., DataLayer], key: TaskKey, fault_proxy: FaultProxy
) -> None:
    layer = proxied(timeout=0.5, deadline=1)
    attempt = layer.publish(key)
    attempt.output().put("a", b"1")
    fault_proxy.script(Fault(drop_answer=True), path="/manifest.json", times=-1)
    with pytest.raises(CommitStateUnknownError, match="resolve the key to see") as caught, attempt:
        pass
    assert caught.value.retryable
    fault_proxy.reset()
    assert layer.resolve(key)["default"].read_bytes("a") == b"1"
    assert layer.home.head(f"{layout.output_path(key, 1, 'default')}/a").size == 1


def test_f10_a_commit_that_never_arrived_leaves_nothing_visible(
    proxied: Callable[..., DataLayer], key: TaskKey, fault_proxy: FaultProxy
) -> None:
    layer = proxied(timeout=0.5, deadline=10)
    fault_proxy.script(Fault(drop_request=True), kind="PUT", path="/manifest.json")
    assert publish(layer, key, b"1") == 1
    assert layer.resolve(key).attempt == 1
