"""``python -m benchmarks``: runs the workloads, prints their tables, and writes the JSON and the page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks.machine import machine, versions
from benchmarks.origin import running_origin
from benchmarks.report import page, show
from benchmarks.results import Report, Result, to_json
from benchmarks.workload import Scale, measure
from benchmarks.workloads import WORKLOADS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks and return the exit code: 1 if one could not be measured. A goal that is missed is a figure, not a failure."""
    options = _options(arguments)
    # Where nobody watches, the width is the tables' own and not a terminal's.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    if options.from_json:
        report = msgspec.json.decode(options.from_json.read_bytes(), type=Report)
    else:
        report = _run(options.names or list(WORKLOADS), quick=options.quick, json=options.json)
    show(report, console)
    if options.page:
        options.page.write_text("\n".join(page(report)) + "\n", encoding="utf-8")
    return int(any(result.error for result in report.results))


def _run(names: Sequence[str], *, quick: bool, json: Path | None) -> Report:
    began = datetime.now(UTC).isoformat(timespec="seconds")
    report = Report(began=began, quick=quick, machine=machine(), versions=versions())
    progress = Console(stderr=True)
    if (busy := os.getloadavg()[0]) > 1:
        progress.print(f"the machine is busy (load {busy:.1f}): seconds and ratios will scatter", style="yellow")
    with progress.status("starting the server") as status:
        for name in dict.fromkeys(names):
            workload = WORKLOADS[name](Scale.QUICK if quick else Scale.FULL)
            try:
                # A server of its own: one workload's objects are not in the next one's way.
                with running_origin() as origin:
                    result = measure(workload, origin, lambda text, name=name: status.update(f"{name}: {text}"))  # type: ignore[misc]  # bound at once
            except Exception as error:  # noqa: BLE001  # the others go on; the exit code says it
                result = Result(name=name, measures=workload.measures, error=f"{type(error).__name__}: {error}")
                progress.print(f"{name}: {result.error}", *getattr(error, "__notes__", ()), style="red", markup=False)
            else:
                progress.print(f"{name}: {result.seconds:.0f} s", highlight=False)
            report.results.append(result)
            if json:
                # After each, so that nothing is lost to whatever ends the run.
                json.write_bytes(to_json(report) + b"\n")
    return report


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What the library costs beside its rivals."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"workloads; by default all: {', '.join(WORKLOADS)}")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: some eight minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen, every sample")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables as Markdown: docs/benchmarks.md")
    parser.add_argument(
        "--from", type=Path, metavar="FILE", dest="from_json", help="measure nothing, show a JSON of before"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in WORKLOADS]:
        parser.error(f"no workload named {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
