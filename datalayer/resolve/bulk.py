"""Many reads side by side, in order and in bounded memory."""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


def side_by_side(work: Callable[[_Asked], _Answer], items: Iterable[_Asked], parallel: int) -> Iterator[_Answer]:
    """Yield ``work`` of each item in the items' order, at most ``parallel`` of them begun and not yet yielded.

    Raises:
        ValueError: ``parallel`` is less than one.
        Exception: What ``work`` raised, at its item's turn. Nothing more is begun then.
    """
    if parallel < 1:
        raise ValueError(f"parallel={parallel}: at least one has to run at a time")
    return _windowed(work, items, parallel)


def _windowed(work: Callable[[_Asked], _Answer], items: Iterable[_Asked], parallel: int) -> Iterator[_Answer]:
    rest = iter(items)
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="datalayer-bulk")
    try:
        pending: deque[Future[_Answer]] = deque(pool.submit(work, item) for item in itertools.islice(rest, parallel))
        while pending:
            answer = pending.popleft().result()
            pending.extend(pool.submit(work, item) for item in itertools.islice(rest, 1))
            yield answer
    finally:
        # Also when the caller stops early: what runs ends by itself, what waits is dropped.
        pool.shutdown(wait=False, cancel_futures=True)
