"""Many reads side by side, in order and in bounded memory."""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


def side_by_side(
    work: Callable[[_Asked], _Answer], items: Iterable[_Asked], parallel: int, batch: int = 1, ahead: int = 1
) -> Iterator[_Answer]:
    """Yield ``work`` of each item in the items' order.

    Args:
        work: What to do.
        items: With what.
        parallel: How many threads do it, at most.
        batch: How many items a thread does in a row. Handing over costs some 20 µs, which matters where the work is a small request.
        ahead: How many batches for each thread are begun, or wait, and are not yet yielded, at most. With more than one, an item that takes long
            does not keep the others waiting.

    Raises:
        ValueError: ``parallel`` is less than one.
        Exception: What ``work`` raised, at its item's turn. Nothing more is begun then.
    """
    if parallel < 1:
        raise ValueError(f"parallel={parallel}: at least one has to run at a time")
    return _windowed(work, items, parallel, batch, ahead)


def _windowed(
    work: Callable[[_Asked], _Answer], items: Iterable[_Asked], parallel: int, batch: int, ahead: int
) -> Iterator[_Answer]:
    rest = iter(items)
    batches = iter(lambda: list(itertools.islice(rest, batch)), [])
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="datalayer-bulk")
    try:
        pending = deque(pool.submit(_done, work, some) for some in itertools.islice(batches, parallel * ahead))
        while pending:
            answers, error = pending.popleft().result()
            pending.extend(pool.submit(_done, work, some) for some in itertools.islice(batches, 1))
            yield from answers
            if error is not None:
                raise error
    finally:
        # Also when the caller stops early: what runs ends by itself, what waits is dropped.
        pool.shutdown(wait=False, cancel_futures=True)


def _done(work: Callable[[_Asked], _Answer], items: list[_Asked]) -> tuple[list[_Answer], Exception | None]:
    answers: list[_Answer] = []
    try:
        for item in items:
            answers.append(work(item))  # noqa: PERF401  # what was done before an error counts
    except Exception as error:  # noqa: BLE001  # raised at its item's turn
        return answers, error
    return answers, None
