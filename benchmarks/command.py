"""The command line: ``run``, ``report``, ``compare`` and ``list``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.compare import show_changes
from benchmarks.goals import seconds_for
from benchmarks.own.command import own
from benchmarks.progress import Progress
from benchmarks.report import show
from benchmarks.report.html import html as whole_html
from benchmarks.report.page import block, put_between
from benchmarks.report.page import page as whole_page
from benchmarks.report.pictures import goals_picture
from benchmarks.report.publish import CURRENT, PAGE, publish
from benchmarks.results import Report
from benchmarks.running import again, begin, chosen, go_on, read, run, saver
from benchmarks.workload import Scale
from benchmarks.workloads import WORKLOADS

FOLDER = Path("build/benchmarks")
"""Where results go by default: outside what git keeps."""
_LOUD = "!" * 80

app = typer.Typer(
    name="python -m benchmarks",
    help="The storage designs against each other and against their rivals, before one emulated S3.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("own")(own)

_Report = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE.json", help="What a run has written.")
]


@app.command("run")
def run_workloads(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]…", help="Workloads; by default all that belong to the scale.")
    ] = None,
    scale: Annotated[
        Scale,
        typer.Option(
            help="quick: a first look, 4 minutes. bench: 1/8 of the sizes, 25 minutes. full: the goals' sizes."
        ),
    ] = Scale.BENCH,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help=f"Where every sample goes, after each workload. By default {FOLDER}/SCALE.json."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Where the report goes. By default beside the JSON.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in FILE.json, if it was interrupted and neither code, versions nor machine have changed.",
        ),
    ] = False,
    retake: Annotated[
        bool,
        typer.Option("--retake", help="Measure the named workloads again, and keep the others that are in FILE.json."),
    ] = False,
) -> None:
    """Measure, print the tables, and write the JSON and the HTML report.

    The exit code is 1 if a workload could not be measured. A goal that is missed is a figure, no failure.
    """
    names = names or []
    if unknown := [name for name in names if name not in WORKLOADS]:
        raise typer.BadParameter(f"no workload named {', '.join(unknown)}; `list` shows all", param_hint="NAME")
    out = out or FOLDER / f"{scale.value}.json"
    console = Console(stderr=True)
    wanted = chosen(names, scale)
    report = _report(out, wanted, scale, console, resume=resume, retake=retake)
    if (busy := os.getloadavg()[0]) > 1:
        _say(console, f"the machine is busy (load {busy:.1f}): seconds and ratios will scatter", "yellow")
    try:
        run(report, wanted, scale, saver(out), Progress(console))
    except KeyboardInterrupt:
        _say(console, f"interrupted; what was measured is in {out}: the same with --resume goes on", "yellow")
        raise typer.Exit(130) from None
    _render(report, out, html, console)
    _guard(report, console)
    raise typer.Exit(int(any(result.error for result in report.results)))


@app.command("report")
def write_report(
    file: _Report,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the HTML report, self-contained.")
    ] = None,
    page: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Write the page docs/benchmarks.md.")] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Write the picture of the README.")] = None,
    readme: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Replace what is between this file's markers.")
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--publish",
            help=f"Make it the report that the project shows: {CURRENT}, {PAGE}, the picture and the README, in this checkout.",
        ),
    ] = False,
) -> None:
    """Measure nothing: show what a run has written, and write reports from it. With --readme and the like nobody types a figure."""
    report, console = _read(file), Console(stderr=True)
    if html:
        _write(html, whole_html(report), console)
    if page:
        _write(page, whole_page(report), console)
    if picture:
        _write(picture, goals_picture(report), console)
    try:
        if readme:
            _write(readme, put_between(readme.read_text(encoding="utf-8"), block(report)), console)
        if everything:
            for path in publish(report, Path(__file__).parent.parent):
                _say(console, f"wrote {path}")
    except ValueError as error:
        raise typer.BadParameter(f"the README has no place for the figures: {error}") from error
    if not (html or page or picture or readme or everything):
        show(report, _console())


@app.command("compare")
def compare_runs(
    before: _Report,
    after: _Report,
    everything: Annotated[bool, typer.Option("--all", help="Also show what changed less than the spreads.")] = False,
) -> None:
    """Tell what changed between two runs, and mark what changed by more than the spread of both."""
    show_changes(_read(before), _read(after), _console(), everything=everything)


@app.command("list")
def list_workloads() -> None:
    """Show the workloads, the rows of the goals that they belong to, and the seconds that they may take."""
    table = Table("workload", "row", "measures", "quick", "bench", box=None, pad_edge=False)
    for name, kind in WORKLOADS.items():
        seconds = [
            "" if kind.only_full else f"{seconds_for(name, kind.row, scale):.0f} s" for scale in ("quick", "bench")
        ]
        table.add_row(name, kind.row, kind(Scale.BENCH).measures, *seconds)
    _console().print(table)


def _read(path: Path) -> Report:
    try:
        return read(path)
    except (msgspec.DecodeError, OSError) as error:
        raise typer.BadParameter(f"{path} holds no report: {error}") from error


def _report(out: Path, names: list[str], scale: Scale, console: Console, *, resume: bool, retake: bool) -> Report:
    if not out.exists():
        return begin(scale)
    if retake:
        try:
            return again(_read(out), names, scale)
        except ValueError as error:
            raise typer.BadParameter(f"{out} cannot be added to: {error}") from error
    if resume:
        try:
            report = go_on(_read(out), scale)
        except ValueError as error:
            _say(console, f"{out} holds {error}: this run begins anew", "yellow")
        else:
            have = {result.name for result in report.results}
            _say(console, f"{len(have & set(names))} of {len(names)} workloads are already in {out}")
            return report
    _keep(out, console)
    return begin(scale)


def _keep(out: Path, console: Console) -> None:
    before = out.with_name(f"{out.stem}.before{out.suffix}")
    out.replace(before)
    _say(console, f"the results of before are kept in {before}")


def _render(report: Report, out: Path, html: Path | None, console: Console) -> None:
    show(report, _console())
    html = html or out.with_suffix(".html")
    _write(html, whole_html(report), console)


def _write(path: Path, text: str, console: Console) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    _say(console, f"wrote {path}")


def _guard(report: Report, console: Console) -> None:
    minutes = f"{report.seconds / 60:.1f} minutes"
    if report.over_budget and report.budget:
        text = (
            f"THE RUN TOOK {minutes.upper()}; A RUN OF THE SCALE {report.scale.upper()} MAY TAKE {report.budget / 60:g}"
        )
        _say(console, f"{_LOUD}\n{text}\n{_LOUD}", "bold red")
    else:
        _say(console, f"{len(report.results)} workloads in {minutes}")


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    # Where nobody watches, the width is the tables' own and not a terminal's.
    return Console() if sys.stdout.isatty() else Console(width=200)
