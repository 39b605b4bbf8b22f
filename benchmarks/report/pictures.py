"""Pictures of a report as SVG. Their colours are variables, so that a page in the dark shows them in its own."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.report.summary import Row, rows, tally
from benchmarks.report.words import goal, measured, number, seconds, size
from benchmarks.results import Figure, Plot, Report, Result, Spread, Timing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas

# Stand-ins for the variables: what is drawn in such a colour gets the variable's.
_INK, _DIM, _GRID, _PAPER = "#010101", "#020202", "#030303", "#040404"
_OURS, _POC, _RIVAL, _GOOD, _BAD = "#050505", "#060606", "#070707", "#080808", "#090909"
_LINES = ("#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d", "#0e0e0e", "#0f0f0f", "#101010", "#111111")
_VARIABLES = {
    _INK: "--ink",
    _DIM: "--dim",
    _GRID: "--grid",
    _PAPER: "--paper",
    _OURS: "--ours",
    _POC: "--poc",
    _RIVAL: "--rival",
    _GOOD: "--good",
    _BAD: "--bad",
    **{stand_in: f"--line{place}" for place, stand_in in enumerate(_LINES)},
}
_LIGHT = (
    *("#0f172a", "#526075", "#e2e8f0", "#ffffff", "#2563eb", "#c2710c", "#8793a5", "#15803d", "#c81e1e"),
    *("#2563eb", "#c2710c", "#15803d", "#9333ea", "#c81e1e", "#0e7490", "#a16207", "#64748b"),
)
_DARK = (
    *("#e6edf3", "#9aa7b8", "#2b3441", "#0d1117", "#6ea8fe", "#f0a04b", "#7d8a9c", "#4cc38a", "#ff7b72"),
    *("#6ea8fe", "#f0a04b", "#4cc38a", "#c297ff", "#ff7b72", "#56c7d9", "#e3c04f", "#9aa7b8"),
)


def _declared(colours: Sequence[str]) -> str:
    return " ".join(f"{name}: {colour};" for name, colour in zip(_VARIABLES.values(), colours, strict=True))


COLOURS = f":root {{ {_declared(_LIGHT)} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {_declared(_DARK)} }} }}"
"""The variables, as a style sheet."""

_OUR_NAMES = ("datalayer", "s3-direct", "shared-fs", "hot-cold", "pinned", "asking", "ours")
_LOWEST, _HIGHEST = 1 / 20, 1000.0
# Between bars that differ more, the short ones cannot be seen.
_MUCH = 30
_CHARACTERS = 46
# Up to so many values have a tick each; axes that go further have ticks at powers of ten only.
_EACH, _FAR = 10, 3000
_PLACES = {"s3-direct": 0, "s3-poc": 1, "hot-cold, cold": 2, "hot-cold, warm": 3, "shared-fs over EFS": 5}
"""A design has the same colour in every plot."""


def goals_picture(report: Report) -> str:
    """Return how far each figure is from its goal, a line for each row of the goals: a whole SVG file."""
    every = rows(report)
    with _canvas(10.8, 0.34 * len(every) + 1.7) as (canvas, done):
        axes = canvas.subplots()
        axes.set_xscale("log")
        axes.set_xlim(_LOWEST / 1.5, _HIGHEST * 1.5)
        axes.set_ylim(len(every) - 0.4, -0.7)
        axes.axvline(1, color=_INK, linewidth=1.2)
        for place, row in enumerate(every):
            axes.axhline(place, color=_GRID, linewidth=0.8, zorder=0)
            _margins(axes, place, row)
        axes.set_yticks(range(len(every)), [f"{row.goal.row}  {row.goal.title}" for row in every])
        axes.set_xticks(
            [0.1, 1, 10, 100, 1000], ["10 times\nshort of it", "the goal", "10 times\nbetter", "100", "1,000 or more"]
        )
        axes.minorticks_off()
        _bare(axes, "left", "right", "top", "bottom")
        title = f"How each figure stands to its goal ({_scale(report)})\n{tally(report)}"
        canvas.suptitle(title, x=0.012, ha="left", fontsize=10, color=_INK)
        return _alone(done("how each measured figure stands to its goal"))


def map_picture(report: Report) -> str | None:
    """Return which design wins where, as a whole SVG file; None where that was not measured."""
    maps = [plot for result in report.results for plot in result.plots if plot.points]
    return _alone(plot_picture(maps[0])) if maps else None


def ways_picture(result: Result) -> str:
    """Return a workload's ways beside each other: wall time with its spread, requests, and bytes."""
    timings = [timing for timing in result.timings if timing.samples]
    panels: list[tuple[str, Callable[[Timing], Spread], Callable[[float], str]]] = [
        ("wall time, median and min–max", lambda timing: timing.wall, seconds)
    ]
    if any(timing.request_count for timing in timings):
        panels += [
            ("requests at the origin", lambda timing: _exact(timing.request_count), number),
            ("bytes from and to the origin", lambda timing: _exact(timing.bytes_down + timing.bytes_up), size),
        ]
    with _canvas(11.5, 0.3 * len(timings) + 0.75) as (canvas, done):
        every = canvas.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, value, form) in zip(every, panels, strict=True):
            _bars(axes, timings, value, form)
            axes.set_title(title, loc="left", fontsize=9, color=_DIM)
        every[0].set_yticks(range(len(timings)), [_short(timing.name) for timing in timings])
        every[0].set_ylim(len(timings) - 0.4, -0.6)
        return done(f"{result.name}: time, requests and bytes of each way")


