"""What a task costs in requests, counted at the server's door."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from datalayer import DataLayer, TaskKey
from tests.services.faultproxy import FaultProxy


@pytest.fixture
def layer(proxied: Callable[..., DataLayer]) -> DataLayer:
    return proxied()


def requests(proxy: FaultProxy) -> list[str]:
    return [f"{request.kind} {request.path.rpartition('20130101T000000Z/')[2]}" for request in proxy.requests]


def test_a_small_task_takes_five_requests_in_all(layer: DataLayer, key: TaskKey, fault_proxy: FaultProxy) -> None:
    upstream = TaskKey("aviation", "flights", "upstream", key.run)
    with layer.publish(upstream) as attempt:
        attempt.output().put("in", b"x" * 1_000_000)
    fault_proxy.reset()
    read = layer.resolve(upstream)
    with layer.publish(key, inputs=[read.pin("upstream")]) as attempt:
        attempt.output().put("out", read["default"].read_bytes("in"))
    assert requests(fault_proxy) == [
        "GET manifest.json",
        "PUT attempts/1/claim.json",
        "GET attempts/1/default/in",
        "PUT attempts/1/default/out",
        "PUT manifest.json",
    ]


@pytest.mark.parametrize("parts", [1, 1000, 1500])
def test_a_commit_is_one_conditional_put_whatever_the_part_count(
    layer: DataLayer, key: TaskKey, fault_proxy: FaultProxy, parts: int
) -> None:
    attempt = layer.publish(key)
    for number in range(parts):
        attempt.output().put(f"part-{number:05}", b"x")
    fault_proxy.reset()
    attempt.commit()
    index = ["PUT attempts/1/index/default.json.gz"] if parts > 1000 else []
    assert requests(fault_proxy) == [*index, "PUT manifest.json"]
    head = fault_proxy.requests[-1]
    assert head.headers["if-none-match"] == "*"
    fault_proxy.reset()
    output = layer.resolve(key)["default"]
    assert requests(fault_proxy) == ["GET manifest.json"]
    assert len(output.files) == parts
    assert fault_proxy.count("LIST") == 0
    assert fault_proxy.count() == 1 + len(index)


def test_a_pinned_resolve_asks_once(layer: DataLayer, key: TaskKey, fault_proxy: FaultProxy) -> None:
    with layer.publish(key) as attempt:
        attempt.output().put("a", b"1")
    fault_proxy.reset()
    for _ in range(10):
        layer.resolve(key, attempt=1)
    assert fault_proxy.count() <= 1
    fault_proxy.reset()
    for _ in range(10):
        layer.resolve(key)
    assert requests(fault_proxy) == ["GET manifest.json"] * 10
