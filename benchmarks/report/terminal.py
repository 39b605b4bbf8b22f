"""A report as tables for a person at a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.report.summary import others, rows, tally
from benchmarks.report.words import WAYS, between, goal, measured, met, named, way_cells
from benchmarks.results import Figure, Report

_FIGURES = ("row", "figure", "measured", "min–max", "goal", "", "ceiling")


def show(report: Report, console: Console) -> None:
    """Print what every way took, then every row of the goals with its figures."""
    for result in report.results:
        table = Table(*WAYS, title=f"{result.name}: {result.measures}", title_justify="left")
        for timing in result.timings:
            table.add_row(*map(Text, way_cells(timing)))
        if result.timings:
            console.print(table)
    console.print(_figures(report))
    for result in report.results:
        if not result.measured:
            _say(console, f"{result.name}: not measured: {(result.error or result.skipped).splitlines()[0]}", "yellow")
        for figure in result.figures:
            if figure.note:
                _say(console, f"{result.name}, {named(figure)}: {figure.note}")
    _say(console, f"{tally(report)}.")


def _figures(report: Report) -> Table:
    table = Table(*_FIGURES, title="Figures", title_justify="left")
    for row in rows(report):
        asked = "; ".join(text for text in (row.goal.poc, row.goal.rival) if text != "–")
        _section(table, row.goal.row, row.goal.title, [figure for _, figure in row.figures], asked, row.goal.ceiling)
    for result in others(report):
        _section(table, "", f"{result.name}: {result.measures}", result.figures if result.measured else [])
    return table


def _section(table: Table, row: str, title: str, figures: list[Figure], asked: str = "", ceiling: str = "") -> None:
    table.add_section()
    table.add_row(row, Text(title), "" if figures else "not measured", "", Text(asked), "", ceiling, style="bold")
    for figure in figures:
        table.add_row("", *map(Text, _figure(figure)), style="red" if figure.met is False else None)


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _figure(figure: Figure) -> tuple[str, ...]:
    spread = between(figure.value)
    return named(figure), measured(figure), spread, goal(figure), met(figure), figure.ceiling
