"""``Workload``: what is measured, by which contenders, and the figures that come of it; ``measure`` runs one."""

from __future__ import annotations

import contextlib
import enum
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from benchmarks.contender import Contender
from benchmarks.origin import Door, Origin
from benchmarks.results import Figure, Result, Timing
from benchmarks.worker import BenchmarkError, Ran, working

_T = TypeVar("_T")


class Scale(enum.Enum):
    """How much of a workload to do."""

    FULL = "full"
    QUICK = "quick"
    TINY = "tiny"
    """For tests: everything happens, and no figure means anything."""

    def pick(self, full: _T, quick: _T, tiny: _T) -> _T:
        """Return the value for this scale."""
        return {Scale.FULL: full, Scale.QUICK: quick, Scale.TINY: tiny}[self]


class Workload(ABC):
    """One thing that is measured."""

    name: str
    measures: str
    """One sentence for the report."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale

    @property
    def rounds(self) -> int:
        """How often each contender is timed."""
        return self.scale.pick(11, 3, 1)

    def prepare(self, door: Door) -> None:  # noqa: B027  # some need none
        """Write what the contenders read."""

    @abstractmethod
    def contenders(self) -> Sequence[Contender]:
        """Return the ways of doing it, after :meth:`prepare`."""

    @abstractmethod
    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        """Return what comes of it."""


def measure(workload: Workload, origin: Origin, progress: Callable[[str], None] = lambda _: None) -> Result:
    """Run a workload and return its outcome.

    Raises:
        BenchmarkError: A contender failed, or two delivered different bytes.
    """
    began = time.monotonic()
    progress("preparing")
    workload.prepare(origin.door)
    contenders = workload.contenders()
    timings = {}
    for contender in contenders:
        progress(f"counting and checking {contender.name}")
        timings[contender.name] = _count(contender, origin)
    _compare(contenders, timings)
    _time(contenders, timings, origin, workload.rounds, progress)
    result = Result(name=workload.name, measures=workload.measures, timings=list(timings.values()))
    result.figures = workload.figures(timings)
    result.seconds = time.monotonic() - began
    return result


def _count(contender: Contender, origin: Origin) -> Timing:
    with origin.counted() as (proxy, door), working(contender, door) as worker:
        worker.prepare()
        proxy.reset()
        worker.run(check=True)
        # An answer's last bytes are counted after the client has them, so the length is only right once the proxy had its turn.
        requests, up, down = proxy.counts, proxy.bytes_up, proxy.bytes_down
        delivered, checksum = worker.check()
    times = contender.times
    return Timing(
        name=contender.name,
        settings=contender.settings,
        requests={kind: count / times for kind, count in sorted(requests.items())},
        bytes_up=up / times,
        bytes_down=down / times,
        delivered=delivered,
        checksum=checksum,
    )


def _compare(contenders: Sequence[Contender], timings: Mapping[str, Timing]) -> None:
    groups: dict[str, Timing] = {}
    for contender in contenders:
        timing = timings[contender.name]
        first = groups.setdefault(contender.group, timing)
        if (first.delivered, first.checksum) != (timing.delivered, timing.checksum):
            message = (
                f"{timing.name} delivered {timing.delivered} bytes with {timing.checksum}, "
                f"and {first.name} {first.delivered} with {first.checksum}"
            )
            raise BenchmarkError(message)


def _time(
    contenders: Sequence[Contender],
    timings: Mapping[str, Timing],
    origin: Origin,
    rounds: int,
    progress: Callable[[str], None],
) -> None:
    with contextlib.ExitStack() as open_ones:
        runs: dict[str, Callable[[], Ran]] = {}
        for contender in contenders:
            door = origin.door
            if contender.first_byte:
                _, door = open_ones.enter_context(origin.counted(contender.first_byte))
            runs[contender.name] = _runner(contender, door, open_ones)
        order = deque(contenders)
        for number in range(rounds + 1):
            for contender in order:
                progress(f"{contender.name}, {f'round {number} of {rounds}' if number else 'warming up'}")
                ran = runs[contender.name]()
                timing = timings[contender.name]
                if ran.delivered not in {timing.delivered, 0}:
                    raise BenchmarkError(
                        f"{contender.name} delivered {ran.delivered} bytes and had delivered {timing.delivered}"
                    )
                if number:  # Round 0 fills pools and caches.
                    timing.samples.append(ran.sample)
            order.rotate(-1)


def _runner(contender: Contender, door: Door, open_ones: contextlib.ExitStack) -> Callable[[], Ran]:
    if contender.in_new_process:

        def once() -> Ran:
            with working(contender, door) as fresh:
                fresh.prepare()
                return fresh.run()

        return once
    worker = open_ones.enter_context(working(contender, door))

    def again() -> Ran:
        worker.prepare()
        return worker.run()

    return again
