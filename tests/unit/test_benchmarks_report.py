"""What a report shows: every row of the goals, every miss, and nothing that was typed."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.command import app
from benchmarks.compare import changes, differences, show_changes
from benchmarks.goals import BUDGETS, GOALS, seconds_for
from benchmarks.report import show, words
from benchmarks.report.html import html
from benchmarks.report.page import BEGIN, END, MAP, PICTURE, block, page, put_between
from benchmarks.report.pictures import goals_picture, margin, plot_picture, ways_picture
from benchmarks.report.publish import CURRENT, PAGE, README, publish, written
from benchmarks.report.summary import rows, tally
from benchmarks.results import Figure, Line, Plot, Report, Result, Sample, Spread, Timing, same, to_json
from benchmarks.running import read
from benchmarks.workload import Scale
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]


def _timing(name: str, *walls: float, part: float = 1.0, gets: float = 10, down: float = 5e6) -> Timing:
    samples = [Sample(wall, wall / 2, 50_000_000, 40_000_000) for wall in walls]
    return Timing(
        name=name, settings="pool 128 | tuned", samples=samples, part=part, requests={"GET": gets}, bytes_down=down
    )


def _report() -> Report:
    met = Figure(
        name="speed against s3-poc", value=Spread(15, 14, 16), unit="×", at_least=12, ceiling="16", emulated=True
    )
    missed = Figure(
        name="speed | best", value=Spread(0.8, 0.7, 1.1), unit="×", at_least=1.2, note="arithmetic: <2 & 3>"
    )
    timings = [_timing("hot-cold, NodeCache", 1, 1.1, 1.2), _timing("s3-poc", 90, part=0.05), _timing("obstore", 2, 3)]
    plot = Plot(
        title="Time & latency",
        x_label="ms",
        y_label="s",
        lines=[Line("s3-poc", [(1, 2), (10, 20)])],
        note="Crosses at 5.",
    )
    return Report(
        began="2026-11-23T10:00:00+00:00",
        scale="bench",
        machine={"cores": "2", "load before": "0.10"},
        versions={"obstore": "1"},
        code="c0de",
        origins={"STD": "slow"},
        seconds=60,
        finished=True,
        results=[
            Result(
                name="p1", row="P1", measures="reads", timings=timings, figures=[met, missed], plots=[plot], code="c0de"
            ),
            Result(name="p2", row="P2", measures="columns", error="ValueError: <broken>\nat length", code="c0de"),
            Result(name="p14-cluster", row="P14", measures="pods", skipped="no cluster", code="c0de"),
            Result(name="anchors", measures="the front", figures=[met], timings=[], code="c0de"),
        ],
    )


def test_every_row_of_the_goals_is_there_whether_measured_or_not() -> None:
    assert list(GOALS) == [f"P{number}" for number in range(1, 18)]
    found = {row.goal.row: row for row in rows(_report())}
    assert [figure.name for _, figure in found["P1"].figures] == ["speed against s3-poc", "speed | best"]
    assert found["P2"].missing == "not measured: p2: ValueError: <broken>"
    assert found["P14"].missing == "not measured: p14-cluster: no cluster"
    assert found["P17"].missing == "not measured"
    assert str(tally(_report())) == (
        "2 of the 3 figures that have a goal meet it, and 1 do not; 16 of 17 rows were not measured"
    )


@pytest.mark.parametrize("form", ["terminal", "page", "html"])
def test_each_form_shows_figures_goals_ceilings_misses_and_notes(form: str) -> None:
    report = _report()
    if form == "terminal":
        console = Console(width=250, file=io.StringIO())
        show(report, console)
        text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    else:
        text = page(report) if form == "page" else html(report)
    for part in (
        *("speed against s3-poc (emulated)", "15 ×", "14–16", "≥ 12", "0.7–1.1", "≥ 1.2", "missed"),
        *("hot-cold, NodeCache", "1.1 s", "1 s–1.2 s", "10 GET", "5 MB", "extrapolated from 0.05 of the work"),
        *("no cluster", "pool 128", "anchors"),
        *GOALS["P17"].title.split(),
    ):
        assert part in text, part
    note, error = (
        ("arithmetic: &lt;2 &amp; 3&gt;", "&lt;broken&gt;") if form == "html" else ("arithmetic: <2 & 3>", "<broken>")
    )
    assert note in text
    assert error in text
    assert "at length" not in text
    assert text.count("not measured") + text.count("Not measured") >= 16


def test_a_table_of_the_page_has_as_many_cells_in_each_line() -> None:
    lines = [line for line in page(_report()).splitlines() if line.startswith("|")]
    assert any(r"speed \| best" in line for line in lines)
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    for line, above, width in zip(lines[1:], widths, widths[1:], strict=False):
        assert width == above or not line.startswith("| ---"), line


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in {"href", "src", "xlink:href"}:
                self.targets.append(str(value))


def test_the_html_needs_nothing_from_elsewhere() -> None:
    text = html(_report())
    found = _Elements()
    found.feed(text)
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert all(target.startswith("#") for target in found.targets)
    assert {target[1:] for target in found.targets} <= set(found.ids)
    assert len(set(found.ids)) == len(found.ids)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert found.tags.count("svg") == 3  # goals, p1's ways, p1's plot
    assert "prefers-color-scheme: dark" in text


def test_pictures_are_svg_with_their_texts_and_the_same_each_time() -> None:
    report = _report()
    plot = report.results[0].plots[0]
    for svg, again in (
        (goals_picture(report), goals_picture(report)),
        (ways_picture(report.results[0]), ways_picture(report.results[0])),
        (plot_picture(plot), plot_picture(plot)),
    ):
        ET.fromstring(svg)  # our own
        assert again == svg
        # No stand-in for a colour is left.
        assert not re.search(r"#([01][0-9a-f])\1\1", svg.partition("</style>")[2])
    assert "1 of 2 missed; worst: 0.8 × (goal ≥ 1.2)" in goals_picture(report)
    assert goals_picture(report).count(">not measured<") == 16
    ways = ways_picture(report.results[0])
    assert "90 s *" in ways
    assert "logarithmic" in ways
    assert "var(--poc)" in ways


@pytest.mark.parametrize(
    ("value", "goals", "expected"),
    [
        (24, {"at_least": 12}, 2),
        (6, {"at_least": 12}, 0.5),
        (5, {"at_most": 10}, 2),
        (20, {"at_most": 10}, 0.5),
        (0, {"at_most": 0}, 1),
        (3, {"at_most": 0}, 0),
        (-1, {"at_most": 3}, math.inf),
    ],
)
def test_the_margin_of_a_figure_is_above_one_where_it_meets_its_goal(
    value: float, goals: dict[str, float], expected: float
) -> None:
    figure = Figure(name="", value=same(value), unit="", **goals)  # type: ignore[arg-type]  # one of its two goals
    assert margin(figure) == expected
    assert (margin(figure) >= 1) is figure.met


def test_numbers_are_words() -> None:
    assert [words.number(value) for value in (0, 1 / 3, 7.0, 12345.6)] == ["0", "0.333", "7", "12,346"]
    assert [words.seconds(value) for value in (90, 0.0015, 2e-6)] == ["90 s", "1.5 ms", "2 µs"]
    assert words.measured(Figure(name="", value=same(1), unit="requests")) == "1 request"
    assert words.goal(Figure(name="", value=same(1), unit="", at_least=10_000)) == "≥ 10,000"


def test_a_block_is_put_between_its_markers_and_nowhere_else() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert put_between(text, r"new \1") == f"before\n{BEGIN}\nnew \\1\n{END}\nafter\n"
    assert put_between(put_between(text, "one"), "two") == put_between(text, "two")
    for broken in ("none", f"{BEGIN} only", text + text):
        with pytest.raises(ValueError, match="once each"):
            put_between(broken, "new")


def test_what_the_project_shows_is_what_its_file_of_samples_says() -> None:
    for name, text in written(read(ROOT / CURRENT), (ROOT / README).read_text(encoding="utf-8")).items():
        message = f"{name} is not what {CURRENT} says: python -m benchmarks report {CURRENT} --publish"
        assert (ROOT / name).read_text(encoding="utf-8") == text, message


def test_a_report_is_published_with_every_sample(tmp_path: Path) -> None:
    for folder in ("docs/pictures", "benchmarks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / README).write_text(f"{BEGIN}\n{END}\n")
    assert {path.relative_to(tmp_path).as_posix() for path in publish(_report(), tmp_path)} == {
        CURRENT,
        PAGE,
        PICTURE,
        README,
    }
    assert read(tmp_path / CURRENT) == _report()
    first = (tmp_path / CURRENT).read_bytes()
    publish(_report(), tmp_path)
    assert (tmp_path / CURRENT).read_bytes() == first
    assert "speed against s3-poc: **15 ×** (≥ 12)" in (tmp_path / README).read_text()
    assert "speed | best: **0.8 ×** (≥ 1.2, **missed**)".replace("|", r"\|") in (tmp_path / README).read_text()


def test_the_picture_of_which_design_wins_where_is_shown_where_it_was_measured() -> None:
    readme = f"{BEGIN}\n{END}\n"
    assert MAP not in written(_report(), readme)
    report = _report()
    report.results[0].plots.append(
        Plot(
            title="Who wins", x_label="readers", y_label="MiB", lines=[Line("s3-poc", [(1, 2), (16, 64)])], points=True
        )
    )
    texts = written(report, readme)
    ET.fromstring(texts[MAP])  # our own
    # Every measured place has its tick.
    assert all(f">{tick}<" in texts[MAP] for tick in (1, 2, 16, 64))
    assert f"![Who wins]({MAP})" in texts[README]
    assert "![Who wins](pictures/crossovers.svg)" in texts[PAGE]


def test_reports_are_written_by_name(tmp_path: Path) -> None:
    source, readme = tmp_path / "a.json", tmp_path / "README.md"
    source.write_bytes(to_json(_report()))
    shutil.copy(ROOT / README, readme)
    targets = [f"--{name}={tmp_path / name}" for name in ("html", "page", "picture")]
    ended = CliRunner().invoke(app, ["report", str(source), *targets, "--readme", str(readme)])
    assert ended.exit_code == 0, ended.output
    assert (tmp_path / "html").read_text() == html(_report())
    assert (tmp_path / "page").read_text() == page(_report())
    assert (tmp_path / "picture").read_text() == goals_picture(_report())
    assert block(_report()) in readme.read_text()
    assert "Figures" in CliRunner().invoke(app, ["report", str(source)]).stdout

    readme.write_text("no place")
    ended = CliRunner().invoke(app, ["report", str(source), "--readme", str(readme)])
    assert ended.exit_code == 2
    assert "no place for the figures" in ended.stderr.replace("\n", " ")


def test_a_file_that_holds_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"other": 1}))
    ended = CliRunner().invoke(app, ["report", str(tmp_path / "a.json")])
    assert ended.exit_code == 2
    assert "holds no report" in ended.stderr.replace("\n", " ")


def _changed() -> Report:
    report = _report()
    report.results[0].timings = [
        _timing("hot-cold, NodeCache", 1.15, 1.3, 1.4, gets=11),
        _timing("s3-poc", 200, part=0.05),
        _timing("obstore", 4, 5),
    ]
    report.results[0].figures[0] = Figure(name="speed against s3-poc", value=Spread(20, 19, 21), unit="×", at_least=12)
    return report


def test_a_change_is_clear_where_all_samples_of_one_run_are_on_one_side() -> None:
    found = {change.what: change for change in changes(_report(), _changed()) if change.workload == "p1"}
    clear = {what for what, change in found.items() if change.clear}
    assert clear == {"figure: speed against s3-poc", "hot-cold, NodeCache: GET", "obstore: wall", "obstore: CPU"}
    assert found["obstore: wall"].by == 0.8
    # Its median changed, and its spread reaches into the other's.
    assert not found["hot-cold, NodeCache: wall"].clear
    # It was taken once.
    assert found["s3-poc: wall"].single
    assert "obstore: GET" not in found


def test_a_ratio_of_single_samples_is_no_clear_change_and_a_count_is() -> None:
    def report(speed: float, requests: float) -> Report:
        figures = [
            Figure(name="speed", value=same(speed), unit="×"),
            Figure(name="requests", value=same(requests), unit="requests"),
        ]
        result = Result(name="a", measures="", timings=[_timing("way", speed)], figures=figures)
        return Report(began="", scale="bench", machine={}, versions={}, results=[result])

    found = {change.what: change.clear for change in changes(report(1, 3), report(2, 4))}
    assert not found["figure: speed"]
    assert found["figure: requests"]


def test_runs_that_differ_in_more_than_the_code_say_so() -> None:
    other = _report()
    other.scale, other.machine = "quick", {"cores": "64"}
    other.versions["obstore"] = "2"
    other.results = other.results[1:]
    assert list(differences(_report(), other)) == [
        "scale: bench before, quick after",
        "machine: cores: 2 before, 64 after",
        "version of obstore: 1 before, 2 after",
        "measured only before: p1",
    ]


def test_two_runs_are_compared(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, report in zip(files, (_report(), _changed()), strict=True):
        file.write_bytes(to_json(report))
    ended = CliRunner().invoke(app, ["compare", *map(str, files)])
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.count("CHANGED") == 4
    assert "+80.0%" in ended.stdout
    assert "one sample" not in ended.stdout
    ended = CliRunner().invoke(app, ["compare", *map(str, files), "--all"])
    assert "one sample" in ended.stdout
    assert "within the spreads" in ended.stdout
    console = Console(width=200, file=io.StringIO())
    show_changes(_report(), _report(), console)
    assert "nothing changed" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


@pytest.mark.parametrize("scale", ["quick", "bench"])
def test_the_seconds_of_all_workloads_are_within_those_of_a_run(scale: str) -> None:
    names = [name for name, kind in WORKLOADS.items() if not kind.only_full]
    assert {scale} <= {one.value for one in Scale}
    assert sum(seconds_for(name, WORKLOADS[name].row, scale) for name in names) <= BUDGETS[scale] * 1.1
