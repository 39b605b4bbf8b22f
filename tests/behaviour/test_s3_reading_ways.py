"""Which ways an S3 object is read: over one connection where that is fast, side by side where it is not. The bytes are the same."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from datalayer.stores import s3_reading
from datalayer.stores.s3 import S3Store
from tests.behaviour.stores import s3_store
from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server

MIB = 1 << 20
DATA = b"".join(number.to_bytes(4, "big") * (MIB // 4) for number in range(30)) + b"end"
END = len(DATA)
STREAMED = [(0, MIB), (MIB, 9 * MIB), (9 * MIB, 25 * MIB), (25 * MIB, END)]
SIDE_BY_SIDE = [(0, MIB), (MIB, 9 * MIB), (9 * MIB, 17 * MIB), (17 * MIB, 25 * MIB), (25 * MIB, END)]


@pytest.fixture
def store(versitygw: S3Server, fault_proxy: FaultProxy) -> S3Store:
    store = s3_store(versitygw, endpoint=fault_proxy.endpoint)
    with store.writer("a") as writer:
        writer.write(DATA)
    fault_proxy.reset()
    return store


def set_speed(monkeypatch: pytest.MonkeyPatch, *, near: bool, fast: bool) -> None:
    """Decide what the store would find out by its clock."""
    monkeypatch.setattr(s3_reading, "_NEAR_SECONDS", math.inf if near else 0.0)
    monkeypatch.setattr(s3_reading, "_FAST", 0.0 if fast else math.inf)


def ranges(proxy: FaultProxy) -> list[tuple[int, int]]:
    found = []
    for request in proxy.requests:
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        found.append((int(first), int(last) + 1))
    return sorted(found)


def test_a_fast_way_is_read_over_one_connection_in_ever_longer_stretches(
    store: S3Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_speed(monkeypatch, near=True, fast=True)
    chunks = list(store.stream("a"))
    assert b"".join(chunks) == DATA
    assert max(map(len, chunks)) < 2 * MIB
    assert ranges(fault_proxy) == STREAMED


def test_a_far_store_is_read_side_by_side_at_once(
    store: S3Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_speed(monkeypatch, near=False, fast=True)
    assert b"".join(store.stream("a")) == DATA
    assert ranges(fault_proxy) == SIDE_BY_SIDE


def test_a_way_that_turns_out_slow_is_left_after_a_stretch(
    store: S3Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_speed(monkeypatch, near=True, fast=False)
    assert b"".join(store.stream("a")) == DATA
    # The first stretch is as long as a range.
    assert ranges(fault_proxy) == SIDE_BY_SIDE


@pytest.mark.parametrize("near", [True, False])
def test_a_file_is_read_both_ways(
    store: S3Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, near: bool
) -> None:
    set_speed(monkeypatch, near=near, fast=True)
    with store.open("a") as file:
        assert file.read() == DATA
        file.seek(5 * MIB + 1)
        buffer = bytearray(20 * MIB)
        assert file.readinto(buffer) == len(buffer)  # type: ignore[attr-defined]  # a BufferedReader
        assert buffer == DATA[5 * MIB + 1 : 25 * MIB + 1]
        assert file.read(2) == DATA[25 * MIB + 1 : 25 * MIB + 3]


def test_a_stretch_that_ends_too_early_is_read_on_from_there(
    store: S3Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_speed(monkeypatch, near=True, fast=True)
    ask = s3_reading.PinnedObject._ask
    asked: list[int] = []

    def shorter(pinned: s3_reading.PinnedObject, start: int, end: int) -> Any:
        asked.append(start)
        # The second request gets a whole answer to less than was wanted.
        return ask(pinned, start, end - 5 if len(asked) == 2 else end)

    monkeypatch.setattr(s3_reading.PinnedObject, "_ask", shorter)
    assert b"".join(store.stream("a")) == DATA
    assert (25 * MIB - 5, END) in ranges(fault_proxy)


def test_streams_at_once_share_their_ranges(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_speed(monkeypatch, near=False, fast=True)
    streams = 8
    pieces = s3_reading.PinnedObject._pieces
    lock = threading.Lock()
    running = most = 0

    def counted(pinned: s3_reading.PinnedObject, start: int, end: int, size: int) -> list[bytes]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        # Long enough for all that may run at once to do so.
        time.sleep(0.1)
        try:
            return pieces(pinned, start, end, size)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(s3_reading.PinnedObject, "_pieces", counted)
    with ThreadPoolExecutor(streams) as pool:
        assert all(pool.map(lambda _: b"".join(store.stream("a")) == DATA, range(streams)))
    assert streams <= most <= s3_reading.AT_ONCE + streams
    # One that is left before its end gives back what it has.
    left = store.stream("a")
    assert [len(next(left)) > 0 for _ in range(8)]
    left.close()  # type: ignore[attr-defined]  # a generator
    assert s3_reading._ranges.is_idle
