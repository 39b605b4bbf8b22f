"""The hot tier's verbs on a cache folder in front of a real S3 server, whose own requests are counted."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import msgspec
import pyarrow
import pyarrow.parquet
import pytest

from datalayer import DataLayer, StoreUnavailableError, TaskKey
from datalayer.config import HotConfig
from datalayer.hot.ledger import LEDGER
from datalayer.stores.node_cache import NodeCache
from tests.behaviour.conftest import s3_config
from tests.behaviour.environment import environment_of
from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server

RUN = "20130101T000000Z"
ROOT = Path(__file__).parents[2]
MIB = 1 << 20


def key(task: str) -> TaskKey:
    return TaskKey("team", "dag", task, RUN)


@pytest.fixture
def cached(versitygw: S3Server, fault_proxy: FaultProxy, tmp_path: Path) -> Callable[..., DataLayer]:
    """Makes a layer on S3, through a proxy, and on one cache folder."""
    base = s3_config(versitygw, versitygw.new_bucket(), fault_proxy.endpoint)

    def make(budget: str = "100MB", folder: str = "hot", write_type: str = "THROUGH") -> DataLayer:
        hot = HotConfig(url=str(tmp_path / folder), budget=budget, write_type=write_type)
        return DataLayer(msgspec.structs.replace(base, design="hot-cold", hot=hot))

    return make


def publish(layer: DataLayer, task: str, files: dict[str, int]) -> None:
    with layer.publish(key(task)) as attempt:
        for name, size in files.items():
            attempt.output().put(name, random.Random(name).randbytes(size))


def data_gets(proxy: FaultProxy) -> int:
    """How many GETs of files of outputs the S3 server has had."""
    paths = [unquote(request.path) for request in proxy.requests if request.kind == "GET"]
    return sum("/default/" in path and f"/{LEDGER}/" not in path for path in paths)


def test_what_was_warmed_is_read_without_the_s3_server(
    cached: Callable[..., DataLayer], fault_proxy: FaultProxy
) -> None:
    layer = cached()
    publish(layer, "a", {"large": 9 * MIB + 5, "small": 1000, "empty": 0})
    made = layer.hot.warm(key("a"), parallel=4)
    assert (made.files, made.fetched, made.hot) == (3, 9 * MIB + 1005, 0)
    fault_proxy.reset()
    # Another process's layer, over the same folder.
    layer = cached()
    again = layer.hot.warm(key("a"))
    assert (again.fetched, again.hot) == (0, 9 * MIB + 1005)
    output = layer.resolve(key("a"))["default"]
    assert output.read_bytes("large") == random.Random("large").randbytes(9 * MIB + 5)
    assert output.local_path("large") is not None
    assert data_gets(fault_proxy) == 0
    assert layer.hot.evict(key("a"))
    assert (layer.hot.status(key("a")).hot, output.local_path("large")) == (0, None)


def test_warmed_columns_are_read_without_the_s3_server(
    cached: Callable[..., DataLayer], fault_proxy: FaultProxy
) -> None:
    layer = cached()
    table = pyarrow.table(_columns(150_000))
    with layer.publish(key("t")) as attempt, attempt.output().open("t.parquet") as file:
        pyarrow.parquet.write_table(table, file, row_group_size=50_000, compression="none", use_dictionary=False)
    size = layer.resolve(key("t"))["default"].output.bytes
    made = cached().hot.warm(key("t"), columns=["one"])
    assert made.bytes < 1.4 * MIB
    assert made.fetched < size / 2
    fault_proxy.reset()
    output = cached().resolve(key("t"))["default"]
    assert output.dataset().to_table(columns=["one"]).column("one").equals(table.column("one"))
    held = data_gets(fault_proxy)
    output.dataset().to_table(columns=["wide"])
    # A reader looks a little ahead, beyond the columns.
    assert held <= 3 < data_gets(fault_proxy)


def _columns(count: int) -> dict[str, pyarrow.Array]:
    some = random.Random(1)
    wide = pyarrow.array([some.randbytes(60) for _ in range(count)])
    return {"one": pyarrow.array(range(count)), "wide": wide, "other": wide}


def test_a_pin_holds_against_what_others_read(cached: Callable[..., DataLayer]) -> None:
    layer = cached("4MB")
    for task in ("pinned", "loose", *(f"other-{number}" for number in range(4))):
        publish(layer, task, {"f": MIB})
    for task in ("pinned", "loose"):
        layer.hot.warm(key(task))
    layer.hot.pin(key("pinned"), "me")
    for number in range(4):
        layer.resolve(key(f"other-{number}"))["default"].read_bytes("f")
    assert layer.hot.status(key("pinned")).hot == MIB
    assert layer.hot.status(key("loose")).hot == 0
    layer.hot.unpin(key("pinned"), "me")
    for number in range(4):
        layer.resolve(key(f"other-{number}"))["default"].read_bytes("f")
    assert layer.hot.status(key("pinned")).hot == 0


def test_the_budget_is_kept_by_what_the_disk_takes(cached: Callable[..., DataLayer]) -> None:
    layer = cached("1MB")
    for task in "abc":
        publish(layer, task, {f"f{number}": 100 for number in range(30)})
    layer.hot.warm(key("a"))
    layer.hot.warm(key("b"))
    # 3,000 bytes of files: it is the copies' folders that take the room.
    assert layer.hot.warm(key("c")).evicted == (f"{key('a')}@1/default",)
    assert [layer.hot.status(key(task)).hot for task in "abc"] == [0, 3000, 3000]
    assert isinstance(layer.hot_store, NodeCache)
    assert layer.hot_store.usage().held <= 1_000_000


def test_what_is_written_through_is_warm_already(cached: Callable[..., DataLayer], fault_proxy: FaultProxy) -> None:
    layer = cached(write_type="CACHE_THROUGH")
    publish(layer, "a", {"f": MIB})
    fault_proxy.reset()
    layer.hot.committed(key("a"), readers=[key("b")])
    (status,) = layer.hot.status().outputs
    assert (status.hot, len(status.leases)) == (MIB, 1)
    assert data_gets(fault_proxy) == 0


def test_a_folder_that_keeps_nothing_is_said(cached: Callable[..., DataLayer], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    layer = cached(folder="file/hot")
    publish(layer, "a", {"f": 1000})
    with pytest.raises(
        StoreUnavailableError, match=r"does not hold 1000 of the bytes it was warmed with \(.*cache folder"
    ):
        layer.hot.warm(key("a"))
    assert len(layer.resolve(key("a"))["default"].read_bytes("f")) == 1000


CRASHING = """
import os, signal, sys
from datetime import timedelta
from datalayer import DataLayer, TaskKey

