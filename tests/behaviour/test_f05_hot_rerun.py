"""F5 through Alluxio: an address is run again while Alluxio holds its old files. Nobody reads old bytes late, or mixed ones."""

from __future__ import annotations

import threading

import pytest

from datalayer import DataLayer, TaskKey
from tests.behaviour.generations import BIG, contents, publish
from tests.behaviour.on_alluxio import OnAlluxio, hot_receipt


@pytest.fixture
def layer(on_alluxio: OnAlluxio) -> DataLayer:
    return on_alluxio.layer()


def test_a_resolve_after_the_commit_is_new_and_one_before_stays_whole(
    on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey
) -> None:
    publish(layer, key, 1)
    old = layer.resolve(key)["default"]
    on_alluxio.warm(old)
    with old.open("big.bin") as file:
        first = file.read(1000)
        publish(layer, key, 2)
        new = layer.resolve(key)["default"]
        assert dict(new.read_many()) == contents(2)
        assert first + file.read() == contents(1)["big.bin"]
    assert dict(old.read_many()) == contents(1)
    assert b"".join(old.stream("big.bin")) == b"\1" * BIG
    assert dict(on_alluxio.layer().resolve(key)["default"].read_many()) == contents(2)
    assert {old.tier, new.tier} == {"hot"}
    assert hot_receipt(layer).misses == {}


def test_readers_beside_a_publisher_see_whole_generations_that_never_go_back(
    on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey
) -> None:
    last = 12
    committed = 1
    publish(layer, key, 1)

    def publish_all() -> None:
        nonlocal committed
        for generation in range(2, last + 1):
            with layer.publish(key) as attempt:
                for name in ("a", "b", f"only-{generation}"):
                    attempt.output().put(name, bytes([generation]) * 100_000)
            committed = generation

    publisher = threading.Thread(target=publish_all)
    reader = on_alluxio.layer()
    publisher.start()
    seen = [1]
    while seen[-1] < last:
        assert publisher.is_alive() or committed == last
        least = committed
        found = dict(reader.resolve(key)["default"].read_many())
        generation = next(iter(found.values()))[0]
        if generation > 1:
            assert found == {name: bytes([generation]) * 100_000 for name in ("a", "b", f"only-{generation}")}
        assert generation >= max(least, seen[-1])
        seen.append(generation)
    publisher.join()
    assert hot_receipt(reader).bytes_hit
