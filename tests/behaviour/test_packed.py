"""Packed outputs: small files in few objects, read like any others, refused where others would have to find them."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datalayer import (
    Config,
    DataLayer,
    InvalidKeyError,
    NotFoundError,
    NotPublishedError,
    NotSupportedError,
    PublishError,
    StoreFullError,
    TaskKey,
    Tier,
    VerificationError,
)
from datalayer.addresses import layout
from datalayer.addresses.runs import RunId
from datalayer.commit import packs as packing
from datalayer.commit.sweep import sweep
from datalayer.commit.verify import verify
from datalayer.config import HotConfig
from datalayer.resolve import packed as reading
from datalayer.resolve.output import ResolvedOutput
from datalayer.stores.base import StoreWriter
from datalayer.stores.memory import MemoryStore
from datalayer.testing.faults import Fault, FaultyStore
from tests.behaviour.conftest import s3_config, volume_layer
from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server

FILES = {f"part-{number:04}": random.Random(number).randbytes(number % 50) for number in range(300)}
LONG = random.Random(1).randbytes(packing.SMALL_BYTES + 1)


def publish(layer: DataLayer, key: TaskKey, files: dict[str, bytes]) -> ResolvedOutput:
    with layer.publish(key) as attempt:
        output = attempt.output(packed=True)
        for number, (name, data) in enumerate(files.items()):
            if number % 2:
                output.put(name, data)
            else:
                with output.open(name) as file:
                    file.write(data[:7])
                    file.write(data[7:])
    return layer.resolve(key)["default"]


def objects(layer: DataLayer, key: TaskKey) -> list[str]:
    folder = layout.output_path(key, 1, "default")
    return sorted(info.path.removeprefix(f"{folder}/") for info in layer.data.list(folder))


def damage(layer: DataLayer, output: ResolvedOutput, name: str) -> None:
    """Change a byte of one file in its pack."""
    entry = output.entry(name)
    path = f"{layout.output_path(output.key.task, 1, 'default')}/{entry.object}"
    data = bytearray(layer.data.get(path)[0])
    data[entry.offset] ^= 1
    layer.data.put(path, bytes(data))


def test_a_packed_output_is_read_in_every_way(layer: DataLayer, key: TaskKey) -> None:
    files = {**FILES, "deep/er.bin": LONG, "empty": b""}
    output = publish(layer, key, files)
    packs = output.output.packs
    assert packs is not None
    assert objects(layer, key) == sorted(["deep/er.bin", *(pack.name for pack in packs)])
    assert (output.packed, output.manifest.version, len(packs)) == (True, "1.1", 1)
    assert dict(output.read_many()) == files
    some = ["part-0299", "deep/er.bin", "part-0001", "part-0299", "empty"]
    assert list(output.read_many(some, parallel=2)) == [(name, files[name]) for name in some]
    for name in ("part-0049", "deep/er.bin", "empty"):
        data = files[name]
        assert output.read_bytes(name) == data
        assert b"".join(output.stream(name, chunk_size=5)) == data
        with output.open(name) as file:
            assert (file.read(3), file.seek(1), file.read()) == (data[:3], 1, data[1:])
            assert not file.writable()
        assert output.read_range(name, min(2, len(data)), len(data)) == data[2:]
    with pytest.raises(VerificationError, match="has 49 bytes, and 3 to 50 were asked for"):
        output.read_range("part-0049", 3, 50)
    with pytest.raises(NotFoundError, match="no file 'other'"):
        list(output.read_many(["part-0001", "other"]))
    fs = output.filesystem
    assert fs.cat(f"{output.uri}/part-0049") == files["part-0049"]
    assert fs.cat_file(f"{output.uri}/part-0049", 3, 9) == files["part-0049"][3:9]
    assert {info["name"].rpartition("/")[2] for info in fs.ls(output.uri)} == {*FILES, "deep", "empty"}
    assert fs.open(f"{output.uri}/part-0049").read() == files["part-0049"]
    verified = verify(layer, layer.resolve(key))
    assert (verified.files, verified.bytes, verified.problems) == (302, sum(map(len, files.values())), [])


def test_tables_in_packs_are_one_dataset(layer: DataLayer, key: TaskKey) -> None:
    with layer.publish(key) as attempt:
        for number in range(3):
            attempt.output(packed=True).write_table(pyarrow.table({"n": [number]}), f"k={number}/part.parquet")
    table = layer.resolve(key)["default"].dataset(partitioning="hive").to_table()
    assert sorted(table["n"].to_pylist()) == [0, 1, 2]
    assert sorted(table["k"].to_pylist()) == [0, 1, 2]


def test_what_others_would_have_to_find_is_refused(layer: DataLayer, key: TaskKey) -> None:
    output = publish(layer, key, {"a": b"1", "b": b"2"})
    assert (output.path, output.local_path("a")) == (None, None)
    for ask in (lambda: output.spark_uri, output.spark_uris):
        with pytest.raises(
            NotSupportedError, match=r"packed: 1 objects hold its small files, which Spark .*read_many\(\)"
        ):
            ask()
    with pytest.raises(NotSupportedError, match=r"lies in a pack.*read_bytes\(\)"):
        output.store_path("a")
    with layer.publish(TaskKey(key.team, key.dag_id, "other", key.run)) as attempt:
        writer = attempt.output(packed=True)
        assert writer.path is None
        with pytest.raises(NotSupportedError, match="is packed, which Spark cannot write"):
            _ = writer.spark_uri
        with pytest.raises(InvalidKeyError, match="keeps its packs"):
            writer.put("_packs/x", b"")
        with pytest.raises(PublishError, match="begun with packed=True"):
            attempt.output(packed=False)
        assert attempt.output() is writer
        writer.put("a", b"")


def test_packs_are_bounded_and_written_as_they_come(
    layer: DataLayer, key: TaskKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "PACK_BYTES", 1000)
    with layer.publish(key) as attempt:
        output = attempt.output(packed=True)
        for number in range(25):
            output.put(f"{number:02}", bytes([number]) * 100)
            if number == 20:
                folder = layout.output_path(key, 1, "default")
                assert len(list(layer.data.list(folder))) == 2
    read = layer.resolve(key)["default"]
    assert [pack.length for pack in read.output.packs or ()] == [1000, 1000, 500]
    assert dict(read.read_many()) == {f"{number:02}": bytes([number]) * 100 for number in range(25)}


def test_the_last_file_of_a_name_counts(layer: DataLayer, key: TaskKey) -> None:
    with layer.publish(key) as attempt:
        output = attempt.output(packed=True)
        output.put("a", b"old")
        output.put("b", b"old")
        output.put("a", b"new")
        output.put("b", LONG)
        output.put("c", LONG)
        output.put("c", b"new")
    assert dict(layer.resolve(key)["default"].read_many()) == {"a": b"new", "b": LONG, "c": b"new"}


def test_a_name_that_is_not_there_is_told_at_its_turn(layer: DataLayer, key: TaskKey) -> None:
    output = publish(layer, key, {"a": b"first", "b": b"second"})
    found = output.read_many(["a", "missing", "b"])
    assert next(found) == ("a", b"first")
    with pytest.raises(NotFoundError, match="no file 'missing'"):
        next(found)


def test_how_far_is_read_ahead_goes_by_the_files_that_are_wanted(
    key: TaskKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = volume_layer(tmp_path)
    with layer.publish(key) as attempt:
        output = attempt.output()
        for number in range(100):
            output.put(f"{number}", b"small")
        output.put("large", bytes(32 << 20))
    bounds: list[tuple[int, int, int]] = []

    def one_by_one(work: Callable[[str], Any], items: list[str], parallel: int, batch: int, ahead: int) -> Any:
        bounds.append((parallel, batch, ahead))
        return map(work, items)

    monkeypatch.setattr("datalayer.resolve.bulk.side_by_side", one_by_one)
    resolved = layer.resolve(key)["default"]
    assert [len(data) for _, data in resolved.read_many(["large"])] == [32 << 20]
    assert len(list(resolved.read_many(map(str, range(100))))) == 100
    assert bounds == [(32, 1, 1), (192, 1, 8)]


def test_a_file_of_a_pack_that_is_damaged_is_seen(layer: DataLayer, key: TaskKey) -> None:
    output = publish(layer, key, FILES)
    damage(layer, output, "part-0101")
    damage(layer, output, "part-0102")
    fresh = layer.resolve(key)["default"].original()
    ways: list[Callable[[str], object]] = [fresh.read_bytes, fresh.open, lambda name: list(fresh.stream(name))]
    for read in ways:
        with pytest.raises(VerificationError, match="'part-0101': committed were"):
            read("part-0101")
    seen: list[str] = []

    def read_on() -> None:
        seen.extend(name for name, _ in fresh.read_many())

    with pytest.raises(VerificationError, match="'part-0101'"):
        read_on()
    assert seen == sorted(FILES)[:101]
    problems = verify(layer, layer.resolve(key)).problems
    assert [problem[:3] for problem in problems] == [
        ("damaged", "default", "part-0101"),
        ("damaged", "default", "part-0102"),
    ]
    layer.data.delete([f"{layout.output_path(key, 1, 'default')}/{output.entry('part-0000').object}"])
    kinds = [problem.kind for problem in verify(layer, layer.resolve(key)).problems]
    assert kinds == ["missing"] * 300


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=["C"]), min_size=1, max_size=9
)
CONTENTS = st.one_of(st.binary(max_size=40), st.integers(0, 300).map(lambda size: b"x" * size))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        NAMES.filter(lambda name: name not in {".", "..", "_packs"}), CONTENTS, min_size=1, max_size=40
    ),
    pack=st.integers(1, 400),
    small=st.integers(0, 200),
    span=st.integers(1, 300),
    order=st.randoms(use_true_random=False),
)
def test_any_set_of_files_round_trips(
    files: dict[str, bytes], pack: int, small: int, span: int, order: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "PACK_BYTES", pack)
    monkeypatch.setattr(packing, "SMALL_BYTES", small)
    monkeypatch.setattr("datalayer.commit.output.SMALL_BYTES", small)
    monkeypatch.setattr(reading, "SPAN_BYTES", span)
    monkeypatch.setattr(reading, "_WINDOW_BYTES", 2 * span)
    monkeypatch.setattr(reading, "_GAP_BYTES", span // 3)
    layer = DataLayer(Config(), stores={Tier.COLD: MemoryStore()})
    key = TaskKey("t", "d", "k", RunId("r"))
    names = list(files)
    order.shuffle(names)
    with layer.publish(key) as attempt, ThreadPoolExecutor(4) as pool:
        output = attempt.output(packed=True)
        list(pool.map(lambda name: output.put(name, files[name]), names))
    order.shuffle(names)
    read = layer.resolve(key)["default"]
    assert list(read.read_many(names)) == [(name, files[name]) for name in names]
    assert dict(read.read_many()) == files
    assert verify(layer, layer.resolve(key)).problems == []


def test_two_thousand_files_take_seven_requests_to_write_and_read(
    versitygw: S3Server, fault_proxy: FaultProxy, key: TaskKey
) -> None:
    config = s3_config(versitygw, versitygw.new_bucket(), fault_proxy.endpoint)
    files = {f"{number:05}": number.to_bytes(4, "big") * 16 for number in range(2000)}
    with DataLayer(config).publish(key) as attempt:
        for name, data in files.items():
            attempt.output(packed=True).put(name, data)
    # The claim, one pack, the index, the head.
    assert [request.kind for request in fault_proxy.requests] == ["PUT"] * 4
    fault_proxy.reset()
    assert dict(DataLayer(config).resolve(key)["default"].read_many()) == files
    assert [request.kind for request in fault_proxy.requests] == ["GET"] * 3


@pytest.mark.parametrize("verb", ["write", "close"])
def test_half_a_pack_is_never_visible(key: TaskKey, verb: str) -> None:
    """What was put before is lost with the pack, so the attempt cannot commit without it."""
    store = FaultyStore(MemoryStore())
    layer = DataLayer(Config(), stores={Tier.COLD: store})
    attempt = layer.publish(key)
    output = attempt.output(packed=True)
    output.put("a", b"1")
    store.faults.append(Fault(frozenset({verb}), before=StoreFullError("no room left")))
    if verb == "write":
        with pytest.raises(StoreFullError):
            output.put("b", b"2")
    else:
        with pytest.raises(StoreFullError):
            attempt.commit()
    for again in (lambda: output.put("c", b"3"), attempt.commit):
        with pytest.raises(PublishError, match="a pack of this output was not written.*Publish again"):
            again()
    attempt.abandon()
    with pytest.raises(NotPublishedError):
        layer.resolve(key)
    assert objects(layer, key) == []


def test_an_attempt_that_is_given_up_leaves_no_pack(layer: DataLayer, key: TaskKey) -> None:
    with pytest.raises(ZeroDivisionError), layer.publish(key) as attempt:
        attempt.output(packed=True).put("a", b"x" * 100)
        raise ZeroDivisionError
    assert objects(layer, key) == []
    with pytest.raises(NotPublishedError):
        layer.resolve(key)


def test_an_attempt_that_is_given_up_ends_the_upload_of_its_pack(key: TaskKey, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    dropped: list[str] = []
    make = store.writer

    def writer(path: str) -> StoreWriter:
        made = make(path)
        monkeypatch.setattr(made, "discard", lambda: dropped.append(path))
        return made

    monkeypatch.setattr(store, "writer", writer)
    attempt = DataLayer(Config(), stores={Tier.COLD: store}).publish(key)
    attempt.output(packed=True).put("a", b"1")
    attempt.abandon()
    assert len(dropped) == 1


def test_the_sweep_leaves_packs_that_count(layer: DataLayer, key: TaskKey) -> None:
    publish(layer, key, FILES)
    sweep(layer)
    assert dict(layer.resolve(key)["default"].read_many()) == FILES


def rename_pack(output: dict[str, Any], name: str) -> None:
    """Move a pack out of the packs' folder."""
    for entry in output["entries"]:
        entry["object"] = name
    output["packs"][0]["name"] = name