layer = DataLayer.from_env()
key = TaskKey.parse(sys.argv[1])
layer.hot.pin(key, "crashing", timedelta(seconds=float(sys.argv[2])))
layer.hot.warm(key, parallel=1, progress=lambda done, total: done > 3 << 20 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_process_that_is_killed_leaves_no_pin_behind(cached: Callable[..., DataLayer], tmp_path: Path) -> None:
    layer = cached("20MB")
    publish(layer, "a", {f"{number}": MIB for number in range(8)})
    environment = environment_of(layer) | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", CRASHING, str(key("a")), "15"], env=environment, timeout=120, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    (status,) = layer.hot.status().outputs
    assert 3 * MIB <= status.hot < 8 * MIB
    assert [lease.holder for lease in status.leases] == ["crashing"]
    left = status.leases[0].until + timedelta(seconds=1) - datetime.now(UTC)
    pins = tmp_path / "hot" / "pins"
    assert len(list(pins.iterdir())) == 8
    time.sleep(max(0.0, left.total_seconds()))
    (status,) = layer.hot.status().outputs
    assert (status.leases, list(pins.iterdir())) == ((), [])
    # What was warmed was noted before the bytes came, so that it can go.
    publish(layer, "b", {"f": 12 * MIB})
    assert layer.hot.warm(key("b")).evicted == (f"{key('a')}@1/default",)
