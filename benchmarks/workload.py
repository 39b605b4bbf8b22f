"""``Workload``: what is measured, by which contenders, and the figures that come of it; ``measure`` runs one."""

from __future__ import annotations

import contextlib
import enum
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from benchmarks.contender import Contender, Delivered
from benchmarks.front import Limits
from benchmarks.needs import ALLUXIO, EFS, ORIGIN, Needs
from benchmarks.origin import Door, Origin
from benchmarks.results import Figure, Plot, Result, Timing, all_rounds
from benchmarks.worker import BenchmarkError, Ran, working
from tests.services.process import HOST

_T = TypeVar("_T")


class Scale(enum.Enum):
    """How much of a workload to do."""

    FULL = "full"
    """The sizes of the goals."""
    BENCH = "bench"
    """About an eighth of them, and three samples of what is slow."""
    QUICK = "quick"
    """A first look: one sample of what is slow."""
    TINY = "tiny"
    """For tests: everything happens, and no figure means anything."""

    def pick(self, *, full: _T, bench: _T, quick: _T, tiny: _T) -> _T:
        """Return the value for this scale."""
        return {Scale.FULL: full, Scale.BENCH: bench, Scale.QUICK: quick, Scale.TINY: tiny}[self]


class Workload(ABC):
    """One thing that is measured."""

    name: str
    measures: str
    """One sentence for the report."""
    row = ""
    """The goal's number, such as ``P1``; several workloads may belong to one. Empty for what no goal asks."""
    only_full = False
    """Whether it is left out of the smaller scales, unless it is named."""

    counted_apart = True
    """Whether requests are counted in a pass of their own, and each way runs once to warm up before it is timed. Otherwise every run is counted,
    checked and timed at once, through a front and in a fresh process: for work of minutes before a slow origin."""
    limits: Limits | None = None
    """How slow the origin is for all of it, *emulated*; by default not at all."""
    alluxio = False
    """Whether a folder of Alluxio is mounted on the bucket. All requests are counted together then, Alluxio's and the contenders'."""
    efs = False
    """Whether there is a folder on an *emulated* EFS beside the bucket: ``door.required_efs``."""
    cluster = False
    """Whether it runs in pods of a Kubernetes on this machine."""
    marks: tuple[int, ...] = ()
    """Lengths in bytes at which each contender's checksum is also taken, for those that do only a part of the work."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale

    def why_not_here(self) -> str:
        """Return why this machine cannot run it, such as that it has no cluster; by default it can."""
        return ""

    def needs(self) -> Needs:
        """Return what is to be in the cache before it is timed; by default the programs and jars that its servers are."""
        return {**ORIGIN, **(ALLUXIO if self.alluxio else {}), **(EFS if self.efs else {})}

    def place(self) -> contextlib.AbstractContextManager[str]:
        """Return what is to run before its servers do, and gives the address at which front and Alluxio serve; by default loopback's."""
        return contextlib.nullcontext(HOST)

    @property
    def rounds(self) -> int:
        """How often each contender is timed."""
        return self.scale.pick(full=11, bench=3, quick=3, tiny=1)

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

    def plots(self, timings: Mapping[str, Timing]) -> list[Plot]:
        """Return what is better seen than read; by default nothing."""
        return []


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
        host = running.enter_context(workload.place())
        if workload.alluxio:
            progress("starting Alluxio")
            origin = running.enter_context(origin.with_alluxio(workload.limits, host))
        if workload.efs:
            progress("mounting the emulated EFS")
            origin = running.enter_context(origin.with_efs())
        return _measure(workload, origin, progress, isolated=isolated)


