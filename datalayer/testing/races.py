"""Races for one object: of many writers at once exactly one may win. ``datalayer doctor`` runs a few, the tests many."""

from __future__ import annotations

import multiprocessing
import secrets
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from datalayer.errors import AlreadyExistsError, PreconditionFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from datalayer.stores.base import Store

CREATE = "create"
SUPERSEDE = "supersede"
_CLEAR_AFTER = 200


class _Barrier(Protocol):
    def wait(self) -> int: ...

    def abort(self) -> None: ...


class _Win(NamedTuple):
    round: int
    kind: str
    writer: int


@dataclass
class Races:
    """How a number of races ended."""

    rounds: int
    """Races of each kind: creates, and supersedes where the store has compare-and-put."""
    writers: int
    winners: dict[str, Counter[int]] = field(default_factory=dict)
    """For each kind: how many races had how many winners. ``{1: rounds}`` is right."""
    wrong: list[str] = field(default_factory=list)
    """Races whose object does not hold its winner's bytes, or that had not one winner, in words."""

    @property
    def count(self) -> int:
        """All races together."""
        return self.rounds * len(self.winners)

    @property
    def fair(self) -> bool:
        """Whether every race had one winner, whose bytes were there afterwards."""
        return not self.wrong


def run_races(store: Store, rounds: int, writers: int, *, processes: int = 1, folder: str = "datalayer-races") -> Races:
    """Let ``writers`` threads race for one new object, and then to replace it, ``rounds`` times over, and count the winners.

    Args:
        store: Its exclusive put is raced, and its compare-and-put where it has one.
        rounds: Races of each kind.
        writers: Threads that race, at least 2.
        processes: In how many processes they run; more than one needs a store that pickles. They are spawned, so a script that calls this
            needs the usual ``if __name__ == "__main__"``.
        folder: Where the raced objects lie, below a name of this run's own. They are deleted again.

    Raises:
        DataLayerError: A writer met an error that is no lost race.
    """
    kinds = [CREATE, SUPERSEDE] if store.can_compare_and_put else [CREATE]
    result = Races(rounds, writers, {kind: Counter() for kind in kinds})
    base = f"{folder}/{secrets.token_hex(6)}"
    for first in range(0, rounds, _CLEAR_AFTER):
        numbers = range(first, min(rounds, first + _CLEAR_AFTER))
        wins = (
            _in_processes(store, base, numbers, writers, processes)
            if processes > 1
            else _in_threads(store, base, numbers, writers)
        )
        _judge(store, base, numbers, kinds, wins, result)
        store.delete(_path(base, number) for number in numbers)
    return result


def _in_threads(store: Store, base: str, numbers: Sequence[int], writers: int) -> list[_Win]:
    return _race(store, base, numbers, range(writers), threading.Barrier(writers))


def _in_processes(store: Store, base: str, numbers: Sequence[int], writers: int, processes: int) -> list[_Win]:
    # Spawned, not forked: obstore's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    shares = [range(start, writers, processes) for start in range(processes)]
    with context.Manager() as manager, ProcessPoolExecutor(processes, mp_context=context) as pool:
        barrier = manager.Barrier(writers)
        futures = [pool.submit(_race, store, base, numbers, share, barrier) for share in shares]
        return [win for future in futures for win in future.result()]


def _race(store: Store, base: str, numbers: Sequence[int], writers: Iterable[int], barrier: _Barrier) -> list[_Win]:
    wins: list[_Win] = []
    failures: list[BaseException] = []

    def race(writer: int) -> None:
        try:
            for number in numbers:
                wins.extend(
                    _Win(number, kind, writer) for kind in _run_one(store, _path(base, number), writer, barrier)
                )
        except BaseException as error:  # noqa: BLE001  # raised below, in the caller's thread
            barrier.abort()
            failures.append(error)

    threads = [threading.Thread(target=race, args=(writer,), name=f"racer {writer}") for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        # Where one thread failed, the others only saw the barrier break.
        raise next((error for error in failures if not isinstance(error, threading.BrokenBarrierError)), failures[0])
    return wins


def _run_one(store: Store, path: str, writer: int, barrier: _Barrier) -> list[str]:
    """Take part in one round and return the kinds of race that were won."""
    won = []
    barrier.wait()
    try:
        store.put_exclusive(path, _bytes(CREATE, writer))
        won.append(CREATE)
    except AlreadyExistsError:
        pass
    if store.can_compare_and_put:
        barrier.wait()
        version = store.head(path).version
        barrier.wait()
        try:
            store.compare_and_put(path, _bytes(SUPERSEDE, writer), version)
            won.append(SUPERSEDE)
        except PreconditionFailedError:
            pass
    return won


def _judge(store: Store, base: str, numbers: Sequence[int], kinds: list[str], wins: list[_Win], result: Races) -> None:
    by_race: dict[tuple[int, str], list[int]] = {}
    for win in wins:
        by_race.setdefault((win.round, win.kind), []).append(win.writer)
    for number in numbers:
        for kind in kinds:
            winners = by_race.get((number, kind), [])
            result.winners[kind][len(winners)] += 1
            if len(winners) != 1:
                result.wrong.append(f"{kind} race {number} had {len(winners)} winners of {result.writers}")
        last = by_race.get((number, kinds[-1]), [])
        found = store.get(_path(base, number))[0]
        if len(last) == 1 and found != _bytes(kinds[-1], last[0]):
            result.wrong.append(
                f"{kinds[-1]} race {number} was won by writer {last[0]}, but the object holds {found!r}"
            )


def _path(base: str, number: int) -> str:
    return f"{base}/{number}"


def _bytes(kind: str, writer: int) -> bytes:
    return f"{kind} by writer {writer}".encode()
