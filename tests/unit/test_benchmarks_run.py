"""A run of many workloads: what one that fails, an interruption, and a machine that cannot leave of it."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner
from typer.testing import Result as Ended

from benchmarks import running
from benchmarks.command import app
from benchmarks.contender import Contender, Sink
from benchmarks.origin import Door, running_origins
from benchmarks.progress import Progress
from benchmarks.results import Figure, Result, Timing, same
from benchmarks.running import read
from benchmarks.workload import Scale, Workload, measure


class _Puts(Contender):
    name = "put"
    settings = "none"

    def open(self, door: Door) -> None:
        self.store = door.obstore()

    def run(self, sink: Sink) -> None:
        self.store.put("one", b"data")
        sink.take(b"data")


class _Work(Workload):
    measures = "something"
    row = "P1"
    fails: Exception | BaseException | None = None
    reason = ""

    def contenders(self) -> Sequence[Contender]:
        if self.fails:
            raise self.fails
        return [_Puts()]

    def figures(self, timings: object) -> list[Figure]:
        return [Figure(name="speed", value=same(1), unit="×", at_least=2)]

    def why_not_here(self) -> str:
        return self.reason


class _One(_Work):
    name = "one"


class _Two(_Work):
    name = "two"
    row = "P2"


class _Large(_Work):
    name = "large"
    only_full = True


@pytest.fixture(autouse=True)
def workloads(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Workload]]:
    """Three workloads that take no time, in the place of the real ones."""
    found: dict[str, type[Workload]] = {kind.name: kind for kind in (_One, _Two, _Large)}
    for module in ("running", "command"):
        monkeypatch.setattr(f"benchmarks.{module}.WORKLOADS", found)
    monkeypatch.setattr(running, "measure", lambda *given: measure(*given, isolated=False))
    monkeypatch.setattr(running, "code", lambda: "c0de")
    return found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results" / "all.json"


def _run(out: Path, *words: str) -> Ended:
    return CliRunner().invoke(app, ["run", "--scale", "tiny", "--out", str(out), *words])


def test_a_run_keeps_every_sample_and_what_it_ran_on(out: Path) -> None:
    ended = _run(out)
    assert ended.exit_code == 0, ended.output
    report = read(out)
    assert [(one.name, one.row, one.error, one.code) for one in report.results] == [
        ("one", "P1", None, "c0de"),
        ("two", "P2", None, "c0de"),
    ]
    assert report.finished
    assert report.scale == "tiny"
    assert report.machine["cores"]
    assert report.versions["obstore"]
    assert "30 ms" in report.origins["STD"]
    assert "seed 0" in report.origins["STD"]
    assert "MiB/s" in report.origins["EFS"]
    assert "<h1>" in out.with_suffix(".html").read_text()
    assert all(len(timing.samples) == 1 for one in report.results for timing in one.timings)
    assert re.search(r"\[1/2\] one: \d+ s; \d+ s gone, about \d+ s left", ended.stderr)
    assert re.search(r"\[2/2\] two: .*about 0 s left", ended.stderr)


def test_what_belongs_to_the_full_scale_only_runs_there_or_when_it_is_named(out: Path) -> None:
    assert _run(out, "large").exit_code == 0
    assert [one.name for one in read(out).results] == ["large"]
    assert running.chosen([], Scale.FULL) == ["one", "two", "large"]


def test_a_workload_that_fails_leaves_the_others_their_place(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_One, "fails", ValueError("as told"))
    ended = _run(out)
    assert ended.exit_code == 1
    assert [one.error for one in read(out).results] == ["ValueError: as told", None]
    assert "not measured: ValueError: as told" in ended.stdout
    assert "[1/2] one: FAILED: ValueError: as told" in ended.stderr


def test_a_workload_that_this_machine_cannot_run_is_told_and_no_failure(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_One, "reason", "no cluster")
    ended = _run(out)
    assert ended.exit_code == 0
    assert read(out).results[0].skipped == "no cluster"
    assert "one: NOT MEASURED, this machine cannot: no cluster" in ended.stderr


def test_an_interrupted_run_goes_on(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Two, "fails", KeyboardInterrupt())
    ended = _run(out)
    assert ended.exit_code == 130
    assert "--resume goes on" in ended.stderr
    before = read(out)
    assert [one.name for one in before.results] == ["one"]
    assert not before.finished

    monkeypatch.setattr(_Two, "fails", None)
    ended = _run(out, "--resume")
    assert ended.exit_code == 0, ended.output
    after = read(out)
    assert after.results[0] == before.results[0]
    assert [one.name for one in after.results] == ["one", "two"]
    assert len(after.sittings) == 2
    assert after.seconds > before.seconds
    assert "[1/1] two" in ended.stderr


def test_what_failed_is_tried_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_One, "fails", ValueError("as told"))
    monkeypatch.setattr(_Two, "fails", KeyboardInterrupt())
    _run(out)
    monkeypatch.setattr(_One, "fails", None)
    monkeypatch.setattr(_Two, "fails", None)
    assert _run(out, "--resume").exit_code == 0
    assert [one.error for one in read(out).results] == [None, None]


@pytest.mark.parametrize("change", ["code", "machine", "finished"])
def test_figures_that_do_not_belong_together_are_not_put_together(
    out: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    if change != "finished":
        monkeypatch.setattr(_Two, "fails", KeyboardInterrupt())
    _run(out)
    monkeypatch.setattr(_Two, "fails", None)
    if change == "code":
        monkeypatch.setattr(running, "code", lambda: "other")
    if change == "machine":
        monkeypatch.setattr(running, "machine", lambda: {"cores": "64"})
    before = read(out)
    ended = _run(out, "--resume")
    reason = {"code": "the code changed", "machine": "the machine changed", "finished": "came to its end"}[change]
    assert f"{reason}: this run begins anew" in ended.stderr
    assert len(read(out).sittings) == 1
    assert read(out).results[0] != before.results[0]
    # Nothing that was measured is lost.
    assert read(out.with_name("all.before.json")) == before


def test_a_workload_is_measured_again_beside_the_others(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(out)
    before = read(out)
    monkeypatch.setattr(running, "code", lambda: "newer")
    ended = _run(out, "two", "--retake")
    assert ended.exit_code == 0, ended.output
    after = read(out)
    assert after.results[0] == before.results[0]
    assert [(one.name, one.code) for one in after.results] == [("one", "c0de"), ("two", "newer")]


def test_results_of_another_scale_are_not_added_to(out: Path) -> None:
    _run(out)
    ended = CliRunner().invoke(app, ["run", "one", "--scale", "quick", "--out", str(out), "--retake"])
    assert ended.exit_code == 2
    assert "scale tiny, not quick" in ended.stderr.replace("\n", " ")


def test_a_run_that_takes_too_long_says_so_loudly(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "MAY TAKE" not in _run(out).stderr
    monkeypatch.setattr("benchmarks.results.BUDGETS", {"tiny": 0.001})
    ended = _run(out)
    assert "A RUN OF THE SCALE TINY MAY TAKE" in ended.stderr
    assert read(out).over_budget


def test_an_unknown_workload_is_refused(out: Path) -> None:
    ended = _run(out, "p99")
    assert ended.exit_code == 2
    assert "no workload named p99" in ended.stderr


def test_the_workloads_are_listed() -> None:
    ended = CliRunner().invoke(app, ["list"])
    assert all(name in ended.stdout for name in ("one", "two", "large"))


def test_a_bucket_is_gone_after_its_workload() -> None:
    with running_origins() as origins:
        with origins.new() as origin:
            origin.door.obstore().put("a/b", b"data")
            first = origin.door.bucket
        with origins.new() as origin:
            assert origin.door.bucket != first
            assert list(origin.door.obstore().list()) == []
            with origins._server.client() as client:
                assert [one["Name"] for one in client.list_buckets()["Buckets"]] == [origin.door.bucket]


def test_what_is_left_is_told_from_what_was_expected() -> None:
    console = Console(file=io.StringIO(), width=200)
    progress = Progress(console)
    with progress.over({"a": 60, "b": 90}):
        assert progress.left == 150
        with progress.workload("a") as say:
            say.step("reading")
            assert "a: reading (0 s gone, about 2 min 30 s left)" in str(progress.__rich__())
        assert progress.left == 90
        with progress.workload("b") as say:
            say.failed("as told", ["its trace"])
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "[1/2] a: 0 s; 0 s gone, about 1 min 30 s left" in text
    assert "its trace" in text
    assert "[2/2] b: FAILED: as told" in text


def test_a_result_knows_whether_it_was_measured() -> None:
    assert Result(name="a", measures="", timings=[Timing(name="", settings="")]).measured
    assert not Result(name="a", measures="", error="broken").measured
    assert not Result(name="a", measures="", skipped="no cluster").measured


def test_what_is_fetched_or_built_is_had_before_and_in_no_workloads_time(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def fails() -> None:
        raise RuntimeError("as told")

    def slow() -> None:
        time.sleep(0.3)
        made.append("table")

    monkeypatch.setattr(_One, "needs", lambda _: {"table": slow, "jar": fails})
    monkeypatch.setattr(_Two, "needs", lambda _: {"table": slow})
    ended = _run(out)
    assert ended.exit_code == 0, ended.output
    report = read(out)
    assert made == ["table"]
    assert report.prepared >= 0.3
    assert "prepare: jar: as told" in ended.stderr
    assert re.search(r"prepare: \d+ s, in no workload's time", ended.stderr)
    # Nothing is made for what this machine cannot run.
    monkeypatch.setattr(_One, "reason", "no cluster")
    monkeypatch.setattr(_Two, "reason", "no cluster")
    assert _run(out).exit_code == 0
    assert made == ["table"]
