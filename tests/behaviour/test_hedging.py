"""Hedged reads: the slow one of a pair is let go, the budget holds, nothing is written twice, and receipts tell."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks.front import Front, Limits, running_front
from datalayer.addresses.location import Location
from datalayer.config import Connection
from datalayer.errors import NotFoundError
from datalayer.stores import s3_hedging
from datalayer.stores.base import Tier
from datalayer.stores.counting import CountingStore, Receipt
from datalayer.stores.s3 import S3Store
from datalayer.stores.s3_clients import S3Clients
from datalayer.stores.s3_hedging import SHARE, Hedging, Patience
from tests.services.s3server import S3Server

Fronted = Callable[..., tuple[Front, CountingStore, Receipt]]


@pytest.fixture
def fronted(versitygw: S3Server) -> Iterator[Fronted]:
    bucket = versitygw.new_bucket("hedged")
    with contextlib.ExitStack() as running:

        def make(limits: Limits, **options: Any) -> tuple[Front, CountingStore, Receipt]:
            front = running.enter_context(running_front(versitygw.endpoint, limits))
            root = versitygw.root
            connection = Connection(
                endpoint=front.endpoint,
                region=versitygw.region,
                access_key_id=root.access_key,
                secret_access_key=root.secret_key,
                **{"hedge": True, **options},
            )
            receipt = Receipt()
            store = S3Store(Location.parse(f"s3://{bucket}/root"), tier=Tier.COLD, connection=connection)
            return front, CountingStore(store, receipt), receipt

        yield make


STALLING = Limits(first_byte=0.003, first_byte_p99=0.006, stalls=0.015, stall=2.0)


def test_a_read_that_stalls_is_asked_again_and_the_slow_one_let_go(fronted: Fronted) -> None:
    front, store, receipt = fronted(STALLING)
    store.put("one", b"12345")
    front.forget()
    slowest, before = 0.0, 0
    with concurrent.futures.ThreadPoolExecutor(8) as pool:

        def read(_: int) -> float:
            began = time.monotonic()
            assert store.get_range("one", 1, 3) == b"234"
            return time.monotonic() - began

        # At first nothing is known of how long answers take.
        list(pool.map(read, range(80)))
        before = front.counts().requests["GET"]
        took = sorted(pool.map(read, range(400)))
        slowest = took[int(len(took) * 0.99)]
    counts = front.counts()
    assert slowest < 1.0
    hedges = receipt.by_tier()["cold"].calls["hedge"]
    assert before >= 80
    # One whose answer came in the same moment is called off before it is sent.
    assert 480 < counts.requests["GET"] <= 480 + hedges
    assert 0 < hedges <= 480 * SHARE
    # None of the stalled ones was waited for but those of the beginning.
    assert 0 < counts.abandoned <= hedges


def test_a_read_is_asked_for_once_where_hedging_is_off(fronted: Fronted) -> None:
    front, store, receipt = fronted(Limits(first_byte=0.002, stalls=0.05, stall=0.2), hedge=False)
    store.put("one", b"1")
    for _ in range(60):
        store.get("one")
    assert front.counts().requests["GET"] == 60
    assert "hedge" not in receipt.by_tier()["cold"].calls


def test_no_write_is_asked_for_twice(fronted: Fronted) -> None:
    front, store, receipt = fronted(Limits(put=0.001, put_p99=0.02, first_byte=0.001))
    for number in range(60):
        store.put(f"n{number}", b"1")
        store.get(f"n{number}")
    assert front.counts().requests["PUT"] == 60
    assert receipt.by_tier()["cold"].calls.get("hedge", 0) <= 60 * SHARE


def test_all_ways_of_reading_are_hedged_and_whole(fronted: Fronted) -> None:
    data = bytes(range(256)) * 8192
    front, store, receipt = fronted(STALLING)
    store.put("large", data)
    for _ in range(15):
        assert store.get("large")[0] == data
        assert b"".join(store.stream("large")) == data
        assert b"".join(store.stream_range("large", 5, 900)) == data[5:900]
        with store.open("large") as file:
            file.seek(-7, 2)
            assert file.read() == data[-7:]
    hedges = receipt.by_tier()["cold"].calls.get("hedge", 0)
    assert front.counts().requests["GET"] >= 60 + hedges
    assert hedges <= front.counts().requests["GET"] * SHARE


def test_what_fails_fails_as_without(fronted: Fronted) -> None:
    front, store, _ = fronted(Limits())
    for _ in range(40):
        with pytest.raises(NotFoundError):
            store.get("none")
    assert front.counts().requests == {"GET": 40}


def test_patience_learns_first_and_is_bounded_by_the_budget() -> None:
    patience = Patience()
    for _ in range(31):
        assert patience.begin() is None
        patience.answered(0.1)
    patience.answered(3.0)
    assert patience.begin() == pytest.approx(0.1)

    async def taken(asked: int) -> list[bool]:
        loop = asyncio.get_running_loop()
        return [patience.may_hedge(loop.create_future()).done() for _ in range(asked)]

    # 32 begun: one and a quarter are saved.
    assert asyncio.run(taken(2)) == [True, False]
    patience._waiting.clear()
    for _ in range(10_000):
        patience.begin()
    assert sum(asyncio.run(taken(100))) == 10


def test_no_thousand_reads_have_more_than_fifty_hedges() -> None:
    async def most() -> int:
        patience, loop = Patience(), asyncio.get_running_loop()
        for _ in range(2000):
            patience.begin()
        turns: list[asyncio.Future[None]] = []
        for _ in range(1000):
            patience.begin()
            turns.append(patience.may_hedge(loop.create_future()))
        return sum(turn.done() for turn in turns)

    assert asyncio.run(most()) in (49, 50)


def test_who_waits_for_the_budget_gets_what_others_add_to_it_the_latest_first() -> None:
    async def order() -> list[list[bool]]:
        patience, loop = Patience(), asyncio.get_running_loop()
        answers = [loop.create_future() for _ in range(3)]
        turns = [patience.may_hedge(answer) for answer in answers]
        # The first one's answer came after all: it takes nothing.
        answers[0].set_result(None)
        await asyncio.sleep(0)
        states = []
        for _ in range(2):
            for _ in range(26):
                patience.begin()
            states.append([turn.done() and not turn.cancelled() for turn in turns])
        return states

    assert asyncio.run(order()) == [[False, True, False], [False, True, True]]


def test_an_answer_that_stalls_while_the_budget_is_empty_is_asked_again_once_it_has_filled() -> None:
    async def stalled() -> list[str]:
        hedging = Hedging(lambda: told.append("hedge"))
        for _ in range(32):
            hedging._patience.answered(0.001)
        answers: list[str] = []

        async def stalls_at_first() -> Any:
            answers.append("asked")
            if len(answers) == 1:
                await asyncio.sleep(60)
            return "late"

        async def comes() -> Any:
            return "soon"

        waiting = asyncio.ensure_future(hedging._first(stalls_at_first))
        await asyncio.sleep(0.05)
        assert answers == ["asked"]
        for _ in range(30):
            await hedging._first(comes)
        answers.append(str(await asyncio.wait_for(waiting, 5)))
        return answers

    told: list[str] = []
    assert asyncio.run(stalled()) == ["asked", "asked", "late"]
    assert told == ["hedge"]


def test_a_service_nearby_is_given_a_moment() -> None:
    patience = Patience()
    for _ in range(64):
        patience.answered(0.0001)
    assert patience.begin() == 0.01


def test_threads_that_are_first_at_once_get_one_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    new_loop = asyncio.new_event_loop
    made: list[asyncio.AbstractEventLoop] = []
    hedgings: list[Hedging] = []

    def slow_loop() -> asyncio.AbstractEventLoop:
        time.sleep(0.05)
        made.append(new_loop())
        return made[-1]

    class SlowHedging(Hedging):
        def __init__(self, told: Callable[[], None]) -> None:
            time.sleep(0.05)
            super().__init__(told)
            hedgings.append(self)

        def get(self, *_: Any) -> Any:
            return self

    monkeypatch.setattr(s3_hedging, "_loops", [])
    monkeypatch.setattr(asyncio, "new_event_loop", slow_loop)
    monkeypatch.setattr(s3_hedging, "Hedging", SlowHedging)
    clients = S3Clients("bucket", Connection(access_key_id="a", secret_access_key="b", region="x", hedge=True))
    barrier = threading.Barrier(32)

    def first(_: int) -> tuple[Any, Any]:
        barrier.wait()
        return s3_hedging._loop(), clients.get("a")

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        found = set(pool.map(first, range(32)))
    for loop in made:
        loop.call_soon_threadsafe(loop.stop)
        while loop.is_running():
            time.sleep(0.01)
        loop.close()
    assert len(made) == len(hedgings) == len(found) == 1


def test_nothing_is_printed_of_a_request_that_failed_beside_a_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    async def both() -> str:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        answers = [loop.create_future(), loop.create_future()]
        asked: list[asyncio.Future[Any]] = []

        def ask() -> asyncio.Future[Any]:
            asked.append(answers[len(asked)])
            if len(asked) == 2:
                answers[0].set_result("good")
                answers[1].set_exception(OSError("refused"))
            return asked[-1]

        hedging = Hedging(lambda: None)
        monkeypatch.setattr(hedging._patience, "begin", lambda: 0.001)
        hedging._patience._saved = 1.0
        found: Any = await hedging._first(ask)
        answers.clear()
        asked.clear()
        await asyncio.sleep(0)
        gc.collect()
        return str(found)

    assert asyncio.run(both()) == "good"
    assert told == []
