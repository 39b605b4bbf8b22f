"""What a benchmark run found: samples, figures with goals, and the JSON that holds them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from benchmarks.goals import BUDGETS


class Sample(msgspec.Struct, frozen=True):
    """One timed run, for doing the work once."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds, all threads of the client's process, user and system."""
    peak: int | None = None
    """The process's peak resident memory in bytes, the interpreter and its imports included."""
    idle: int | None = None
    """Its resident memory before the run."""
    seen: dict[str, float] = {}
    """What the contender itself measured within the run, such as a percentile of its requests."""


class Spread(msgspec.Struct, frozen=True):
    """A median with its smallest and largest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return the spread of some values."""
        return cls(statistics.median(values), min(values), max(values))


class Timing(msgspec.Struct, kw_only=True):
    """Everything that was seen of one contender."""

    name: str
    settings: str
    samples: list[Sample] = []
    requests: dict[str, float] = {}
    """Requests by kind, as the server's door saw them, for doing the work once."""
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    delivered: int = 0
    """Bytes that one run delivered."""
    checksum: str | None = None
    part: float = 1.0
    """The share of the work that was done; times, requests and bytes are extrapolated from it."""
    refused: float = 0.0
    """Requests that the origin answered with 503."""
    emulated: str = ""
    """How slow the origin was made for it, in words; empty for bare loopback."""

    @property
    def wall(self) -> Spread:
        """Seconds."""
        return Spread.of([sample.wall for sample in self.samples])

    @property
    def cpu(self) -> Spread:
        """Seconds."""
        return Spread.of([sample.cpu for sample in self.samples])

    @property
    def peak(self) -> Spread | None:
        """Bytes."""
        values = [float(sample.peak) for sample in self.samples if sample.peak is not None]
        return Spread.of(values) if values else None

    @property
    def request_count(self) -> float:
        """Requests of all kinds."""
        return sum(self.requests.values())


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One number that has a goal."""

    name: str
    value: Spread
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    ceiling: str = ""
    """What could be had at best."""
    emulated: bool = False
    """Whether the origin's latency was emulated."""
    note: str = ""
    """Where the goal is missed or wrong: why, and the next step."""

    @property
    def goal(self) -> str:
        """The goal as text."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    @property
    def met(self) -> bool | None:
        """Whether the median meets the goal, or None where there is none."""
        if self.at_least is not None:
            return self.value.median >= self.at_least
        return self.value.median <= self.at_most if self.at_most is not None else None


class Line(msgspec.Struct, frozen=True):
    """One curve of a plot."""

    name: str
    points: list[tuple[float, float]]
    texts: list[str] = []
    """What stands beside each point, where something does."""


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of what was measured, for the report."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    log_x: bool = True
    log_y: bool = True
    points: bool = False
    """Whether each point stands for itself, as on a map, and no line joins them."""
    note: str = ""
    """What there is to see in it, in a sentence."""


class Result(msgspec.Struct, kw_only=True):
    """One workload's outcome."""

    name: str
    measures: str
    row: str = ""
    """The goal's number, such as ``P1``."""
    timings: list[Timing] = []
    figures: list[Figure] = []
    plots: list[Plot] = []
    error: str | None = None
    """Why there are no figures."""
    skipped: str = ""
    """Why it cannot run on this machine, which is no error."""
    seconds: float = 0.0
    """How long the workload took, preparation included."""
    began: str = ""
    code: str = ""
    """Which state of the code was measured: a digest of its sources."""

    @property
    def measured(self) -> bool:
        """Whether there are figures."""
        return self.error is None and not self.skipped


class Report(msgspec.Struct, kw_only=True):
    """A whole run."""

    began: str
    scale: str
    """``full``, ``bench``, ``quick`` or ``tiny``."""
    machine: dict[str, str]
    versions: dict[str, str]
    code: str = ""
    """The state of the code at the last start."""
    origins: dict[str, str] = {}
    """The emulated origins by name, in words."""
    results: list[Result] = []
    seconds: float = 0.0
    """How long the run took, all its sittings together."""
    prepared: float = 0.0
    """Seconds before that in which programs, jars and tables were fetched or built that the cache lacked."""
    sittings: list[str] = []
    """When it was begun, and begun again after an interruption."""
    finished: bool = False

    @property
    def budget(self) -> float | None:
        """Seconds that a run of this scale may take."""
        return BUDGETS.get(self.scale)

    @property
    def over_budget(self) -> bool:
        """Whether it took longer than that."""
        return self.budget is not None and self.seconds > self.budget

    def of_row(self, row: str) -> list[Result]:
        """Return what was measured, or tried, for a row of the goals."""
        return [result for result in self.results if result.row == row]


def same(value: float) -> Spread:
    """Return the spread of a value that was counted, not timed."""
    return Spread(value, value, value)


def all_rounds(rounds: Sequence[Timing]) -> Timing:
    """Return one contender's rounds as one: all samples, and the medians of what was counted in each round.

    Args:
        rounds: What was seen in each, at least one.
    """
    kinds = sorted({kind for one in rounds for kind in one.requests})
    return msgspec.structs.replace(
        rounds[-1],
        samples=[sample for one in rounds for sample in one.samples],
        requests={kind: statistics.median(one.requests.get(kind, 0.0) for one in rounds) for kind in kinds},
        bytes_up=statistics.median(one.bytes_up for one in rounds),
        bytes_down=statistics.median(one.bytes_down for one in rounds),
        refused=statistics.median(one.refused for one in rounds),
    )


def paired(one: Timing, other: Timing, combine: Callable[[Sample, Sample], float]) -> Spread:
    """Combine two contenders' samples round by round, so that a machine that slows down slows both."""
    return Spread.of([combine(a, b) for a, b in zip(one.samples, other.samples, strict=True)])


def speed_against(ours: Timing, rival: Timing) -> Spread:
    """Return how many times as fast as the rival we are: 1 is equal, more is better."""
    return paired(ours, rival, lambda mine, theirs: theirs.wall / mine.wall)


def speed_figure(
    name: str,
    ours: Timing,
    rival: Timing,
    *,
    at_least: float | None = None,
    ceiling: str = "",
    emulated: bool = True,
    note: str = "",
) -> Figure:
    """Return the figure of how many times as fast as the rival we are.

    Args:
        name: What is compared.
        ours: Ours.
        rival: Whom it is held against.
        at_least: The goal.
        ceiling: What could be had at best.
        emulated: Whether the origin's latency was emulated.
        note: Why the goal is missed, and what comes next; left out where it is met.
    """
    value = speed_against(ours, rival)
    missed = at_least is not None and value.median < at_least
    return Figure(
        name=name,
        value=value,
        unit="×",
        at_least=at_least,
        ceiling=ceiling,
        emulated=emulated,
        note=note if missed else "",
    )


def fastest(timings: Mapping[str, Timing], names: list[str]) -> Timing:
    """Return the one of some contenders with the smallest median."""
    return min((timings[name] for name in names), key=lambda timing: timing.wall.median)


def to_json(report: Report) -> bytes:
    """Return the report as JSON, with every sample, and the figures' goals and medians beside them."""
    document: dict[str, Any] = msgspec.to_builtins(report)
    for result, plain in zip(report.results, document["results"], strict=True):
        for figure, entry in zip(result.figures, plain["figures"], strict=True):
            entry |= {"goal": figure.goal, "met": figure.met}
    return msgspec.json.format(msgspec.json.encode(document), indent=1)
