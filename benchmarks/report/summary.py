"""The goals' rows, each with all that was measured for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.goals import GOALS, Goal
from benchmarks.results import Figure, Report, Result


@dataclass(frozen=True)
class Row:
    """One row of the goals."""

    goal: Goal
    results: list[Result]

    @property
    def figures(self) -> list[tuple[Result, Figure]]:
        """All its figures, with the workload each comes from."""
        return [(result, figure) for result in self.results for figure in result.figures if result.measured]

    @property
    def judged(self) -> list[Figure]:
        """Those that have a goal."""
        return [figure for _, figure in self.figures if figure.met is not None]

    @property
    def missing(self) -> str:
        """What was not measured and why, or nothing."""
        reasons = [
            f"{result.name}: {(result.error or result.skipped).splitlines()[0]}"
            for result in self.results
            if not result.measured
        ]
        if reasons:
            return f"not measured: {'; '.join(reasons)}"
        return "" if self.figures else "not measured"


def rows(report: Report) -> list[Row]:
    """Return all rows of the goals, those without a workload too."""
    return [Row(goal, report.of_row(row)) for row, goal in GOALS.items()]


def others(report: Report) -> list[Result]:
    """Return the results that belong to no row."""
    return [result for result in report.results if result.row not in GOALS]


@dataclass(frozen=True)
class Tally:
    """How many figures have a goal, and meet it."""

    met: int
    judged: int
    rows: int
    measured: int

    def __str__(self) -> str:
        text = f"{self.met} of the {self.judged} figures that have a goal meet it, and {self.judged - self.met} do not"
        unmeasured = self.rows - self.measured
        return f"{text}; {unmeasured} of {self.rows} rows were not measured" if unmeasured else text


def tally(report: Report) -> Tally:
    """Return how a report's figures stand to their goals."""
    every = rows(report)
    figures = [figure for result in report.results if result.measured for figure in result.figures]
    judged = [figure for figure in figures if figure.met is not None]
    return Tally(
        met=sum(bool(figure.met) for figure in judged),
        judged=len(judged),
        rows=len(every),
        measured=sum(bool(row.figures) for row in every),
    )


def cautions(report: Report) -> Iterator[str]:
    """Yield what a reader must know before believing the figures."""
    if report.scale != "full":
        sizes = {"bench": "about an eighth of the goals' sizes, and three samples of what is slow"}
        yield f"Scale {report.scale}: {sizes.get(report.scale, 'a first look: small sizes, few samples')}."
    if not report.finished:
        yield "The run was interrupted: workloads are missing."
    if report.over_budget and report.budget:
        yield f"The run took {report.seconds / 60:.1f} minutes; a run of this scale may take {report.budget / 60:g}."
    load = float(report.machine.get("load before") or 0)
    if load > 1:
        yield f"The machine was busy before (load {load:.1f}): seconds and ratios scatter, requests and bytes do not."
    if len(report.sittings) > 1:
        yield f"Taken in {len(report.sittings)} sittings, the last begun {report.sittings[-1]}."
    if older := [result.name for result in report.results if result.code != report.code]:
        yield f"Taken with another state of the code than the rest: {', '.join(older)}."