def plot_picture(plot: Plot) -> str:
    """Return a plot that a workload has made."""
    with _canvas(8.2, 3.9) as (canvas, done):
        axes = canvas.subplots()
        for place, line in enumerate(plot.lines):
            points = sorted(line.points)
            at = _PLACES.get(line.name, place)
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                label=line.name,
                color=_LINES[at % len(_LINES)],
                marker="osD^vPX*"[at % 8],
                markersize=11 if plot.points else 4.5,
                linewidth=0 if plot.points else 1.6,
            )
            for (x, y), text in zip(line.points, line.texts, strict=False):
                axes.annotate(
                    text, (x, y), (0, 9), textcoords="offset points", ha="center", va="bottom", fontsize=8.5, color=_DIM
                )
        places = [point for line in plot.lines for point in line.points]
        across, up = [x for x, _ in places], [y for _, y in places]
        # What is nothing has no place on a logarithmic axis.
        if plot.log_x and min(across, default=0) > 0:
            axes.set_xscale("log")
        if plot.log_y and min(up, default=0) > 0:
            axes.set_yscale("log")
        _ticks(axes.xaxis, across, each=True)
        _ticks(axes.yaxis, up, each=plot.points)
        axes.margins(0.08)
        axes.set_xlabel(plot.x_label, color=_DIM)
        axes.set_ylabel(plot.y_label, color=_DIM)
        axes.grid(color=_GRID, linewidth=0.8)
        _bare(axes, "top", "right")
        axes.legend(
            loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, labelcolor=_INK, labelspacing=0.9
        )
        return done(plot.title)


def _ticks(axis: Axis, values: Sequence[float], *, each: bool) -> None:
    from matplotlib.ticker import LogLocator

    distinct = sorted(set(values))
    if axis.get_scale() == "log":
        near = distinct[-1] / distinct[0] <= _FAR
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if near else (1.0,)))
    if each and len(distinct) <= _EACH:
        axis.set_ticks(distinct)
    axis.set_major_formatter(lambda value, _: number(value))
    axis.set_minor_formatter(lambda *_: "")
    axis.set_tick_params(which="minor", length=0)


