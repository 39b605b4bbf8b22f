"""A run of many workloads on one server: what is done and left is told, and what was measured is kept after each, so that a run can go on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks import efs, front
from benchmarks.goals import seconds_for
from benchmarks.machine import machine, versions
from benchmarks.needs import make_all
from benchmarks.origin import Origins, running_origins
from benchmarks.progress import Progress
from benchmarks.results import Report, Result, to_json
from benchmarks.workload import Scale, Workload, measure
from benchmarks.workloads import WORKLOADS

_SOURCES = ("benchmarks", "datalayer", "spark_env")
_MEASURED = {".py", ".go", ".mod", ".sum", ".toml"}


def chosen(names: Iterable[str], scale: Scale) -> list[str]:
    """Return the workloads to run: those named, or all that belong to a scale."""
    named = list(dict.fromkeys(names))
    return named or [name for name, kind in WORKLOADS.items() if scale is Scale.FULL or not kind.only_full]


def begin(scale: Scale) -> Report:
    """Return the report of a run that begins."""
    now = _now()
    return Report(
        began=now,
        scale=scale.value,
        machine=machine(),
        versions=versions(),
        code=code(),
        origins={
            name: str(value)
            for module in (front, efs)
            for name, value in vars(module).items()
            if isinstance(value, front.Limits | efs.Efs)
        },
        sittings=[now],
    )


def go_on(old: Report, scale: Scale) -> Report:
    """Return the report of a run that was interrupted, to be added to.

    Raises:
        ValueError: Its figures do not belong beside new ones: the run came to its end, or scale, code, versions or machine are others now.
    """
    new = begin(scale)
    other = [
        what
        for what, was, now in (
            ("the scale", old.scale, new.scale),
            ("the code", old.code, new.code),
            ("a version", old.versions, new.versions),
            ("the machine", _hardware(old), _hardware(new)),
        )
        if was != now
    ]
    if old.finished or other:
        raise ValueError("a run that came to its end" if old.finished else f"figures from before {other[0]} changed")
    old.results = [result for result in old.results if result.measured]
    old.sittings.append(new.began)
    return old


def again(old: Report, names: Sequence[str], scale: Scale) -> Report:
    """Return a report without the results of some workloads, which are to be measured again; the others keep the name of their code.

    Raises:
        ValueError: The report is of another scale, of other versions or of another machine.
    """
    new = begin(scale)
    if old.scale != new.scale:
        raise ValueError(f"it holds figures of the scale {old.scale}, not {new.scale}")
    if old.versions != new.versions or _hardware(old) != _hardware(new):
        other = "a version" if old.versions != new.versions else "the machine"
        raise ValueError(f"it holds figures from before {other} changed")
    # What is measured again is not to be counted twice.
    old.seconds = max(0.0, old.seconds - sum(result.seconds for result in old.results if result.name in names))
    old.results = [result for result in old.results if result.name not in names]
    old.sittings.append(new.began)
    old.finished = False
    old.code, old.machine, old.versions, old.origins = new.code, new.machine, new.versions, new.origins
    return old


def _hardware(report: Report) -> dict[str, str]:
    # Load differs each time.
    return {name: value for name, value in report.machine.items() if name != "load before"}


def run(report: Report, names: Sequence[str], scale: Scale, save: Callable[[Report], None], progress: Progress) -> None:
    """Measure those of the workloads that the report does not have yet, and add them to it.

    Args:
        report: Where results go.
        names: The workloads, in order.
        scale: How much of each.
        save: Called after each workload, so that nothing is lost to whatever ends the run.
        progress: Told what is done.
    """
    have = {result.name for result in report.results}
    left = [name for name in names if name not in have]
    if left:
        workloads = [workload for name in left if not (workload := WORKLOADS[name](scale)).why_not_here()]
        seconds = make_all([workload.needs() for workload in workloads], lambda text: progress.note(text, "red"))
        progress.note(f"prepare: {seconds:.0f} s, in no workload's time: what is fetched or built once")
        report.prepared += seconds
    before = report.seconds
    began = time.monotonic()
    with progress.over({name: seconds_for(name, WORKLOADS[name].row, scale.value) for name in left}):
        if left:
            with running_origins() as origins:
                for name in left:
                    result = _one(WORKLOADS[name](scale), origins, progress)
                    result.code = report.code
                    # In the order of the workloads, whichever was measured last.
                    report.results = _sorted([*report.results, result])
                    report.seconds = before + time.monotonic() - began
                    save(report)
    report.seconds = before + time.monotonic() - began
    report.finished = True
    save(report)


def _one(workload: Workload, origins: Origins, progress: Progress) -> Result:
    began, clock = _now(), time.monotonic()
    result = Result(name=workload.name, row=workload.row, measures=workload.measures)
    with progress.workload(workload.name) as say:
        if reason := workload.why_not_here():
            result.skipped = reason
            say.skipped(reason)
        else:
            try:
                with origins.new() as origin:
                    result = measure(workload, origin, say.step)
            except Exception as error:  # noqa: BLE001  # the others go on; the exit code says it
                result.error = f"{type(error).__name__}: {error}"
                say.failed(result.error, getattr(error, "__notes__", ()))
    result.began, result.seconds = began, time.monotonic() - clock
    return result


def _sorted(results: list[Result]) -> list[Result]:
    order = list(WORKLOADS)
    return sorted(results, key=lambda result: order.index(result.name) if result.name in order else len(order))


def saver(path: Path) -> Callable[[Report], None]:
    """Return what writes a report to a file, whole or not at all."""

    def save(report: Report) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(f".{path.name}.new")
        whole.write_bytes(to_json(report) + b"\n")
        whole.replace(path)

    return save


def read(path: Path) -> Report:
    """Return the report in a file, which may be packed by gzip.

    Raises:
        OSError: The file cannot be read.
        msgspec.DecodeError: It holds no report.
    """
    data = path.read_bytes()
    if path.suffix == ".gz":
        import gzip

        data = gzip.decompress(data)
    return msgspec.json.decode(data, type=Report)


def code() -> str:
    """Return a digest of all sources that are measured, or measure."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in _files(root):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _files(root: Path) -> Iterator[Path]:
    for folder in _SOURCES:
        yield from sorted(path for path in (root / folder).rglob("*") if path.suffix in _MEASURED)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
