"""P10: 64 processes touch one output first: one download. With eviction and kill -9 running: no corrupt read. fsspec's simplecache beside it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from datalayer import Config, DataLayer, TaskKey
from datalayer.config import HotConfig
from tests.behaviour.conftest import s3_config
from tests.behaviour.touching import SIZES, TOTAL, Crowd, ThroughLayer, ThroughSimpleCache, chaos, content, touch_all
from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server

RIVAL_READS = 10_000
PROCESSES = 64
RIVALS = 16
"""Processes of the rival: s3fs needs a second to start."""


@pytest.fixture
def published(versitygw: S3Server, key: TaskKey) -> Config:
    """A bucket with an output in it."""
    config = s3_config(versitygw, versitygw.new_bucket(), timeout=60, deadline=300)
    with DataLayer(config).publish(key) as attempt:
        for name in SIZES:
            attempt.output().put(name, content(name))
    return config


def hot(config: Config, folder: Path, budget: str = "1GB", endpoint: str | None = None) -> Config:
    """The same, read through a cache folder."""
    test = config.connections["test"]
    connections = {"test": msgspec.structs.replace(test, endpoint=endpoint or test.endpoint)}
    return msgspec.structs.replace(
        config, design="hot-cold", hot=HotConfig(url=str(folder), budget=budget), connections=connections
    )


def test_p10_the_first_touch_of_64_processes_is_one_download(
    published: Config, fault_proxy: FaultProxy, key: TaskKey, tmp_path: Path
) -> None:
    config = hot(published, tmp_path / "cache", endpoint=fault_proxy.endpoint)
    with Crowd(touch_all, partial(ThroughLayer, config, key), PROCESSES) as crowd:
        assert crowd.all_say() == ["ready"] * PROCESSES
        fault_proxy.reset()
        crowd.tell("go")
        said = crowd.all_say()
    assert [wrong for wrong, _, _ in said if wrong] == []
    assert {reason for _, misses, _ in said for reason in misses} == {"not cached"}
    downloads = [request for request in fault_proxy.requests if request.kind == "GET"]
    assert sum(request.bytes_down for request in downloads) == TOTAL
    # The second touch is none.
    fault_proxy.reset()
    with Crowd(touch_all, partial(ThroughLayer, config, key), 4) as crowd:
        crowd.all_say()
        crowd.tell("go")
        assert crowd.all_say() == [([], {}, True)] * 4
    assert sum(request.bytes_down for request in fault_proxy.requests if "/default/" in request.path) == 0


@pytest.mark.parametrize(
    ("reads", "kills"), [(2_000, 30), pytest.param(100_000, 1_000, marks=pytest.mark.nightly)], ids=["test", "nightly"]
)
def test_p10_no_read_is_corrupt_while_copies_are_evicted_and_readers_killed(
    published: Config,
    key: TaskKey,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    reads: int,
    kills: int,
) -> None:
    # The budget has room for a part of the output, so that room is made all the time as well.
    config = hot(published, tmp_path / "cache", budget=f"{TOTAL * 3 // 4}B")
    evictor = ThroughLayer(config, key)
    paths = [evictor.output().store_path(name)[1] for name in SIZES]

    def evict(dice: random.Random) -> None:
        evictor.layer.hot_store.evict([dice.choice(paths)])

    counts = chaos(partial(ThroughLayer, config, key), evict, processes=PROCESSES, reads=reads, kills=kills)
    record_property("p10", dict(counts))
    print(f"P10: {dict(counts)}")  # noqa: T201  # a figure to look at
    assert counts.keys() == {"right", "killed", "evicted"}
    # Nothing is left that would stop or mislead whoever comes next.
    survivor = ThroughLayer(config, key).output()
    assert {name: survivor.read_bytes(name) for name in SIZES} == {name: content(name) for name in SIZES}


@pytest.mark.nightly
def test_p10_simplecache_beside_it(
    published: Config, key: TaskKey, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Judges nobody: it shows what the same reads, evictions and kills do to a cache that was not made for them."""
    connection = published.connections["test"]
    options = {
        "key": connection.access_key_id,
        "secret": connection.secret_access_key,
        "endpoint_url": connection.endpoint,
        "client_kwargs": {"region_name": connection.region},
        "skip_instance_cache": True,
    }
    store, path = DataLayer(published).resolve(key)["default"].store_path("tiny")
    folder = tmp_path / "simplecache"
    folder.mkdir()

    def evict(dice: random.Random) -> None:
        with contextlib.suppress(FileNotFoundError, IndexError):
            dice.choice(list(folder.iterdir())).unlink()

    rival = partial(ThroughSimpleCache, options, store.filesystem_path(path).removesuffix("/tiny"), str(folder))
    counts = chaos(rival, evict, processes=RIVALS, reads=RIVAL_READS, kills=5)
    failures = sum(count for what, count in counts.items() if what not in {"right", "wrong", "killed", "evicted"})
    record_property("p10-simplecache", dict(counts))
    print(f"simplecache: {counts['wrong']} corrupt of {counts['right'] + counts['wrong']} reads, {failures} failed")  # noqa: T201  # a figure for who runs it
    assert counts["right"] + counts["wrong"] >= RIVAL_READS
