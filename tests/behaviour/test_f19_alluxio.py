"""F19: copies in Alluxio that are damaged, short or stale. Each is found, dropped, fetched again and counted, and no reader gets a wrong byte."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator

import pytest

from datalayer import DataLayer, TaskKey, VerificationError
from datalayer.resolve.output import ResolvedOutput
from datalayer.stores.base import Expected
from tests.behaviour.on_alluxio import OnAlluxio, eventually, hot_receipt, published, store_of
from tests.services.faults import Answer, Fault

SIZE = 21_000_000
AT = 10_000_000
MIB = 1 << 20


@pytest.fixture
def data() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def layer(on_alluxio: OnAlluxio) -> DataLayer:
    return on_alluxio.layer()


@pytest.fixture
def output(on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey, data: bytes) -> ResolvedOutput:
    """A large file and a small one, both in Alluxio."""
    output = published(layer, key, {"big.bin": data, "small.bin": data[:1000]})
    on_alluxio.warm(output)
    return output


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes manifests tell less: files of other engines have no checksums of blocks."""

    def tell_less(output: ResolvedOutput, *, checksum: bool) -> None:
        whole = output.expected
        monkeypatch.setattr(
            type(output), "expected", lambda _, path: _less(whole(path), checksum=checksum), raising=True
        )

    return tell_less


def _less(known: Expected | None, *, checksum: bool) -> Expected | None:
    return known._replace(blocks=None, checksum=known.checksum if checksum else None) if known else None


def _opened(output: ResolvedOutput, name: str) -> bytes:
    with output.open(name) as file:
        return file.read()


WAYS: dict[str, Callable[[ResolvedOutput, str], bytes]] = {
    "read_bytes": lambda output, name: output.read_bytes(name),
    "stream": lambda output, name: b"".join(output.stream(name)),
    "open": _opened,
    "filesystem": lambda output, name: bytes(output.filesystem.cat_file(f"{output.uri}/{name}")),
}


def hot_again(layer: DataLayer, output: ResolvedOutput, name: str, data: bytes) -> None:
    """Wait until a file comes through Alluxio whole."""

    def hits() -> bool:
        before = hot_receipt(layer).bytes_hit
        assert output.read_bytes(name) == data
        return hot_receipt(layer).bytes_hit == before + len(data)

    eventually(hits)


@pytest.mark.parametrize("way", WAYS)
def test_a_flipped_byte_is_found_dropped_and_fetched_again(
    on_alluxio: OnAlluxio,
    layer: DataLayer,
    output: ResolvedOutput,
    data: bytes,
    caplog: pytest.LogCaptureFixture,
    way: str,
) -> None:
    path = output.store_path("big.bin")[1]
    on_alluxio.folder.flip_byte(path, AT)
    before = hot_receipt(layer).bytes_hit
    assert WAYS[way](output, "big.bin") == data
    assert hot_receipt(layer).misses["corrupt"] == 1
    # What lay before the damage came through Alluxio.
    assert 0 < hot_receipt(layer).bytes_hit - before <= AT
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert path in warnings[0]
    assert store_of(layer).unavailable() is None
    # Others do not suffer.
    assert output.read_bytes("small.bin") == data[:1000]
    assert hot_receipt(layer).misses.keys() <= {"corrupt", "being replaced"}
    hot_again(layer, output, "big.bin", data)
    assert hot_receipt(layer).misses["corrupt"] == 1
    on_alluxio.warm(output)
    on_alluxio.s3.reset()
    assert output.read_bytes("big.bin") == data
    assert on_alluxio.data_gets() == 0


def test_a_range_is_verified_by_its_blocks(
    on_alluxio: OnAlluxio, layer: DataLayer, output: ResolvedOutput, data: bytes
) -> None:
    store, path = output.store_path("big.bin")
    on_alluxio.folder.flip_byte(path, AT)
    # In another block, and in the damaged one beside the damage.
    assert store.get_range(path, 0, 1000) == data[:1000]
    assert hot_receipt(layer).misses == {}
    assert store.get_range(path, AT + 10, 1000) == data[AT + 10 : AT + 1010]
    assert hot_receipt(layer).misses == {"corrupt": 1}
    assert store.get_range(path, AT - 10, 1000) == data[AT - 10 : AT + 990]


