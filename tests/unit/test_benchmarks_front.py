"""The front before the server: what it counts, and what it makes slow or refuses."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import time
from urllib.parse import urlsplit

import pytest

from benchmarks.front import Counts, Limits
from benchmarks.origin import Door, Origin
from tests.services.s3server import S3Server


@pytest.fixture
def origin(versitygw: S3Server) -> Origin:
    return Origin(versitygw, versitygw.new_bucket("bench"))


def test_a_front_counts_what_comes_through_and_can_be_slow(origin: Origin) -> None:
    with origin.fronted(Limits(connection=10e6, put=0.1)) as (front, door):
        store = door.obstore()
        began = time.monotonic()
        store.put("one", bytes(1_000_000))
        # The wait, and the bytes but for a burst of 5 ms.
        assert time.monotonic() - began >= 0.19
        assert store.get("one").bytes() == bytes(1_000_000)
        list(store.list("none"))
        counts = front.counts()
        assert counts.requests == {"PUT": 1, "GET": 1, "LIST": 1}
        assert counts.bytes_up == 1_000_000
        assert 1_000_000 < counts.bytes_down < 1_001_000
        front.forget()
        assert front.counts() == Counts({}, 0, 0)


def test_a_front_draws_the_same_lognormal_delays_each_time(origin: Origin) -> None:
    def waits() -> list[float]:
        front.forget()
        store, taken = door.obstore(), []
        for _ in range(60):
            began = time.perf_counter()
            store.get("one")
            taken.append(time.perf_counter() - began)
        return taken

    origin.door.obstore().put("one", b"1")
    with origin.fronted(Limits(first_byte=0.008, first_byte_p99=0.040)) as (front, door):
        first, second = waits(), waits()
    assert 0.006 < statistics.median(first) < 0.014
    assert max(first) > 2 * statistics.median(first)
    # The same ones are slow.
    assert statistics.correlation(first, second) > 0.5


def test_a_front_refuses_what_is_too_much_for_a_prefix(origin: Origin) -> None:
    origin.door.obstore().put("a/one", b"1")
    with origin.fronted(Limits(gets=2, prefix_depth=1)) as (front, door):
        statuses = [_status(door, key) for key in ("a/one", "a/one", "a/one", "b/none")]
        # Of four GETs in a moment at most one second's end lies between.
        assert statuses.count(503) == front.counts().refused
        assert statuses[3] != 503
        deadline = time.monotonic() + 10
        while not front.counts().refused and time.monotonic() < deadline:
            statuses = [_status(door, "a/one") for _ in range(3)]
        assert statuses[2] == 503
        assert front.counts().requests["GET"] >= 4


def test_a_front_answers_all_with_503_in_a_storm(origin: Origin) -> None:
    with origin.fronted(Limits(storm_every=1.0, storm=0.3)) as (_, door):
        seen = []
        until = time.monotonic() + 1.1
        while time.monotonic() < until:
            seen.append(_status(door, "none") == 503)
            time.sleep(0.01)
    assert 0.15 < sum(seen) / len(seen) < 0.6


def _status(door: Door, key: str) -> int:
    # Not signed: the server refuses it, which is not what is asked here.
    with contextlib.closing(http.client.HTTPConnection(urlsplit(door.endpoint).netloc, timeout=10)) as connection:
        connection.request("GET", f"/{door.bucket}/{key}")
        return connection.getresponse().status