def _measure(workload: Workload, origin: Origin, progress: Callable[[str], None], *, isolated: bool) -> Result:
    began = time.monotonic()
    progress("preparing")
    workload.prepare(origin.door)
    contenders = workload.contenders()
    for contender in contenders:
        contender.limits = contender.limits or workload.limits
    counted: dict[str, list[Timing]] = {contender.name: [] for contender in contenders}
    seen: dict[str, Delivered] = {}
    for number in range(1 if workload.counted_apart else workload.rounds):
        # Begun by another one each time.
        for contender in (*contenders[number:], *contenders[:number]):
            progress(f"counting and checking {contender.name}")
            timing, ran, seen[contender.name] = _count(contender, origin, workload.marks, number, isolated=isolated)
            if not workload.counted_apart:
                timing.samples = [ran.sample]
            counted[contender.name].append(timing)
        _compare(contenders, seen)
    timings = {name: all_rounds(rounds) for name, rounds in counted.items()}
    if workload.counted_apart:
        _Timer(origin, isolated=isolated, progress=progress).run(contenders, timings, workload.rounds)
    result = Result(name=workload.name, row=workload.row, measures=workload.measures, timings=list(timings.values()))
    result.figures = workload.figures(timings)
    result.plots = workload.plots(timings)
    result.seconds = time.monotonic() - began
    return result


def _count(
    contender: Contender, origin: Origin, marks: tuple[int, ...], number: int, *, isolated: bool
) -> tuple[Timing, Ran, Delivered]:
    with origin.fronted(contender.limits) as (front, door), working(contender, door, isolated=isolated) as worker:
        worker.prepare()
        front.forget(number)
        ran = worker.run(check=True, marks=marks)
        counts = front.counts()
        delivered = worker.check()
    times = contender.times * contender.part
    timing = Timing(
        name=contender.name,
        settings=contender.settings,
        requests={kind: count / times for kind, count in sorted(counts.requests.items())},
        bytes_up=counts.bytes_up / times,
        bytes_down=counts.bytes_down / times,
        refused=counts.refused / times,
        delivered=delivered.length,
        checksum=delivered.checksum,
        part=contender.part,
        emulated=str(contender.limits) if contender.limits else "",
    )
    return timing, ran, delivered


def _compare(contenders: Sequence[Contender], seen: Mapping[str, Delivered]) -> None:
    groups: dict[str, str] = {}
    # Those that did all of it first: the others are held against what those had delivered by then.
    for contender in sorted(contenders, key=lambda one: one.part < 1):
        name, delivered = contender.name, seen[contender.name]
        first = groups.setdefault(contender.group, name)
        length, checksum, marks = seen[first]
        if contender.part < 1 and first != name:
            length, checksum = delivered.length, marks.get(delivered.length)
        if (length, checksum) != delivered[:2]:
            message = (
                f"{name} delivered {delivered.length} bytes with {delivered.checksum}, "
                f"and {first} {length} with {checksum}"
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
            ready = {contender.name for contender in contenders if contender.warmed_by_preparing}
            for number in range(rounds + 1):
                for timing, turn in turns:
                    if not number and timing.name in ready:
                        continue
                    self._progress(f"{timing.name}, {f'round {number} of {rounds}' if number else 'warming up'}")
                    ran = turn(number)
                    if ran.delivered not in {timing.delivered, 0}:
                        raise BenchmarkError(
                            f"{timing.name} delivered {ran.delivered} bytes and had delivered {timing.delivered}"
                        )
                    if number:
                        timing.samples.append(ran.sample)
                turns.rotate(-1)

    def _turn(self, contender: Contender) -> Callable[[int], Ran]:
        door, front = self._origin.door, None
        if contender.limits:
            front, door = self._open_ones.enter_context(self._origin.fronted(contender.limits))
        if contender.in_new_process:

            def once(number: int) -> Ran:
                with working(contender, door, isolated=self._isolated) as fresh:
                    fresh.prepare()
                    if front is not None:
                        front.forget(number)
                    return fresh.run()

            return once
        worker = self._open_ones.enter_context(working(contender, door, isolated=self._isolated))

        def again(number: int) -> Ran:
            worker.prepare()
            if front is not None:
                front.forget(number)
            return worker.run()

        return again
