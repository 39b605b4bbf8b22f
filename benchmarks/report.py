"""A report as tables: for a person at a terminal, and as the page ``docs/benchmarks.md``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from benchmarks.front import STD
from benchmarks.results import Figure, Report, Result, Spread, Timing

_FIGURES = ("workload", "figure", "median", "min–max", "goal", "met", "ceiling")
_TIMINGS = ("way", "wall", "min–max", "CPU", "peak", "requests", "up", "down", "settings")


def show(report: Report, console: Console) -> None:
    """Print what every contender took, and then all figures with their goals."""
    for result in report.results:
        table = Table(*_TIMINGS, title=f"{result.name}: {result.measures}", title_justify="left")
        for timing in result.timings:
            table.add_row(*_timing_row(timing))
        if result.timings:
            console.print(table)
    table = Table(*_FIGURES, title="Figures", title_justify="left")
    for result in report.results:
        for row, met in _figure_rows(result):
            table.add_row(*row, style="red" if met is False else None)
    console.print(table)


def page(report: Report) -> Iterator[str]:
    """Yield the lines of the page in Markdown."""
    yield "# Benchmarks"
    yield ""
    yield "<!-- Written by `python -m benchmarks --page`. Do not edit: run it again. -->"
    yield ""
    yield f"Taken {report.began}, at the scale {report.scale}. Everything below was measured in one run of"
    yield "`python -m benchmarks`, on loopback, against a versitygw process, and real Alluxio servers where a way is called so. Other machines"
    yield "give other seconds; requests and bytes stay."
    yield ""
    yield "- Each way of doing the work has a process of its own. CPU and peak memory are the client's, the interpreter included."
    yield "- The ways take turns round by round. A ratio is the median of the rounds' ratios; min–max is over the rounds."
    yield "- Requests and bytes were counted at the server's door in a pass of their own, in which all ways also had to show the same checksum;"
    yield "  of workloads named …-std that take minutes, in the timed one."
    yield "- *Emulated* says that a rival's protocol or an origin's latency was imitated, and how. The emulated S3 of workloads named …-std is the"
    yield f"  same server behind a front: {STD}."
    yield "- Cold means that no cache of a client's holds anything; the server has its files in memory."
    yield ""
    yield from _markdown(("machine", ""), report.machine.items())
    yield ""
    yield from _markdown(("version of", ""), report.versions.items())
    yield ""
    yield "## Figures"
    yield ""
    yield from _markdown(_FIGURES, (row for result in report.results for row, _ in _figure_rows(result)))
    for result in report.results:
        yield ""
        yield f"## {result.name}: {result.measures}"
        yield ""
        if result.error:
            yield f"Not measured: {result.error.splitlines()[0]}"
            continue
        rounds = max((len(timing.samples) for timing in result.timings), default=0)
        yield f"{rounds} rounds. Figures are for doing the work once."
        yield ""
        yield from _markdown(_TIMINGS, map(_timing_row, result.timings))


def _markdown(head: tuple[str, ...], rows: object) -> Iterator[str]:
    yield _row(head)
    yield _row(("---",) * len(head))
    for row in rows:  # type: ignore[attr-defined]  # any iterable of tuples
        yield _row(row)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _figure_rows(result: Result) -> Iterator[tuple[tuple[str, ...], bool | None]]:
    if result.error:
        yield (result.name, f"not measured: {result.error.splitlines()[0]}", "", "", "", "no", ""), False
    for figure in result.figures:
        value = figure.value
        spread = "" if value.low == value.high else f"{_number(value.low)}–{_number(value.high)}"
        name = f"{figure.name} (emulated)" if figure.emulated and "emulated" not in figure.name else figure.name
        cells = (f"{_number(value.median)} {figure.unit}".strip(), spread, figure.goal, _met(figure), figure.ceiling)
        yield (result.name, name, *cells), figure.met


def _met(figure: Figure) -> str:
    return {True: "yes", False: "no", None: ""}[figure.met]


def _timing_row(timing: Timing) -> tuple[str, ...]:
    if not timing.samples:
        return timing.name, "", "", "", "", "", "", "", timing.settings
    kinds = ", ".join(f"{_number(count)} {kind}" for kind, count in timing.requests.items())
    requests = f"{_number(timing.request_count)} ({kinds})" if len(timing.requests) > 1 else kinds or "0"
    return (
        timing.name,
        _seconds(timing.wall.median),
        _range(timing.wall, _seconds),
        _seconds(timing.cpu.median),
        _bytes(timing.peak.median) if timing.peak else "",
        requests,
        _bytes(timing.bytes_up),
        _bytes(timing.bytes_down),
        timing.settings,
    )


def _range(spread: Spread, form: Callable[[float], str]) -> str:
    return f"{form(spread.low)}–{form(spread.high)}"


def _number(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{_number(value / size)} {unit}"
    return f"{_number(value * 1e6)} µs"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if value >= size:
            return f"{_number(value / size)} {unit}"
    return f"{_number(value)} B"
