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
from benchmarks.front import Limits
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

    counted_apart = True
    """Whether requests are counted in a pass of their own, and each way runs once to warm up before it is timed. Otherwise every run is counted,
    checked and timed at once, through a front and in a fresh process: for work of minutes before a slow origin."""
    limits: Limits | None = None
    """How slow the origin is for all of it, *emulated*; by default not at all."""
    alluxio = False
    """Whether a folder of Alluxio is mounted on the bucket. All requests are counted together then, Alluxio's and the contenders'."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale

    @property
    def rounds(self) -> int:
        """How often each contender is timed."""
        return self.scale.pick(11, 3, 1)

    def prepare(self, door: Door) -> None:  # noqa: B027  # some need none
        """Write what the contenders read."""

    def close(self) -> None:  # noqa: B027  # some have made nothing else
        """Let go of what :meth:`prepare` has made besides objects at the server."""

    @abstractmethod
    def contenders(self) -> Sequence[Contender]:
        """Return the ways of doing it, after :meth:`prepare`."""

    @abstractmethod
    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        """Return what comes of it."""


def measure(
    workload: Workload, origin: Origin, progress: Callable[[str], None] = lambda _: None, *, isolated: bool = True
) -> Result:
    """Run a workload and return its outcome.

    Args:
        workload: What to run.
        origin: The server.
        progress: Told what is being done.
        isolated: Whether each contender gets a process of its own, as any measurement needs.

    Raises:
        BenchmarkError: A contender failed, or two delivered different bytes.
    """
    with contextlib.closing(workload), contextlib.ExitStack() as running:
        if workload.alluxio:
            progress("starting Alluxio")
            origin = running.enter_context(origin.with_alluxio(workload.limits))
        return _measure(workload, origin, progress, isolated=isolated)


def _measure(workload: Workload, origin: Origin, progress: Callable[[str], None], *, isolated: bool) -> Result:
    began = time.monotonic()
    progress("preparing")
    workload.prepare(origin.door)
    contenders = workload.contenders()
    for contender in contenders:
        contender.limits = contender.limits or workload.limits
    timings: dict[str, Timing] = {}
    for number in range(1 if workload.counted_apart else workload.rounds):
        # Begun by another one each time.
        for contender in (*contenders[number:], *contenders[:number]):
            progress(f"counting and checking {contender.name}")
            timing, ran = _count(contender, origin, isolated=isolated)
            if not workload.counted_apart:
                timing.samples = [*(timings[contender.name].samples if number else ()), ran.sample]
            timings[contender.name] = timing
        timings = {contender.name: timings[contender.name] for contender in contenders}
        _compare(contenders, timings)
    if workload.counted_apart:
        _Timer(origin, isolated=isolated, progress=progress).run(contenders, timings, workload.rounds)
    result = Result(name=workload.name, measures=workload.measures, timings=list(timings.values()))
    result.figures = workload.figures(timings)
    result.seconds = time.monotonic() - began
    return result


def _count(contender: Contender, origin: Origin, *, isolated: bool) -> tuple[Timing, Ran]:
    with origin.fronted(contender.limits) as (front, door), working(contender, door, isolated=isolated) as worker:
        worker.prepare()
        front.forget()
        ran = worker.run(check=True)
        counts = front.counts()
        delivered, checksum = worker.check()
    times = contender.times
    timing = Timing(
        name=contender.name,
        settings=contender.settings,
        requests={kind: count / times for kind, count in sorted(counts.requests.items())},
        bytes_up=counts.bytes_up / times,
        bytes_down=counts.bytes_down / times,
        delivered=delivered,
        checksum=checksum,
    )
    return timing, ran


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


class _Timer:
    """Lets contenders take turns."""

    def __init__(self, origin: Origin, *, isolated: bool, progress: Callable[[str], None]) -> None:
        self._origin = origin
        self._isolated = isolated
        self._progress = progress
        self._open_ones = contextlib.ExitStack()

    def run(self, contenders: Sequence[Contender], timings: Mapping[str, Timing], rounds: int) -> None:
        """Add the samples of some rounds to the timings, after one round that only warms up."""
        with self._open_ones:
            turns = deque((timings[contender.name], self._turn(contender)) for contender in contenders)
            for number in range(rounds + 1):
                for timing, turn in turns:
                    self._progress(f"{timing.name}, {f'round {number} of {rounds}' if number else 'warming up'}")
                    ran = turn()
                    if ran.delivered not in {timing.delivered, 0}:
                        raise BenchmarkError(
                            f"{timing.name} delivered {ran.delivered} bytes and had delivered {timing.delivered}"
                        )
                    if number:
                        timing.samples.append(ran.sample)
                turns.rotate(-1)

    def _turn(self, contender: Contender) -> Callable[[], Ran]:
        door = self._origin.door
        if contender.limits:
            _, door = self._open_ones.enter_context(self._origin.fronted(contender.limits))
        if contender.in_new_process:

            def once() -> Ran:
                with working(contender, door, isolated=self._isolated) as fresh:
                    fresh.prepare()
                    return fresh.run()

            return once
        worker = self._open_ones.enter_context(working(contender, door, isolated=self._isolated))

        def again() -> Ran:
            worker.prepare()
            return worker.run()

        return again
