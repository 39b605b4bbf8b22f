"""A report as ``docs/benchmarks.md``, and as the block of the README."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from benchmarks.goals import seconds_for
from benchmarks.report.how import FAIRNESS, METHOD, facts, origins
from benchmarks.report.summary import Row, cautions, others, rows, tally
from benchmarks.report.words import WAYS, between, goal, measured, met, named, way_cells
from benchmarks.results import Figure, Report, Result

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
PICTURE = "docs/pictures/benchmarks.svg"
MAP = "docs/pictures/crossovers.svg"
_WRITTEN = "<!-- Written by `python -m benchmarks report --publish`. Do not edit: run it again. -->"


def page(report: Report) -> str:
    """Return the whole page."""
    return "\n".join(_lines(report)) + "\n"


def block(report: Report) -> str:
    """Return what stands between the markers of the README."""
    head = ("", "workload", "measured (goal)", "ceiling")
    body = ((row.goal.row, row.goal.title, "<br>".join(_brief(row)), row.goal.ceiling) for row in rows(report))
    lines = [
        _WRITTEN,
        "",
        f"![How each figure stands to its goal: {tally(report)}]({PICTURE})",
        "",
        *cautions(report),
        "",
        *_map(report, ""),
        *_table(head, body),
        "",
        "The S3 of these figures is *emulated*, before a real server, and other machines give other seconds.",
        f"{tally(report)}. [All figures, how they were taken, and what was missed and why](docs/benchmarks.md).",
    ]
    return "\n".join(lines)


def put_between(text: str, block: str) -> str:
    """Return a text with another block between its markers.

    Raises:
        ValueError: It has no such markers, or more than one pair.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"it needs the lines {BEGIN} and {END}, once each")
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{block}\n{END}", text, flags=re.DOTALL)


def _map(report: Report, folder: str) -> Iterator[str]:
    for plot in [plot for result in report.results for plot in result.plots if plot.points][:1]:
        yield f"![{plot.title}]({MAP.removeprefix(folder)})"
        yield ""
        yield f"{plot.title}. {plot.note}".rstrip()
        yield ""


def _brief(row: Row) -> Iterator[str]:
    for figure in row.judged:
        missed = "" if figure.met else ", **missed**"
        yield f"{figure.name}: **{measured(figure)}** ({goal(figure)}{missed})"
    if row.missing:
        yield row.missing.partition(":")[0]
    elif not row.judged:
        yield from (f"{figure.name}: **{measured(figure)}**" for _, figure in row.figures)


def _lines(report: Report) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield _WRITTEN
    yield ""
    yield f"{tally(report)}. All of it comes from one file, `benchmarks/current.json.gz`, which keeps every sample."
    yield from cautions(report)
    yield ""
    yield "![How each figure stands to its goal](pictures/benchmarks.svg)"
    yield ""
    yield from _map(report, "docs/")
    yield from _INSTRUCTIONS
    yield ""
    yield "## How it was measured"
    yield ""
    yield from (f"- {line}" for line in (*METHOD, *FAIRNESS))
    yield ""
    yield from _table(("emulated origin", ""), origins(report))
    yield ""
    yield from _table(("run", ""), facts(report))
    yield ""
    yield from _table(("version of", ""), report.versions.items())
    yield ""
    yield "## The goals, row by row"
    for row in rows(report):
        yield from _row(row)
    if rest := [result for result in others(report) if result.figures or not result.measured]:
        yield ""
        yield "## Beside the goals"
        for result in rest:
            yield ""
            yield f"### {result.name}: {result.measures}"
            yield ""
            yield from _figures([(result, figure) for figure in result.figures]) if result.measured else [_why(result)]
    yield ""
    yield "## Every way, workload by workload"
    for result in report.results:
        yield from _ways(result, report)


_INSTRUCTIONS = (
    "## Run them",
    "",
    "`make bench-quick` takes 4 minutes, `make bench` 25, `make bench-full` hours. Each prints tables, and leaves `SCALE.json`, with every sample,",
    "and `SCALE.html`, the report with its plots, in `build/benchmarks`. One that was interrupted goes on when it is started again, unless the code",
    "has changed. Nothing else should run on the machine meanwhile.",
    "",
    "`.venv/bin/python -m benchmarks run p1-std p8-std --scale quick` runs a few workloads, `… list` names them all. `… compare A.json B.json` tells",
    "what changed between two runs, and marks what changed by more than the spread of both. `… own --help` is for your own data.",
    "",
    "## Read them",
    "",
    "Begin with requests and bytes: they are exact, and hold on any machine and on AWS. Then the ratios, with their min–max. Seconds come last. The",
    "*ceiling* is what could be had at best: a way that is near it has little left to gain. *Missed* has a note that says why, and what comes next.",
)


def _row(row: Row) -> Iterator[str]:
    yield ""
    yield f"### {row.goal.row}: {row.goal.title}"
    yield ""
    yield row.goal.asked
    if row.figures:
        yield ""
        yield from _figures(row.figures)
    if row.missing:
        yield ""
        yield f"{row.missing[0].upper()}{row.missing[1:]}."


def _figures(figures: list[tuple[Result, Figure]]) -> Iterator[str]:
    head = ("workload", "figure", "measured", "min–max", "goal", "", "ceiling", "note")
    yield from _table(head, ((result.name, *_figure(figure)) for result, figure in figures))


def _figure(figure: Figure) -> tuple[str, ...]:
    spread = between(figure.value)
    return named(figure), measured(figure), spread, goal(figure), met(figure), figure.ceiling, figure.note


def _ways(result: Result, report: Report) -> Iterator[str]:
    yield ""
    yield f"### {result.name}{f' ({result.row})' if result.row else ''}: {result.measures}"
    yield ""
    if not result.measured:
        yield _why(result)
        return
    rounds = max((len(timing.samples) for timing in result.timings), default=0)
    meant = seconds_for(result.name, result.row, report.scale)
    took = f"took {result.seconds:.0f} s{f', {meant:.0f} s were meant' if report.budget else ''}"
    yield f"{rounds} {'round' if rounds == 1 else 'rounds'}; {took}. Figures are for doing the work once."
    if result.timings:
        yield ""
        yield from _table(WAYS, map(way_cells, result.timings))
    for plot in result.plots:
        yield ""
        yield f"**{plot.title}** ({plot.x_label} → {plot.y_label}). {plot.note}".rstrip()
        yield ""
        across = sorted({x for line in plot.lines for x, _ in line.points})
        head = (plot.x_label, *(line.name for line in plot.lines))
        yield from _table(head, ((_number(x), *(_at(line.points, x) for line in plot.lines)) for x in across))


def _number(value: float) -> str:
    return f"{value:,.6g}"


def _at(points: list[tuple[float, float]], x: float) -> str:
    return ", ".join(f"{y:,.3g}" for there, y in points if there == x)


def _why(result: Result) -> str:
    return f"Not measured: {(result.error or result.skipped).splitlines()[0]}"


def _table(head: tuple[str, ...], body: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield _line(head)
    yield _line(("---",) * len(head))
    for cells in body:
        yield _line(tuple(map(_cell, cells)))


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(text.split()))