def test_a_pinned_copy_is_replaced_too_and_stays_pinned(
    on_alluxio: OnAlluxio, layer: DataLayer, output: ResolvedOutput, data: bytes
) -> None:
    path = output.store_path("big.bin")[1]
    store_of(layer)._verbs.pin([path])
    on_alluxio.folder.flip_byte(path, AT)
    assert output.read_bytes("big.bin") == data
    hot_again(layer, output, "big.bin", data)
    assert on_alluxio.folder.status(path)["pinned"]


def test_a_copy_that_lost_its_end_is_replaced(
    on_alluxio: OnAlluxio, layer: DataLayer, output: ResolvedOutput, data: bytes
) -> None:
    (block,) = on_alluxio.folder.blocks(output.store_path("big.bin")[1])
    with block.open("r+b") as file:
        file.truncate(AT)
    for _ in range(3):
        assert output.read_bytes("big.bin") == data
    hot_again(layer, output, "big.bin", data)
    assert sum(hot_receipt(layer).misses.values()) >= 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(truncate=5 * MIB),
        Fault(truncate=0),
        Fault(drop_answer=True),
        Fault(drop_request=True),
        Fault(replace_answer=Answer(500, "InternalError")),
        Fault(answer=Answer(503, "SlowDown")),
    ],
    ids=["cut short", "head alone", "no answer", "no connection", "500", "503"],
)
def test_an_answer_that_fails_is_made_up_for(
    on_alluxio: OnAlluxio, layer: DataLayer, output: ResolvedOutput, data: bytes, fault: Fault
) -> None:
    # A connection that was kept from before is tried once more: the proxy may have closed it meanwhile.
    on_alluxio.proxy.script(
        fault, kind="GET", path="big.bin", times=2 if fault.drop_request or fault.drop_answer else 1
    )
    assert output.read_bytes("big.bin") == data
    assert hot_receipt(layer).misses == {"unavailable": 1}
    hot_again(layer, output, "big.bin", data)


def test_a_service_that_fails_for_one_file_serves_the_others(
    on_alluxio: OnAlluxio, layer: DataLayer, output: ResolvedOutput, data: bytes
) -> None:
    assert output.read_bytes("small.bin") == data[:1000]
    on_alluxio.proxy.script(Fault(answer=Answer(500, "InternalError")), kind="GET", path="big.bin", times=-1)
    for _ in range(3):
        assert output.read_bytes("big.bin") == data
    eventually(lambda: store_of(layer).unavailable() is None)
    hits = hot_receipt(layer).bytes_hit
    for _ in range(5):
        assert output.read_bytes("big.bin") == data
        assert output.read_bytes("small.bin") == data[:1000]
    assert hot_receipt(layer).bytes_hit - hits == 5000
    assert store_of(layer).unavailable() is None


@pytest.mark.parametrize("checksum", [True, False], ids=["checksum", "length alone"])
def test_files_without_checksums_of_blocks_are_verified_as_far_as_is_known(
    on_alluxio: OnAlluxio,
    output: ResolvedOutput,
    data: bytes,
    unverified: Callable[..., None],
    checksum: bool,
) -> None:
    unverified(output, checksum=checksum)
    output = on_alluxio.layer().resolve(output.key.task)["default"]
    store, path = output.store_path("big.bin")
    assert b"".join(output.stream("big.bin")) == data
    on_alluxio.proxy.reset()
    assert store.get_range(path, AT, 1000) == data[AT : AT + 1000]
    # Just the range: there is nothing to verify more of it by.
    assert on_alluxio.proxy.bytes_down == 1000
    on_alluxio.folder.flip_byte(path, AT)
    if checksum:
        assert b"".join(output.stream("big.bin")) == data
    else:
        with pytest.raises(VerificationError):
            list(output.stream("big.bin"))


