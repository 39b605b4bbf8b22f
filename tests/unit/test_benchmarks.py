"""The benchmarks run: every workload, at a size at which no figure means anything."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.contender import Contender, Sink
from benchmarks.copies import Direct
from benchmarks.fanout import FanOut
from benchmarks.goals import BUDGETS, seconds_for
from benchmarks.origin import Door, Origin
from benchmarks.reading import publish_large
from benchmarks.report import show
from benchmarks.report.page import page
from benchmarks.results import Figure, Report, Result, Sample, Spread, Timing, speed_against, to_json
from benchmarks.running import chosen
from benchmarks.worker import BenchmarkError, working
from benchmarks.workload import Scale, Workload, measure
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.p10_first_touch import FirstTouch
from datalayer.stores.checksum import checksum_of
from tests.services.s3server import S3Server


@pytest.fixture
def origin(versitygw: S3Server) -> Origin:
    return Origin(versitygw, versitygw.new_bucket("bench"))


# Those with Alluxio, which takes long to start, are in tests/integration.
@pytest.mark.parametrize("name", [name for name, kind in WORKLOADS.items() if not kind.alluxio])
def test_a_workload_runs_and_yields_its_figures(name: str, origin: Origin) -> None:
    workload = WORKLOADS[name](Scale.TINY)
    result = measure(workload, origin, isolated=False)
    assert result.name == name
    assert result.error is None
    assert result.figures
    for timing in result.timings:
        assert len(timing.samples) == workload.rounds
        assert timing.checksum
        assert timing.settings
    for figure in result.figures:
        assert math.isfinite(figure.value.median)
        assert figure.value.low <= figure.value.median <= figure.value.high
    assert any(figure.goal for figure in result.figures)
    report = Report(began="now", scale="tiny", machine={"cores": "2"}, versions={}, results=[result])
    assert msgspec.json.decode(to_json(report), type=Report) == report
    text = page(report)
    assert all(timing.name in text for timing in result.timings)


def test_requests_are_counted_at_the_door(origin: Origin) -> None:
    timings = {timing.name: timing for timing in measure(WORKLOADS["p7"](Scale.TINY), origin, isolated=False).timings}
    assert timings["datalayer commit"].requests == {"PUT": 1}
    # Of 5 parts.
    assert timings["rename (copy and delete)"].requests == {"PUT": 5, "POST": 1}
    assert timings["magic committer (emulated)"].requests == {"POST": 5}


class _Says(Contender):
    """Delivers some bytes, or fails."""

    settings = "none"

    def __init__(self, name: str, data: bytes | None) -> None:
        self.name = name
        self.data = data

    def open(self, door: Door) -> None:
        pass

    def run(self, sink: Sink) -> None:
        if self.data is None:
            raise ValueError("as told")
        sink.take(self.data)


class _Work(Workload):
    name = "work"
    measures = "nothing"

    def __init__(self, *contenders: Contender) -> None:
        super().__init__(Scale.TINY)
        self.made = contenders

    def contenders(self) -> Sequence[Contender]:
        return self.made

    def figures(self, timings: object) -> list[Figure]:
        return []


def test_contenders_that_deliver_other_bytes_are_refused(origin: Origin) -> None:
    with pytest.raises(BenchmarkError, match="b delivered 3 bytes with crc32c:.*and a 3 with crc32c:"):
        measure(_Work(_Says("a", b"one"), _Says("b", b"two")), origin, isolated=False)


class _DoesPart(_Says):
    part = 0.5


def test_work_done_in_part_is_extrapolated_and_its_bytes_compared(origin: Origin) -> None:
    work = _Work(_DoesPart("part", b"on"), _Says("all", b"one"))
    work.marks = (2,)
    part, whole = measure(work, origin, isolated=False).timings
    assert (part.part, whole.part) == (0.5, 1)
    assert part.delivered == 2
    work = _Work(_DoesPart("part", b"ox"), _Says("all", b"one"))
    work.marks = (2,)
    with pytest.raises(BenchmarkError, match="part delivered 2 bytes with crc32c:.*and all 2 with crc32c:"):
        measure(work, origin, isolated=False)


@given(st.lists(st.binary(max_size=9)), st.sets(st.integers(1, 40)))
def test_a_sink_tells_the_checksum_at_each_mark(pieces: list[bytes], marks: set[int]) -> None:
    sink = Sink(check=True, marks=tuple(marks))
    for piece in pieces:
        sink.take(piece)
    whole = b"".join(pieces)
    expected = {mark: checksum_of([whole[:mark]])[0] for mark in marks if mark <= len(whole)}
    assert sink.delivered() == (len(whole), checksum_of([whole])[0], expected)


def test_a_contender_that_fails_is_named(origin: Origin) -> None:
    with pytest.raises(BenchmarkError, match="(?s)a: run failed.*as told"):
        measure(_Work(_Says("a", None)), origin, isolated=False)


def test_a_contender_works_in_a_process_of_its_own(origin: Origin) -> None:
    with working(_Says("a", bytes(5)), origin.door) as worker:
        worker.prepare()
        ran = worker.run(check=True)
        assert worker.check() == (*checksum_of([bytes(5)])[::-1], {})
    assert ran.delivered == 5
    assert ran.sample.peak is not None
    assert ran.sample.idle is not None
    assert 0 < ran.sample.idle <= ran.sample.peak


class _Dies(_Says):
    def run(self, sink: Sink) -> None:
        os.write(2, b"the heap is full\n")
        os._exit(3)


def test_the_last_words_of_a_contender_that_dies_are_told_and_not_before(
    origin: Origin, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(BenchmarkError, match="a: its process died in run") as died,
        working(_Dies("a", b""), origin.door) as worker,
    ):
        worker.run()
    assert "the heap is full" in "".join(died.value.__notes__)
    assert "the heap is full" not in capfd.readouterr().err


class _Puts(_Says):
    def open(self, door: Door) -> None:
        self.store = door.obstore()
        self.children_cpu = 1000.0

    def run(self, sink: Sink) -> None:
        super().run(sink)
        self.store.put("put", b"123")


class _AtOnce(_Work):
    counted_apart = False
    rounds = 2


def test_work_of_minutes_is_counted_checked_and_timed_at_once(origin: Origin) -> None:
    (timing,) = measure(_AtOnce(_Puts("a", b"one")), origin, isolated=False).timings
    assert len(timing.samples) == 2
    assert timing.requests == {"PUT": 1}
    assert (timing.bytes_up, timing.delivered) == (3, 3)
    assert timing.checksum == checksum_of([b"one"])[0]


class _PutsMoreEachRound(_Puts):
    def __init__(self, folder: Path) -> None:
        super().__init__("a", b"one")
        # Each round is another process.
        self.log = folder / "rounds"

    def run(self, sink: Sink) -> None:
        sink.take(b"one")
        with self.log.open("a", encoding="ascii") as file:
            file.write(".")
        for _ in range((0, 1, 2, 3)[self.log.stat().st_size]):
            self.store.put("put", b"123")


class _ThreeAtOnce(_AtOnce):
    rounds = 3


def test_what_is_counted_in_several_rounds_is_the_median_of_them(origin: Origin, tmp_path: Path) -> None:
    (timing,) = measure(_ThreeAtOnce(_PutsMoreEachRound(tmp_path)), origin, isolated=False).timings
    assert len(timing.samples) == 3
    # The last round's alone would be 3.
    assert timing.requests == {"PUT": 2}
    assert timing.bytes_up == 6


class _Warm(_Says):
    warmed_by_preparing = True
    runs = 0

    def run(self, sink: Sink) -> None:
        type(self).runs += 1
        super().run(sink)


def test_what_is_warm_once_it_is_prepared_is_not_run_to_warm_up(origin: Origin) -> None:
    (timing,) = measure(_Work(_Warm("a", b"one")), origin, isolated=False).timings
    assert len(timing.samples) == _Work().rounds
    assert _Warm.runs == 1 + _Work().rounds


def test_what_children_spend_is_added(origin: Origin) -> None:
    (timing,) = measure(_Work(_Puts("a", b"one")), origin, isolated=False).timings
    assert 1000 <= timing.cpu.median < 1100


def test_a_reader_of_a_fan_out_that_gets_other_bytes_is_seen(origin: Origin) -> None:
    same, other = publish_large(origin.door, "same", 1000), publish_large(origin.door, "other", 999)
    fans = [FanOut(Direct(key, 1000), 2, isolated=False) for key in (same, other)]
    fans[1].name = "other"
    with pytest.raises(BenchmarkError, match="other delivered"):
        measure(_Work(*fans), origin, isolated=False)


def test_a_ratio_is_taken_round_by_round() -> None:
    def timing(*walls: float) -> Timing:
        return Timing(name="", settings="", samples=[Sample(wall, 0) for wall in walls])

    assert speed_against(timing(1, 2, 10), timing(2, 4, 10)) == Spread(2, 1, 2)


@pytest.mark.parametrize(("value", "met"), [(1.0, True), (0.94, False)])
def test_a_goal_is_met_by_the_median(value: float, met: bool) -> None:
    figure = Figure(name="speed", value=Spread(value, 0.5, 2), unit="×", at_least=0.95)
    assert figure.met is met
    assert figure.goal == "≥ 0.95"
    assert Figure(name="speed", value=Spread(value, 0.5, 2), unit="×").met is None


def test_the_report_shows_goals_and_ceilings() -> None:
    figure = Figure(name="speed", value=Spread(0.9, 0.8, 1), unit="×", at_least=0.95, ceiling="1.0", emulated=True)
    result = Result(name="work", measures="nothing", figures=[figure])
    console = Console(width=200, file=io.StringIO())
    show(Report(began="now", scale="full", machine={}, versions={}, results=[result]), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert all(part in text for part in ("speed (emulated)", "0.9 ×", "0.8–1", "≥ 0.95", "no", "1.0"))


def test_without_fuse_the_chain_leaves_out_efs_and_says_so(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("benchmarks.efs._FUSE", tmp_path / "none")
    result = measure(WORKLOADS["p8-std"](Scale.TINY), origin, isolated=False)
    assert "shared-fs, EFS" not in [timing.name for timing in result.timings]
    (said,) = [figure for figure in result.figures if "could not run" in figure.name]
    assert "shared-fs, EFS" in said.name
    assert "run with --device" in said.note


def test_without_a_memory_cgroup_the_bounded_scan_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.memory_cgroup._ROOT", Path("/none"))
    assert "no memory cgroup can be made here" in WORKLOADS["p9"](Scale.QUICK).why_not_here()


def test_readers_that_hang_fail_the_workload(origin: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Hangs(FirstTouch):
        def touch(self, number: int) -> None:
            self.ready.wait()
            self.gate.wait()
            time.sleep(1)

    monkeypatch.setattr("benchmarks.workloads.p10_first_touch._SECONDS", 0.1)
    with pytest.raises(BenchmarkError, match=r"2 of 2 readers still read after 0\.1 s"):
        measure(_Work(Hangs(1, 2, tmp_path, isolated=False)), origin, isolated=False)


@pytest.mark.parametrize("scale", [Scale.QUICK, Scale.BENCH])
def test_what_the_workloads_of_a_scale_may_take_fits_its_budget(scale: Scale) -> None:
    kinds = [WORKLOADS[name] for name in chosen([], scale)]
    assert sum(seconds_for(kind.name, kind.row, scale.value) for kind in kinds) <= BUDGETS[scale.value]


def test_a_contenders_process_loads_nothing_that_only_some_workload_needs() -> None:
    program = "import sys, benchmarks.workloads\nprint(*({'docker', 'pytest', 'pyspark', 'boto3'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
