"""The command ``own``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import efs
from benchmarks.prices import Prices, prices
from datalayer import ConfigError, DataLayerError

if TYPE_CHECKING:
    from benchmarks.own.advice import Outcome
    from benchmarks.own.source import Piece, Source

_SIZE = re.compile(r"(\d+)(KB|MB|GB)", re.IGNORECASE)
_FACTORS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


def own(
    uri: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="URI",
            help="A folder, s3://bucket/prefix, one file of either, or a task's output: task://team/dag/task/run/output or team/dag/task@run.",
        ),
    ],
    readers: Annotated[
        int, typer.Option(min=1, max=64, help="How many processes of one machine read them at once.")
    ] = 4,
    columns: Annotated[
        str,
        typer.Option(
            metavar="A,B", help="Read these columns of Parquet files; by default every byte of every file is read."
        ),
    ] = "",
    again: Annotated[bool, typer.Option("--again", help="The same data are read more than once on a machine.")] = False,
    connection: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="One of [connections] in datalayer.toml; by default that of the tier or reference in the same bucket, else AWS's environment.",
        ),
    ] = None,
    sample: Annotated[
        str, typer.Option(metavar="SIZE", help="How many bytes are copied to this machine and tried, at most.")
    ] = "64MB",
    files: Annotated[int, typer.Option(min=1, help="How many files, at most.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often each design is timed.")] = 1,
    std: Annotated[
        bool,
        typer.Option(
            "--std", help="Try them before the suite's emulated S3, even if yours could be measured from here."
        ),
    ] = False,
    price_table: Annotated[
        Path | None,
        typer.Option(
            "--prices",
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Your own prices: a copy of benchmarks/prices.toml, edited.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all that was seen, every sample.")] = None,
) -> None:
    """Which storage design would serve your own data?

    A sample of them, spread evenly, is copied to this machine, before an S3 that is emulated: as far away as yours was found to be from here,
    or as the suite's is, for data in a folder. There each design reads it in turn, with as many processes as you say: every request and byte
    is counted, and all must read the same. Seconds, requests, bytes and dollars are then those of one read of all of your data, by all readers.

    Your data are only read, never written, and the copies are removed in the end. It takes a minute or two.

    \b
    python -m benchmarks own --input /data/flights --readers 8
    python -m benchmarks own --input s3://lake/events/2026 --columns user,price --again
    python -m benchmarks own --input aviation/flights/extract@latest --prices mine.toml
    """  # noqa: D301  # typer wants the character itself
    try:
        table = prices(price_table)
        _run(
            uri,
            readers=readers,
            columns=[name.strip() for name in columns.split(",") if name.strip()],
            again=again,
            connection=connection,
            sample=_bytes_of(sample),
            files=files,
            rounds=rounds,
            std=std,
            table=table,
            json=json,
        )
    except (DataLayerError, ValueError) as error:
        typer.echo(f"own: {error}", err=True)
        raise typer.Exit(1) from None


def _run(
    uri: str,
    *,
    readers: int,
    columns: list[str],
    again: bool,
    connection: str | None,
    sample: int,
    files: int,
    rounds: int,
    std: bool,
    table: Prices,
    json: Path | None,
) -> None:
    # Those import more than --help should wait for.
    from benchmarks.origin import running_origins
    from benchmarks.own.advice import advice, outcomes
    from benchmarks.own.source import find
    from benchmarks.own.workload import OwnData
    from benchmarks.worker import BenchmarkError
    from benchmarks.workload import measure

    console = Console() if sys.stdout.isatty() else Console(width=160)
    telling = Console(stderr=True)
    with telling.status("looking at the data") as status:
        source = find(uri, connection=connection, columns=bool(columns))
        pieces = source.sample(sample, files, whole=bool(columns))
        check_columns(source, pieces[0], columns)
        if not std:
            status.update("measuring how far away they are")
            source.probe()
        workload = OwnData(
            source,
            pieces,
            readers=readers,
            columns=columns,
            rounds=rounds,
            efs=not efs.why_not(),
        )
        with running_origins() as origins, origins.new() as origin:
            try:
                result = measure(workload, origin, status.update)
            except BenchmarkError as error:
                raise ConfigError(str(error)) from error
    if json:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    timings = {timing.name: timing for timing in result.timings}
    found, scale = outcomes(timings, source, pieces, table)
    _show(console, source, pieces, found, scale=scale, readers=readers, columns=columns, table=table)
    for line in advice(found, again=again):
        console.print(line, highlight=False)


def check_columns(source: Source, piece: Piece, columns: list[str]) -> None:
    """Make sure that a file of the sample has the columns.

    Raises:
        ConfigError: It does not, or is no Parquet file.
    """
    if not columns:
        return
    import pyarrow
    import pyarrow.parquet

    try:
        with source.store.open(piece.file.path) as file:
            names = pyarrow.parquet.ParquetFile(file).schema_arrow.names
    except pyarrow.ArrowInvalid as error:
        raise ConfigError(f"--columns: {piece.file.path} cannot be read as Parquet: {error}") from error
    if missing := [name for name in columns if name not in names]:
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        raise ConfigError(f"--columns: no column {', '.join(missing)}; there are {', '.join(names[:20])}{more}")


def _show(
    console: Console,
    source: Source,
    pieces: list[Piece],
    found: list[Outcome],
    *,
    scale: float,
    readers: int,
    columns: list[str],
    table: Prices,
) -> None:
    taken = sum(piece.length for piece in pieces)
    what = f"columns {', '.join(columns)}" if columns else "every byte"
    origin = "as yours was found to be from here" if source.measured else "the suite's"
    console.print(
        f"[b]{source.uri}[/b]: {len(source.files):,} files, {size(source.size)}; {readers} readers at once, {what}",
        highlight=False,
    )
    console.print(
        f"Tried on {len(pieces):,} files, {size(taken)}, before an emulated S3, {origin}: {source.limits}",
        highlight=False,
    )
    if scale > 1:
        console.print(
            f"All figures are [b]extrapolated[/b] to all of the data: {scale:,.1f} times the sample.", highlight=False
        )
    rows = Table(
        "design", "seconds", "min–max", "CPU s", "requests", "bytes read", "$ per 1,000", "requests", "bytes", "machine"
    )
    for one in found:
        cents = [dollars(1000 * part) for part in (one.dollars, one.for_requests, one.for_bytes, one.for_machine)]
        span = f"{one.low:.3g}–{one.high:.3g}"
        rows.add_row(
            one.name, f"{one.seconds:.3g}", span, f"{one.cpu:.3g}", f"{one.requests:,.0f}", size(one.bytes_down), *cents
        )
    console.print(rows)
    console.print(
        f"Dollars are for 1,000 such reads, by {table}: requests and bytes of S3, or bytes of a volume, and the machine while it\n"
        "reads; what your own folder costs is not in it. A cache's disk is the machine's own. Storage costs the same with all\n"
        f"but a volume: {dollars(table.efs.storage_gb_month)} a GB and month, against {dollars(table.s3.storage_gb_month)} on S3.",
        highlight=False,
    )


def size(value: float) -> str:
    """Return bytes as people write them."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"


def dollars(value: float) -> str:
    """Return dollars with as many digits as say something."""
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.3g}"


def _bytes_of(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise ConfigError(f"--sample {text!r}: write a whole number and a unit: 500KB, 64MB, 2GB")
    return int(match[1]) * _FACTORS[match[2].upper()]