def test_a_large_file_that_is_verified_at_its_end_is_right_the_next_time(
    on_alluxio: OnAlluxio,
    output: ResolvedOutput,
    data: bytes,
    unverified: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("datalayer.stores.alluxio.spans.WHOLE", MIB)
    unverified(output, checksum=True)
    layer = on_alluxio.layer()
    output = layer.resolve(output.key.task)["default"]
    assert b"".join(output.stream("big.bin")) == data
    on_alluxio.folder.flip_byte(output.store_path("big.bin")[1], AT)
    with pytest.raises(VerificationError, match="read it again"):
        list(output.stream("big.bin"))
    assert hot_receipt(layer).misses == {"corrupt": 1}
    assert b"".join(output.stream("big.bin")) == data
    hot_again(layer, output, "big.bin", data)


@contextlib.contextmanager
def replaced(on_alluxio: OnAlluxio, path: str, data: bytes) -> Iterator[None]:
    """The object is another one for the time of a block."""
    key = f"root/{path}"
    with on_alluxio.server.client() as client:
        with client.get_object(Bucket=on_alluxio.bucket, Key=key)["Body"] as body:
            before = body.read()
        client.put_object(Bucket=on_alluxio.bucket, Key=key, Body=data)
        yield
        client.put_object(Bucket=on_alluxio.bucket, Key=key, Body=before)


@pytest.mark.parametrize("other", [b"other", b"oth"], ids=["of the same length", "shorter"])
def test_an_object_that_was_replaced_under_alluxios_back_is_never_served_stale(
    on_alluxio: OnAlluxio, key: TaskKey, other: bytes
) -> None:
    layer = on_alluxio.layer()
    right = b"right" * 1_000_000
    wrong = other * 1_000_000
    output = published(layer, key, {"a": right})
    path = output.store_path("a")[1]
    # Alluxio has never seen the right one.
    with replaced(on_alluxio, path, wrong), pytest.raises(VerificationError):
        output.read_bytes("a")
    # The cold tier is right again; Alluxio still has the wrong one.
    assert output.read_bytes("a") == right
    hot_again(layer, output, "a", right)
    on_alluxio.warm(output)
    with replaced(on_alluxio, path, wrong):
        # What was committed is what readers get, as long as it is somewhere.
        assert output.read_bytes("a") == right


def test_a_copy_of_another_length_is_not_read_even_where_nothing_else_is_known(
    on_alluxio: OnAlluxio, key: TaskKey, unverified: Callable[..., None]
) -> None:
    output = published(on_alluxio.layer(), key, {"a": b"right"})
    unverified(output, checksum=False)
    layer = on_alluxio.layer()
    store, path = layer.resolve(key)["default"].store_path("a")
    with replaced(on_alluxio, path, b"longer"):
        assert on_alluxio.folder.status(path)["length"] == 6
    assert store.get_range(path, 0, 5) == b"right"
    assert hot_receipt(layer).misses == {"of another length": 1}


def test_a_copy_of_what_is_gone_from_s3_is_still_what_was_committed(
    on_alluxio: OnAlluxio, output: ResolvedOutput, data: bytes
) -> None:
    with on_alluxio.server.client() as client:
        client.delete_object(Bucket=on_alluxio.bucket, Key=f"root/{output.store_path('big.bin')[1]}")
    assert output.read_bytes("big.bin") == data


def test_absent_when_first_asked_for_and_found_once_committed(
    on_alluxio: OnAlluxio, layer: DataLayer, key: TaskKey, data: bytes
) -> None:
    """Nothing of ours asks Alluxio before the commit; somebody else may."""
    folder = f"{key.path}/attempts/1/default"
    with pytest.raises(RuntimeError, match="does not exist"):
        on_alluxio.folder.status(f"{folder}/a.bin")
    output = published(layer, key, {"a.bin": data})
    assert output.store_path("a.bin")[1] == f"{folder}/a.bin"
    assert output.read_bytes("a.bin") == data
    hot_again(layer, output, "a.bin", data)