def _bars(axes: Axes, timings: list[Timing], value: Callable[[Timing], Spread], form: Callable[[float], str]) -> None:
    spreads = [value(timing) for timing in timings]
    most = max(spread.high for spread in spreads)
    least = min((spread.low for spread in spreads if spread.low > 0), default=0.0)
    # A bar that begins at 1 and not at 0 would lie about its length: dots then.
    log = bool(least) and most / least > _MUCH
    for place, (timing, spread) in enumerate(zip(timings, spreads, strict=True)):
        colour = _side(timing.name)
        if not log:
            axes.barh(
                place,
                spread.median,
                height=0.62,
                color=colour,
                hatch="//" if timing.part < 1 else None,
                edgecolor=_PAPER,
                linewidth=0,
            )
        elif spread.median > 0:
            axes.plot([spread.median], [place], "o", color=colour, markersize=6)
        if spread.low < spread.high:
            axes.plot([spread.low, spread.high], [place, place], color=_INK, linewidth=1.3, solid_capstyle="butt")
        at = max(spread.high, least if log else 0)
        text = form(spread.median) + (" *" if timing.part < 1 else "")
        axes.annotate(text, (at, place), (7, 0), textcoords="offset points", va="center", fontsize=8.5, color=_INK)
    if log:
        axes.set_xscale("log")
        span = math.log10(most / least)
        axes.set_xlim(least / 1.6, most * 10 ** (0.42 * span + 0.1))
        axes.grid(axis="x", color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        # The labels say how much; an axis of powers of ten tells only that it is one.
        axes.set_xlabel("logarithmic", fontsize=8, color=_DIM)
    else:
        axes.set_xlim(0, (most or 1) * 1.42)
    axes.set_xticks([])
    axes.minorticks_off()
    axes.tick_params(axis="y", length=0, colors=_INK)
    _bare(axes, "left", "right", "top", "bottom")


def _margins(axes: Axes, place: int, row: Row) -> None:
    for figure in row.judged:
        colour = _GOOD if figure.met else _BAD
        at = min(max(margin(figure), _LOWEST), _HIGHEST)
        axes.plot(
            [at],
            [place],
            "o" if figure.met else "X",
            color=colour,
            markersize=7,
            markeredgecolor=_PAPER,
            markeredgewidth=0.6,
        )
    judged = row.judged
    if not judged:
        text, colour = row.missing.partition(":")[0] or "no goal among its figures", _DIM
    else:
        worst = min(judged, key=margin)
        missed = sum(not figure.met for figure in judged)
        count = (
            f"{missed} of {len(judged)} missed" if missed else f"all {len(judged)} met" if len(judged) > 1 else "met"
        )
        text, colour = f"{count}; worst: {measured(worst)} (goal {goal(worst)})", _BAD if missed else _DIM
    axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=colour)


def margin(figure: Figure) -> float:
    """Return how many times better than its goal a figure is; below 1 it misses it."""
    value = figure.value.median
    if figure.at_least is not None:
        return value / figure.at_least if figure.at_least > 0 else math.inf if value >= figure.at_least else 0.0
    most = figure.at_most or 0.0
    if value <= 0:
        return 1.0 if most == 0 else math.inf
    return most / value


def _scale(report: Report) -> str:
    return f"scale {report.scale}, {report.began[:10]}, S3 emulated"


def _side(name: str) -> str:
    if name.startswith("s3-poc"):
        return _POC
    return _OURS if name.startswith(_OUR_NAMES) else _RIVAL


def _short(name: str) -> str:
    return name if len(name) <= _CHARACTERS else f"{name[: _CHARACTERS - 1]}…"


def _exact(value: float) -> Spread:
    return Spread(value, value, value)


def _alone(svg: str) -> str:
    """Return a picture as a file of its own, with its colours and its size."""
    view = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    width, height = view.groups() if view else ("100%", "100%")
    style = f'<style>{COLOURS}</style><rect width="{width}" height="{height}" rx="8" style="fill: var(--paper)"/>'
    return svg.replace(">", f' width="{width}" height="{height}">{style}', 1) + "\n"


def _bare(axes: Axes, *sides: str) -> None:
    for side in sides:
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(_GRID)
    axes.tick_params(colors=_DIM, labelcolor=_INK, length=0)


class _canvas:  # noqa: N801  # it reads as the verb it is
    """A figure of some inches; what it gives besides returns the figure as SVG."""

    def __init__(self, width: float, height: float) -> None:
        self._size = (width, height)

    def __enter__(self) -> tuple[Canvas, Callable[[str], str]]:
        import matplotlib
        from matplotlib.figure import Figure as Canvas

        # Texts stay texts; names of parts are the same each time.
        settings: dict[Any, Any] = {
            "svg.fonttype": "none",
            "svg.hashsalt": "datalayer",
            "font.size": 9.5,
            "hatch.linewidth": 0.8,
            "text.color": _INK,
            "figure.constrained_layout.w_pad": 0.14,
            "figure.constrained_layout.h_pad": 0.12,
        }
        self._settings = matplotlib.rc_context(settings)
        self._settings.__enter__()
        canvas = Canvas(figsize=self._size, layout="constrained")

        def done(title: str) -> str:
            made = io.StringIO()
            canvas.savefig(made, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            return _tidy(made.getvalue(), title)

        return canvas, done

    def __exit__(self, *error: object) -> None:
        self._settings.__exit__(None, None, None)


def _tidy(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Names are asked for within one picture only, and a page has many.
    mine = re.sub(r"\W+", "-", title)
    named = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{mine}-{found[1]}"' if found[1] in named else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{mine}-", svg)
    # Black is what was given no colour, such as ticks and symbols.
    for stand_in, variable in (*_VARIABLES.items(), ("#000000", "--dim")):
        svg = svg.replace(stand_in, f"var({variable})")
    svg = svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip())