def change_manifest(layer: DataLayer, key: TaskKey, change: Callable[[dict[str, Any]], None]) -> None:
    data, _ = layer.home.get(layout.head_path(key))
    document = msgspec.json.decode(data)
    change(document["manifest"]["outputs"]["default"])
    layer.home.put(layout.head_path(key), msgspec.json.encode(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda output: output["packs"][0].update(name="../../secret"),
        lambda output: output["packs"][0].update(name="other"),
        lambda output: output["packs"][0].update(length=1),
        lambda output: output["packs"][0].update(length=-1),
        lambda output: output["packs"][0].update(object="s3://other/x"),
        lambda output: output["packs"].clear(),
        lambda output: rename_pack(output, "a"),
        lambda output: output["entries"][0].update(object="_packs/other"),
        lambda output: output["entries"][1].update(offset=10**9),
        lambda output: output.update(kind="reference"),
    ],
)
def test_a_manifest_whose_packs_do_not_fit_is_refused(key: TaskKey, change: Callable[[dict[str, Any]], None]) -> None:
    layer = DataLayer(Config(), stores={Tier.COLD: MemoryStore()})
    publish(layer, key, {"a": b"12", "b": b"34"})
    change_manifest(layer, key, change)
    with pytest.raises(VerificationError, match="pack"):
        layer.resolve(key)


