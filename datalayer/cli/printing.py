"""How the commands speak: JSON for programs, tables and progress bars for people."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from datalayer.errors import DataLayerError
from datalayer.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def _note(context: typer.Context, wanted: bool) -> bool:
    # An error is printed after the command has ended, in the form that was asked for.
    if isinstance(context.obj, dict):
        context.obj["json"] = wanted
    return wanted


Json = Annotated[
    bool,
    typer.Option(
        "--json", callback=_note, help="One JSON document on standard output, in the shape that docs/cli.md describes."
    ),
]

# Wider than any line: a table that goes into a file or a pipe is not cut to a window that is not there.
_NO_WINDOW = 4000


def print_json(document: Any) -> None:
    """Print one document on standard output."""
    import msgspec

    data = msgspec.json.format(msgspec.json.encode(document), indent=2)
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print a table on standard output; nothing at all where there are no rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", overflow="fold", no_wrap=not sys.stdout.isatty()
        )
    for row in rows:
        # Text, because names may hold what rich takes for markup.
        table.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    if not table.row_count:
        return
    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False).print(table)
        return
    console = Console(width=_NO_WINDOW, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values below each other; what is None is left out."""
    known = [(name, value) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        print_line(f"{name:<{width}}  {value}")


def print_line(text: str) -> None:
    """Print a line on standard output."""
    typer.echo(printable(text))


def print_error(error: Exception, *, as_json: bool) -> None:
    """Print why a command failed on standard error, and on standard output too where JSON was asked for."""
    retryable = isinstance(error, DataLayerError) and error.retryable
    if as_json:
        print_json({"error": {"type": type(error).__name__, "message": str(error), "retryable": retryable}})
    typer.echo(f"error: {printable(str(error))}", err=True)
    if retryable:
        typer.echo("Running the same again can help.", err=True)


def time_text(moment: str) -> str:
    """Return an ISO time for people: to the second, in UTC."""
    from datetime import UTC, datetime

    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


class Bars(NamedTuple):
    """What a command reports progress to. Safe to use from many threads."""

    step: Any

    def add(self, done: int, total: int | None = None) -> None:
        """Count more bytes, or other units, as done; perhaps of so many in all."""
        self.step(done, total)


@contextmanager
def progress(what: str, total: int | None = None, *, as_bytes: bool = True, quiet: bool = False) -> Iterator[Bars]:
    """Show how far something is, on standard error and only to people."""
    if quiet or not sys.stderr.isatty():
        yield Bars(lambda _done, _total: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (DownloadColumn(), TransferSpeedColumn()) if as_bytes else (MofNCompleteColumn(),)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), *columns, console=Console(stderr=True), transient=True
    ) as bars:
        task = bars.add_task(what, total=total)
        yield Bars(lambda done, whole: bars.update(task, advance=done, total=whole if total is None else total))


@contextmanager
def status(quiet: bool = False) -> Iterator[Any]:
    """Yield a function that shows people, on standard error, what is being done."""
    if quiet or not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as shown:
        yield lambda text: shown.update(Text(printable(text)))
