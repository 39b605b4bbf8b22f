"""``ByteBudget``: how many bytes the transfers of one step may hold in memory at once."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_Item = TypeVar("_Item")


class TransferStoppedError(Exception):
    """Another transfer of the same step failed; that failure is the one to report."""


class ByteBudget:
    """Lets transfers in while their bytes fit.

    Args:
        size: Bytes. A transfer that costs more than all of it is let in alone.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._closed = False
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def share(self, cost: int) -> Iterator[None]:
        """Hold ``cost`` bytes while the block runs, waiting until they are free.

        Raises:
            TransferStoppedError: The step was stopped.
        """
        cost = min(cost, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._free >= cost)
            self.check()
            self._free -= cost
        try:
            yield
        finally:
            with self._changed:
                self._free += cost
                self._changed.notify_all()

    def check(self) -> None:
        """Raise if the step was stopped; called between chunks, so that a long transfer ends soon.

        Raises:
            TransferStoppedError: It was.
        """
        if self._closed:
            raise TransferStoppedError

    def stop(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def run_all(
    work: Callable[[_Item], None], items: Sequence[_Item], *, budget: ByteBudget, workers: int, name: str
) -> None:
    """Run ``work`` for every item, several at once; the first failure stops the others and is raised.

    Args:
        work: Takes its share of the budget itself.
        items: In the order in which they begin.
        budget: Stopped when one fails, or when this thread is interrupted.
        workers: How many at once.
        name: Of the threads.
    """
    with ThreadPoolExecutor(workers, name) as pool:
        pending: list[Future[None]] = []
        try:
            pending.extend(pool.submit(work, item) for item in items)
            ended, _ = wait(pending, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()
        except BaseException:  # also an interrupt ends the others' waiting
            budget.stop()
            for future in pending:
                future.cancel()
            raise