def test_a_reader_of_the_version_before_reads_each_file(layer: DataLayer, key: TaskKey) -> None:
    """It knows object and offset of an entry, and leaves the list of packs alone."""
    publish(layer, key, {"a": b"first", "b": b"second"})
    if not layer.home.can_compare_and_put:
        return
    change_manifest(layer, key, lambda output: output.pop("packs"))
    output = layer.resolve(key)["default"]
    assert {name: output.read_bytes(name) for name in output.files} == {"a": b"first", "b": b"second"}


def test_packs_are_hot_like_any_object(
    versitygw: S3Server, fault_proxy: FaultProxy, key: TaskKey, tmp_path: Path
) -> None:
    base = s3_config(versitygw, versitygw.new_bucket(), fault_proxy.endpoint)
    hot = HotConfig(url=str(tmp_path / "hot"), budget="100MB", write_type="THROUGH")
    layer = DataLayer(msgspec.structs.replace(base, design="hot-cold", hot=hot))
    publish(layer, key, FILES)
    assert layer.hot.warm(key).files == 1
    [status] = layer.hot.status(key).outputs
    assert status.hot == status.bytes
    fault_proxy.reset()
    read = layer.resolve(key)["default"]
    assert read.tier == "hot"
    assert dict(read.read_many()) == FILES
    assert read.open("part-0049").read() == FILES["part-0049"]
    assert not [request for request in fault_proxy.requests if "_packs" in request.path]
    assert layer.hot.warm(key, files=["part-0003", "part-0007"]).fetched == 0
    with pytest.raises(NotSupportedError, match="a warming of columns"):
        layer.hot.warm(key, columns=["a"])
    damage(layer, read, "part-0101")
    layer.hot.evict(key, force=True)
    with pytest.raises(VerificationError):
        layer.resolve(key)["default"].read_bytes("part-0101")


