"""What the demo shows: one table, and what to try next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import rich.box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from examples.flights.running import DesignResult

_MB = 1_000_000


def table(results: Sequence[DesignResult]) -> Table:
    """Return the comparison, a row for each design."""
    shown = Table(
        title="One workflow under each storage design; requests and bytes at the S3 server",
        box=rich.box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    shown.add_column("design", no_wrap=True)
    for name in ("requests", "MB down", "MB up", "seconds", "MB again", "peak MB"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("checksum", no_wrap=True)
    for result in results:
        shown.add_row(
            result.design,
            f"{result.requests:,}",
            f"{result.bytes_down / _MB:,.1f}",
            f"{result.bytes_up / _MB:,.1f}",
            f"{result.seconds:.1f}",
            f"{result.read_again / _MB:,.1f}",
            f"{result.peak_memory / _MB:,.0f}",
            result.checksum[:8],
        )
    shown.caption = (
        "MB again: data read from S3 when the tasks that read run a second time. "
        "peak MB: memory of a task's processes. checksum: of the results' rows"
    )
    shown.caption_justify = "left"
    return shown


def next_steps(configuration: Path, program: Path) -> list[str]:
    """Return commands to try on the volume that the demo leaves behind."""
    run = f"{shlex.quote(str(program))} --config {shlex.quote(str(configuration))}"
    return [
        f"{run} ls aviation/flights",
        f"{run} show aviation/flights/delays@2013-01-01",
        f"{run} cat aviation/flights/by_airport@2013-01-01 by_airport.csv | head",
        f"{run} verify aviation/flights/extract@2013-01-01",
    ]
