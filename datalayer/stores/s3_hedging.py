"""Asking S3 a second time for what it is slow to answer, and taking whichever answer begins first.

Only GETs are asked twice, never a write: what a GET asks for twice is the same version, and reading it changes nothing. Only the wait for an answer's
beginning is cut short: no body is read twice, so memory stays as it is, and checksums are compared as always. Each hedge comes out of a budget,
so that a service in trouble does not get more load from it than that.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from obstore import GetResult
    from obstore.store import S3Store as ObstoreS3

SHARE = 0.04
"""Hedges for each GET, on the long run. With those saved up they are never more than 50 of any 1,000 GETs."""
_SAVED = 10.0
"""Hedges that may be saved up, for a moment in which many answers are late."""
# Of a hundred answers three and a half are later, a little less than may be hedged: so that there is mostly one saved up for an answer that stalls.
_QUANTILE = 0.965
_WINDOW = 256
_LEARNT = 32
_RENEWED = 16
_LEAST_SECONDS = 0.010


class Patience:
    """How long to wait for an answer before asking again, and who may: learnt from the answers so far. For one thread."""

    def __init__(self) -> None:
        self._answers: deque[float] = deque(maxlen=_WINDOW)
        self._seen = 0
        self._seconds: float | None = None
        self._saved = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def begin(self) -> float | None:
        """Return the seconds after which a GET that begins now may be asked again; None while too few answers are known."""
        self._saved = min(self._saved + SHARE, _SAVED)
        self._give()
        return self._seconds

    def answered(self, seconds: float) -> None:
        """Learn how long an answer took, or had taken at least when it was given up."""
        self._answers.append(seconds)
        self._seen += 1
        if self._seen >= _LEARNT and self._seen % _RENEWED == 0:
            slowest = sorted(self._answers)
            self._seconds = max(slowest[int(len(slowest) * _QUANTILE)], _LEAST_SECONDS)

    def may_hedge(self, until: asyncio.Future[Any]) -> asyncio.Future[None]:
        """Return a future that is done once one hedge was taken out of the budget for an answer, ``until`` that answer is there.

        Who is late first is first: a budget that is empty fills again with the GETs that others begin, while an answer that stalls is waited for.
        """
        turn: asyncio.Future[None] = until.get_loop().create_future()
        self._waiting.append(turn)
        until.add_done_callback(lambda _: turn.cancel())
        self._give()
        return turn

    def _give(self) -> None:
        while self._waiting and (self._waiting[0].done() or self._saved >= 1):
            turn = self._waiting.popleft()
            if not turn.done():
                self._saved -= 1
                turn.set_result(None)


class Hedging:
    """GETs of one bucket, of which some are asked for twice.

    Args:
        told: Called for each that is, from another thread.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self._patience = Patience()

    def get(self, client: ObstoreS3, key: str, options: Mapping[str, Any]) -> GetResult:
        """Return the answer that begins first. The other request is cancelled.

        Raises:
            Exception: What the first request failed with, if no answer came.
        """

        async def ask() -> GetResult:
            return await client.get_async(key, options=options)  # type: ignore[arg-type]  # a TypedDict, built up

        pending = asyncio.run_coroutine_threadsafe(self._first(ask), _loop())
        try:
            return pending.result()
        except BaseException:
            # An interrupt, too, lets go of both.
            pending.cancel()
            raise

    async def _first(self, ask: Callable[[], Awaitable[GetResult]]) -> GetResult:
        clock = asyncio.get_running_loop().time
        began, patience = clock(), self._patience.begin()
        first = asyncio.ensure_future(ask())
        asked = [first]
        try:
            if patience is not None:
                await asyncio.wait(asked, timeout=patience)
                if not first.done():
                    await asyncio.wait((first, self._patience.may_hedge(first)), return_when=asyncio.FIRST_COMPLETED)
                if not first.done():
                    asked.append(asyncio.ensure_future(ask()))
                    self._told()
            answer = await _first_good(asked)
            # Where the second one won, the first would have taken longer.
            self._patience.answered(clock() - began)
            return answer
        finally:
            for one in asked:
                one.cancel()
                # asyncio would print the failure of one that nobody looked at.
                one.add_done_callback(_look_at)


async def _first_good(asked: Sequence[asyncio.Future[GetResult]]) -> GetResult:
    pending = set(asked)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for one in asked:
            if one in done and one.exception() is None:
                return one.result()
    return asked[0].result()


def _look_at(one: asyncio.Future[GetResult]) -> None:
    if not one.cancelled():
        one.exception()


_lock = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    """Return this process's one loop: what all its threads learn from answers is written by that loop's thread alone."""
    with _lock:
        if not _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="datalayer-hedging", daemon=True).start()
            _loops.append(loop)
        return _loops[0]