def test_f02_ended_at_every_request_of_a_packed_publish(versitygw: S3Server, key: TaskKey) -> None:
    """Each request fails in turn, before it is applied and after: nobody sees anything but all of it, or nothing."""
    files = {f"{number:04}": bytes([number % 256]) * 3 for number in range(1100)}
    config = s3_config(versitygw, versitygw.new_bucket())
    seen = []
    for at in range(1, 6):
        for lost in (False, True):
            task = TaskKey(key.team, key.dag_id, f"t{at}{lost}", key.run)
            store = FaultyStore(DataLayer(config).home)
            fault = Fault(frozenset({"put", "put_exclusive", "compare_and_put", "close"}), at=at, times=-1)
            setattr(fault, "after" if lost else "before", KeyboardInterrupt())
            store.faults.append(fault)
            layer = DataLayer(config, stores={Tier.COLD: store})
            try:
                with layer.publish(task) as attempt:
                    for name, data in files.items():
                        attempt.output(packed=True).put(name, data)
            except KeyboardInterrupt:
                pass
            try:
                found = dict(DataLayer(config).resolve(task)["default"].read_many())
            except NotPublishedError:
                found = {}
            assert found in ({}, files)
            seen.append(bool(found))
    # Claim, pack, index and head; a head whose answer was lost counts, and so does a publish without a fault.
    assert seen == [False] * 7 + [True] * 3


def test_a_forked_child_cannot_write_into_its_parents_pack(layer: DataLayer, key: TaskKey) -> None:
    with layer.publish(key) as attempt:
        output = attempt.output(packed=True)
        output.put("a", b"1")
        child = os.fork()
        if child == 0:
            try:
                output.put("b", b"2")
            except PublishError as error:
                os._exit(0 if "was forked" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert dict(layer.resolve(key)["default"].read_many()) == {"a": b"1"}
