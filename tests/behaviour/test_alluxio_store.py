"""Committed files read through Alluxio: what comes from where, and what Alluxio is told."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pytest

from datalayer import DataLayer, TaskKey
from tests.behaviour.on_alluxio import OnAlluxio, eventually, hot_receipt, published, store_of
from tests.services.faults import Fault

SOON = timedelta(hours=1)
NAMES = ["plain", "a=b.bin", "p%2Fq +x&y;z'!20.txt", "ü/é#1.bin", "deep/er/and/deeper.bin", 'quote".bin']
# The proxy would answer with another file.
NOT_LITERAL = ["w?x"]


@pytest.fixture
def layer(on_alluxio: OnAlluxio) -> DataLayer:
    return on_alluxio.layer()


def test_warm_reads_ask_s3_for_nothing(on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey) -> None:
    files = {"big.bin": os.urandom(23_000_000), "small.bin": b"small", "empty.bin": b""}
    output = published(layer, key, files)
    assert output.tier == "hot"
    on_alluxio.warm(output)
    on_alluxio.s3.reset()
    again = on_alluxio.layer()
    output = again.resolve(key)["default"]
    assert dict(output.read_many()) == files
    assert {name: b"".join(output.stream(name)) for name in files} == files
    store, path = output.store_path("big.bin")
    assert store.get_range(path, 9_000_000, 5_000_000) == files["big.bin"][9_000_000:14_000_000]
    with output.open("big.bin") as file:
        file.seek(20_000_000)
        assert file.read() == files["big.bin"][20_000_000:]
        file.seek(5)
        assert file.read(5) == files["big.bin"][5:10]
    assert on_alluxio.data_gets() == 0
    receipt = hot_receipt(again)
    assert receipt.misses == {}
    assert receipt.bytes_hit == receipt.bytes_read >= 2 * 23_000_005 + 8_000_000
    assert "cold" not in again.receipt.by_tier() or again.receipt.by_tier()["cold"].bytes_read < 10_000


def test_the_first_read_has_alluxio_fetch_each_byte_once(on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey) -> None:
    data = os.urandom(23_000_000)
    output = published(layer, key, {"big.bin": data})
    on_alluxio.s3.reset()
    assert output.read_bytes("big.bin") == data
    eventually(lambda: on_alluxio.resident(output, "big.bin") == len(data))
    assert on_alluxio.data_gets() <= 2
    assert hot_receipt(layer).bytes_hit == len(data)


def test_odd_names_are_taken_for_what_they_are(on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey) -> None:
    files = {name: name.encode() * 1000 for name in (*NAMES, *NOT_LITERAL, "w")}
    output = published(layer, key, files)
    assert {name: output.read_bytes(name) for name in files} == files
    assert hot_receipt(layer).misses == {"name not supported": len(NOT_LITERAL)}
    store = store_of(layer)
    paths = [output.store_path(name)[1] for name in files]
    store.pin(paths, datetime.now(UTC) + SOON)
    assert all(on_alluxio.folder.status(output.store_path(name)[1])["pinned"] for name in NAMES)
    store.evict(paths)
    assert store.resident(output.store_path(NOT_LITERAL[0])[1], 3000) == 0
    assert output.spark_uris()[list(output.files).index("w?x")].startswith("s3a://")


def test_parquet_is_read_as_a_dataset(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    mount = on_alluxio.folder.mount
    layer = on_alluxio.layer(**{"mount": str(mount)} if mount else {})
    table = pyarrow.table({"n": range(300_000), "text": [f"row {n}" for n in range(300_000)]})
    with layer.publish(key) as attempt:
        for part in range(3):
            with attempt.output().open(f"part={part}/data.parquet") as file:
                pyarrow.parquet.write_table(table.slice(part * 100_000, 100_000), file, row_group_size=10_000)
    output = layer.resolve(key)["default"]
    on_alluxio.warm(output)
    on_alluxio.s3.reset()
    assert output.dataset().to_table().sort_by("n").equals(table)
    assert output.dataset().to_table(columns=["n"], filter=pyarrow.compute.field("n") >= 299_999).to_pydict() == {
        "n": [299_999]
    }
    assert on_alluxio.data_gets() == 0
    assert hot_receipt(layer).misses == {}
    assert (output.local_path("part=0/data.parquet") is None) == (mount is None)
    # What FUSE shows is not mapped: its end would be that of the reader.
    assert "map" not in hot_receipt(layer).calls


def test_copies_are_dropped_pinned_and_counted(on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey) -> None:
    files = {"a.bin": os.urandom(3_000_000), "b.bin": b"b"}
    output = published(layer, key, files)
    store = store_of(layer)
    a, b = (output.store_path(name)[1] for name in files)
    assert store.resident(a, 3_000_000) == 0
    # Nobody has asked Alluxio for it yet.
    store.pin([b], datetime.now(UTC) + SOON)
    assert on_alluxio.folder.status(b)["pinned"]
    on_alluxio.warm(output)
    assert [store.resident(a, 3_000_000), store.resident(b, 1)] == [3_000_000, 1]
    usage = store.usage()
    assert usage is not None
    assert 3_000_001 <= usage.used <= usage.capacity
    store.evict([a, b, f"{key.path}/attempts/1/default/never.bin"])
    eventually(lambda: store.resident(a, 3_000_000) == store.resident(b, 1) == 0)
    # Who pins wants the copies kept that will be made.
    assert on_alluxio.folder.status(b)["pinned"]
    store.unpin([a, b])
    assert not on_alluxio.folder.status(b)["pinned"]
    assert dict(output.read_many()) == files


def test_a_folder_is_dropped_with_all_that_lies_below(on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey) -> None:
    output = published(layer, key, {"a.bin": os.urandom(3_000_000), "deep/b.bin": b"b"})
    on_alluxio.warm(output)
    store_of(layer).evict([key.path])
    eventually(lambda: on_alluxio.resident(output, "a.bin") == on_alluxio.resident(output, "deep/b.bin") == 0)


def test_parts_of_one_block_are_asked_for_once(on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey) -> None:
    data = os.urandom(6_000_000)
    output = published(layer, key, {"a.bin": data})
    on_alluxio.warm(output)
    store, path = output.store_path("a.bin")
    on_alluxio.proxy.reset()
    for at in range(100, 4_000_000, 200_000):
        assert store.get_range(path, at, 100_000) == data[at : at + 100_000]
    assert on_alluxio.proxy.count("GET") == 1
    # Who wants all of it gets it from Alluxio, and not from this process.
    assert output.read_bytes("a.bin") == data
    assert on_alluxio.proxy.count("GET") == 2
    assert hot_receipt(layer).misses == {}


def test_a_forked_child_reads_on(on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey) -> None:
    data = os.urandom(6_000_000)
    output = published(layer, key, {"a.bin": data})
    on_alluxio.warm(output)
    child = os.fork()
    if not child:
        os._exit(0 if output.read_bytes("a.bin") == data and not hot_receipt(layer).misses else 1)
    # On connections of its own.
    assert output.read_bytes("a.bin") == data
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert output.read_bytes("a.bin") == data
    assert hot_receipt(layer).misses == {}


def test_connections_are_kept(on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey) -> None:
    output = published(layer, key, {"a.bin": b"a"})
    on_alluxio.warm(output)
    kept = store_of(layer)._proxy._connections._idle
    first = [idle.connection for idle in kept]
    assert len(first) == 1
    assert output.read_bytes("a.bin") == b"a"
    assert store_of(layer).resident(output.store_path("a.bin")[1], 1) == 1
    assert [idle.connection for idle in kept] == first
    # One that is closed meanwhile, which shows only once it is asked.
    on_alluxio.proxy.script(Fault(drop_request=True), kind="GET")
    assert output.read_bytes("a.bin") == b"a"
    assert hot_receipt(layer).misses == {}


def test_what_is_not_committed_is_not_asked_of_alluxio(on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey) -> None:
    attempt = layer.publish(key)
    attempt.output().put("a", b"a")
    store = store_of(layer)
    path = f"{key.path}/attempts/1/default/a"
    assert store.get(path)[0] == b"a"
    assert [info.path for info in store.list(f"{key.path}/attempts/1/default")] == [path]
    assert on_alluxio.proxy.count() == 0
    attempt.commit()


def test_a_path_of_this_machine_is_one_below_the_mount(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    mount = on_alluxio.folder.mount
    if mount is None:
        pytest.skip("this machine has no FUSE")
    output = published(on_alluxio.layer(mount=str(mount)), key, {"a=b.bin": b"a", "emoji 👩.bin": b"e"})
    path = output.local_path("a=b.bin")
    assert path is not None
    assert path.is_relative_to(mount)
    assert path.read_bytes() == b"a"
    # Its FUSE cannot name it; so the folder cannot be read as one.
    assert output.local_path("emoji 👩.bin") is None
    assert output.path is None
    assert output.read_bytes("emoji 👩.bin") == b"e"


@pytest.mark.parametrize("shown", ["a file", "its folder"])
def test_engines_find_no_copies_of_what_lay_there_before(on_alluxio: OnAlluxio, key: TaskKey, shown: str) -> None:
    def through_alluxio() -> bytes:
        layer = on_alluxio.layer()
        output = layer.resolve(key)["default"]
        uri = output.spark_uris()[0] if shown == "a file" else output.spark_uri
        assert uri.startswith("alluxio://")
        return b"".join(store_of(layer)._proxy.read(output.store_path("deep/a.bin")[1], 100_000, 0, 100_000))

    before, after = os.urandom(100_000), os.urandom(100_000)
    on_alluxio.warm(published(on_alluxio.layer(), key, {"deep/a.bin": before}))
    assert through_alluxio() == before
    # The root is emptied and used again: the same attempt, with other bytes.
    cold = on_alluxio.layer().home
    cold.delete([info.path for info in cold.list("")])
    published(on_alluxio.layer(write_type="THROUGH"), key, {"deep/a.bin": after})
    assert through_alluxio() == after


@pytest.mark.parametrize("folder", ["there", "not there"])
def test_a_folder_that_fuse_does_not_show_is_no_mount(
    on_alluxio: OnAlluxio, key: TaskKey, tmp_path: os.PathLike[str], folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    output = published(
        on_alluxio.layer(mount=f"{tmp_path}/{folder}" if folder == "not there" else str(tmp_path)), key, {"a": b"a"}
    )
    assert output.path is None
    assert output.local_path("a") is None
    assert [record.levelname for record in caplog.records if "hot.mount" in record.message] == ["WARNING"]
    assert output.read_bytes("a") == b"a"
