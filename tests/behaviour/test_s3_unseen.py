"""A large object of a far S3 is asked for by all ranges at once, with no first request to wait for: in one version, and as long as it must be."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from benchmarks.origin import Door
from datalayer import TaskKey
from datalayer.errors import NotFoundError, VerificationError
from datalayer.stores import s3_reading
from datalayer.stores.s3 import S3Store
from tests.behaviour.stores import s3_store
from tests.services.faultproxy import Fault, FaultProxy
from tests.services.s3server import S3Server

MIB = 1 << 20
DATA = b"".join(number.to_bytes(4, "big") * (MIB // 4) for number in range(20)) + b"end"
END = len(DATA)
AT_ONCE = [(0, 8 * MIB), (8 * MIB, 16 * MIB), (16 * MIB, END)]


@pytest.fixture
def store(versitygw: S3Server, fault_proxy: FaultProxy) -> S3Store:
    store = s3_store(versitygw, endpoint=fault_proxy.endpoint)
    with store.writer("a") as writer:
        writer.write(DATA)
    fault_proxy.reset()
    return store


@pytest.fixture
def far(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    monkeypatch.setattr("datalayer.stores.s3_clients._FAR_SECONDS", 0.0)
    store._clients._waits.append(0.05)
    return store


def ranges(proxy: FaultProxy) -> list[tuple[int, int]]:
    found = [request.headers["range"].removeprefix("bytes=").partition("-") for request in proxy.requests]
    return sorted((int(first), int(last) + 1) for first, _, last in found)


def test_a_far_object_is_asked_for_by_all_ranges_at_once(far: S3Store, fault_proxy: FaultProxy) -> None:
    assert b"".join(far.stream_sized("a", END)) == DATA
    assert ranges(fault_proxy) == AT_ONCE


def test_so_is_a_range(far: S3Store, fault_proxy: FaultProxy) -> None:
    pieces = list(far.stream_range("a", MIB, END, piece=4 * MIB))
    assert b"".join(pieces) == DATA[MIB:]
    assert {len(piece) for piece in pieces[:-1]} == {4 * MIB}
    assert ranges(fault_proxy) == [(MIB, 9 * MIB), (9 * MIB, 17 * MIB), (17 * MIB, END)]


def test_a_near_object_or_one_of_a_store_that_was_never_asked_begins_with_one_request(
    store: S3Store, fault_proxy: FaultProxy
) -> None:
    for waits in ((), (0.05, 0.001, 0.002)):
        store._clients._waits.clear()
        store._clients._waits.extend(waits)
        fault_proxy.reset()
        assert b"".join(store.stream_sized("a", END)) == DATA
        assert (0, MIB) in ranges(fault_proxy)


def test_how_far_a_store_is_is_told_by_its_last_answers(store: S3Store, fault_proxy: FaultProxy) -> None:
    fault_proxy.script(Fault(delay=0.03))
    assert not store._clients.are_far
    store.get_range("a", 0, 5)
    assert store._clients.are_far


def test_an_output_is_streamed_so_with_one_request_before(versitygw: S3Server, fault_proxy: FaultProxy) -> None:
    root = versitygw.root
    bucket = versitygw.new_bucket("unseen")
    layer = Door(fault_proxy.endpoint, versitygw.region, root.access_key, root.secret_key, bucket).layer()
    key = TaskKey("team", "dag", "task", "20130101T000000Z")
    with layer.publish(key) as attempt, attempt.output().open("a") as file:
        file.write(DATA)
    fault_proxy.reset()
    fault_proxy.script(Fault(delay=0.03), times=-1)
    assert b"".join(layer.resolve(key)["default"].stream("a")) == DATA
    head, *others = fault_proxy.requests
    assert "range" not in head.headers
    assert sorted(one.headers["range"] for one in others) == sorted(f"bytes={a}-{b - 1}" for a, b in AT_ONCE)


@pytest.mark.parametrize("size", [END + 1, END - 1, END + 9 * MIB])
def test_an_object_of_another_size_comes_as_it_is(far: S3Store, size: int) -> None:
    assert b"".join(far.stream_sized("a", size)) == DATA


def test_a_range_behind_the_end_is_refused(far: S3Store) -> None:
    for start, end in ((MIB, END + 1), (END + MIB, END + 20 * MIB)):
        with pytest.raises(VerificationError):
            list(far.stream_range("a", start, end))


def test_an_object_that_is_not_there(far: S3Store) -> None:
    with pytest.raises(NotFoundError):
        list(far.stream_sized("none", END))
    with pytest.raises(NotFoundError):
        list(far.stream_range("none", 0, END))


def test_one_that_is_replaced_meanwhile_is_not_mixed(far: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, begun = s3_reading.UnseenObject._ask, threading.Event()

    def replaced(unseen: s3_reading.UnseenObject, start: int, end: int) -> Any:
        if start == 16 * MIB:
            assert begun.wait(20)
            with far.writer("a") as writer:
                writer.write(DATA[::-1])
        return ask(unseen, start, end)

    monkeypatch.setattr(s3_reading.UnseenObject, "_ask", replaced)
    got = 0
    with pytest.raises(VerificationError, match="was replaced while it was being read"):
        for chunk in far.stream_sized("a", END):
            begun.set()
            assert chunk == DATA[got : got + len(chunk)]
            got += len(chunk)
    assert got == 16 * MIB
