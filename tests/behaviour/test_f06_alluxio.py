"""F6: a process of Alluxio dies, or hangs, in the middle of a read. The reader goes on from the cold tier, and uses Alluxio again when it is back."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator

import pyarrow
import pyarrow.parquet
import pytest

from datalayer import DataLayer, TaskKey
from datalayer.resolve.output import ResolvedOutput
from tests.behaviour.on_alluxio import OnAlluxio, eventually, hot_receipt, published, store_of
from tests.services.alluxio_part import AlluxioPart
from tests.services.faults import Fault

SIZE = 64 << 20
# What the issue allows is two seconds; this only tells a reader that goes on from one that hangs, on a machine that does much else.
PAUSE = 10.0


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def data() -> bytes:
    return os.urandom(SIZE)


def outages(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in log.records if "does not serve" in record.message]


def read(chunks: Iterator[bytes], *, after: int, kill: Callable[[], None]) -> tuple[bytes, float]:
    """Read all, calling `kill` once so much has come; return it, and the longest that the reader had to wait since."""
    found, longest, killed = bytearray(), 0.0, False
    clock = time.monotonic()
    for chunk in chunks:
        if killed:
            longest = max(longest, time.monotonic() - clock)
        found += chunk
        if not killed and len(found) >= after:
            kill()
            killed = True
        clock = time.monotonic()
    assert killed
    return bytes(found), longest


def part_of(on: OnAlluxio, name: str) -> AlluxioPart:
    part = getattr(on.folder.server, name)
    assert isinstance(part, AlluxioPart)
    return part


def served_again(on: OnAlluxio, layer: DataLayer, output: ResolvedOutput, name: str, data: bytes) -> None:
    """Wait until a read comes through Alluxio again."""
    on.folder.server.start()

    def hits() -> bool:
        before = hot_receipt(layer).bytes_hit
        assert output.read_bytes(name) == data
        return hot_receipt(layer).bytes_hit == before + len(data)

    eventually(hits)


@pytest.mark.kills
@pytest.mark.parametrize("victim", ["worker", "master", "proxy"])
def test_a_reader_goes_on_when_one_is_killed(
    on_alluxio: OnAlluxio,
    key: TaskKey,
    data: bytes,
    log: pytest.LogCaptureFixture,
    victim: str,
) -> None:
    layer = on_alluxio.layer(proxy=on_alluxio.folder.proxy)
    output = published(layer, key, {"big.bin": data, "small.txt": b"small"})
    with layer.publish(other := TaskKey("t", "d", "other", "20130101T000000Z")) as attempt:
        attempt.output().put("a", b"a")
    on_alluxio.warm(output)
    before = hot_receipt(layer)
    found, longest = read(
        output.stream("big.bin", chunk_size=1 << 20), after=16 << 20, kill=part_of(on_alluxio, victim).kill
    )
    assert found == data
    assert longest < PAUSE
    # A master that dies does not disturb a request that is under way: the next one finds out.
    clock = time.monotonic()
    assert output.read_bytes("small.txt") == b"small"
    following = time.monotonic() - clock
    assert following < PAUSE
    logging.getLogger(__name__).info("%s: a pause of %.2f s, then one of %.2f s", victim, longest, following)
    missed = {reason: count - before.misses.get(reason, 0) for reason, count in hot_receipt(layer).misses.items()}
    assert set(missed) <= {"unavailable", "timed out"}
    assert sum(missed.values()) >= 1
    assert store_of(layer).unavailable() is not None
    assert len(outages(log)) == 1
    # What is resolved meanwhile is served by the cold tier at once.
    passed_over = hot_receipt(layer).misses.get("unavailable", 0)
    elsewhere = layer.resolve(other)["default"]
    assert (elsewhere.tier.value, [miss.tier.value for miss in elsewhere.misses]) == ("cold", ["hot"])
    assert hot_receipt(layer).misses["unavailable"] == passed_over + 1
    served_again(on_alluxio, layer, output, "small.txt", b"small")
    assert store_of(layer).unavailable() is None
    assert output.read_bytes("big.bin") == data
    assert len(outages(log)) == 1
    assert [record.levelname for record in log.records if "serves again" in record.message] == ["INFO"]


def test_a_reader_goes_on_when_the_proxy_hangs(
    on_alluxio: OnAlluxio, key: TaskKey, data: bytes, log: pytest.LogCaptureFixture
) -> None:
    layer = on_alluxio.layer()
    output = published(layer, key, {"big.bin": data})
    on_alluxio.warm(output)
    proxy = on_alluxio.folder.server.proxy.pid
    try:
        found, longest = read(
            output.stream("big.bin", chunk_size=1 << 20),
            after=16 << 20,
            kill=lambda: os.kill(proxy, signal.SIGSTOP),
        )
    finally:
        os.kill(proxy, signal.SIGCONT)
    assert found == data
    assert longest < PAUSE
    assert hot_receipt(layer).misses == {"timed out": 1}
    assert len(outages(log)) == 1
    served_again(on_alluxio, layer, output, "big.bin", data)


def test_a_reader_does_not_put_up_with_a_trickle(on_alluxio: OnAlluxio, key: TaskKey, data: bytes) -> None:
    layer = on_alluxio.layer()
    output = published(layer, key, {"big.bin": data})
    on_alluxio.warm(output)
    # Something comes before every timeout, and all of it would take four minutes.
    on_alluxio.proxy.script(Fault(trickle=1.0), kind="GET", path="big.bin")
    found = b"".join(output.stream("big.bin"))
    assert found == data
    assert hot_receipt(layer).misses == {"timed out": 1}


@pytest.mark.parametrize("victim", ["worker", "proxy"])
def test_a_file_that_is_open_is_read_on(on_alluxio: OnAlluxio, key: TaskKey, data: bytes, victim: str) -> None:
    layer = on_alluxio.layer()
    output = published(layer, key, {"big.bin": data})
    on_alluxio.warm(output)
    with output.open("big.bin") as file:
        found, longest = read(
            iter(lambda: file.read(1 << 20), b""), after=16 << 20, kill=part_of(on_alluxio, victim).kill
        )
        assert found == data
        assert longest < PAUSE
        file.seek(-1000, os.SEEK_END)
        assert file.read() == data[-1000:]
    assert sum(hot_receipt(layer).misses.values()) >= 1


@pytest.mark.parametrize("victim", ["worker", "master", "proxy"])
def test_a_dataset_is_scanned_to_its_end(on_alluxio: OnAlluxio, key: TaskKey, victim: str) -> None:
    layer = on_alluxio.layer()
    rows = 200_000
    tables = [
        pyarrow.table({"n": range(at * rows, (at + 1) * rows), "text": [f"row {n}" for n in range(rows)]})
        for at in range(4)
    ]
    with layer.publish(key) as attempt:
        for at, table in enumerate(tables):
            with attempt.output().open(f"part-{at}.parquet") as file:
                pyarrow.parquet.write_table(table, file, row_group_size=10_000, compression="none")
    output = layer.resolve(key)["default"]
    batches = output.dataset().scanner(batch_size=5_000, batch_readahead=1, fragment_readahead=1).to_batches()
    found = [next(batches)]
    part_of(on_alluxio, victim).kill()
    found += batches
    assert pyarrow.Table.from_batches(found).equals(pyarrow.concat_tables(tables).combine_chunks()) or (
        pyarrow.Table.from_batches(found).sort_by("n").equals(pyarrow.concat_tables(tables))
    )
    assert sum(hot_receipt(layer).misses.values()) >= 1


def test_nobody_waits_for_an_alluxio_that_is_down(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    layer = on_alluxio.layer()
    output = published(layer, key, {f"{at}.bin": bytes([at]) * 10_000 for at in range(20)})
    on_alluxio.folder.server.proxy.kill()
    assert dict(output.read_many()) == {f"{at}.bin": bytes([at]) * 10_000 for at in range(20)}
    on_alluxio.proxy.reset()
    for _ in range(100):
        assert output.read_bytes("3.bin") == b"\3" * 10_000
    # Only the tries in the background.
    assert on_alluxio.proxy.count() <= 3
    assert hot_receipt(layer).misses["unavailable"] >= 100


def test_paths_and_uris_for_others_lead_to_the_cold_tier_meanwhile(
    on_alluxio: OnAlluxio, key: TaskKey, log: pytest.LogCaptureFixture
) -> None:
    mount = on_alluxio.folder.mount
    layer = on_alluxio.layer(**{"mount": str(mount)} if mount else {})
    empty = published(layer, TaskKey("t", "d", "empty", "20130101T000000Z"), {"a=1/empty.csv": b""})
    assert empty.spark_uri.startswith(f"{on_alluxio.folder.url}/")
    output = published(layer, key, {"a.csv": b"a,b\n1,2\n"})
    assert output.spark_uri.startswith(f"{on_alluxio.folder.url}/")
    if mount:
        path = output.local_path("a.csv")
        assert path is not None
        assert path.read_bytes() == b"a,b\n1,2\n"
        assert output.path == path.parent
    on_alluxio.folder.server.master.kill()
    # What was found out a moment ago may be believed for a moment.
    eventually(lambda: output.spark_uri.startswith("s3a://"))
    assert output.spark_uris()[0].startswith("s3a://")
    assert output.path is None
    assert len(outages(log)) == 1
    assert hot_receipt(layer).misses["unavailable"] >= 2
    on_alluxio.folder.server.start()
    eventually(lambda: output.spark_uri.startswith("alluxio://"))
    assert (output.path is not None) == (mount is not None)


@pytest.mark.kills
@pytest.mark.parametrize("victim", ["worker", "master", "fuse"])
def test_who_reads_a_mounted_file_gets_its_bytes_or_an_error_and_never_hangs(
    on_alluxio: OnAlluxio, key: TaskKey, data: bytes, victim: str
) -> None:
    mount = on_alluxio.folder.mount
    if mount is None:
        pytest.skip("this machine has no FUSE")
    layer = on_alluxio.layer(mount=str(mount))
    output = published(layer, key, {"big.bin": data})
    on_alluxio.warm(output)
    path = output.local_path("big.bin")
    assert path is not None
    clock = time.monotonic()
    # What has been read ahead may be the rest of the file; another reading is not.
    for _ in range(2):
        try:
            with path.open("rb", buffering=0) as file:
                found = file.read(8 << 20)
                part_of(on_alluxio, victim).kill()
                while chunk := file.read(1 << 20):
                    found += chunk
            assert found == data
        except OSError:
            break
    assert time.monotonic() - clock < 30
    # Our own reading is none the worse for it.
    assert output.read_bytes("big.bin") == data
    on_alluxio.folder.server.start()
    eventually(lambda: output.local_path("big.bin") is not None)
    assert path.read_bytes() == data
