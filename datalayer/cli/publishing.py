"""``put`` and ``run``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datalayer.addresses.keys import DEFAULT_OUTPUT
from datalayer.cli import addresses
from datalayer.cli.printing import Json, print_error, print_json, print_line, progress
from datalayer.errors import ConfigError, DataLayerError, InvalidKeyError, NotFoundError
from datalayer.words import bytes_text, files_text, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from datalayer.commit.output import OutputWriter
    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.report import TaskReport

_PARALLEL = 8
_CHUNK_BYTES = 4 << 20


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(put)
    # What follows the command's name belongs to the command that is run.
    app.command(context_settings={"allow_interspersed_args": False})(run)


def put(
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="The task instance: team/dag/task@2013-01-01, or /team/dag/task/run."),
    ],
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="Files, under their own names, and folders, under the names in them."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="NAME", help="The output's name.")] = DEFAULT_OUTPUT,
    *,
    packed: Annotated[
        bool,
        typer.Option(
            "--packed",
            help="Lay small files together into packs, for thousands of them: few requests to write and to read, but not for Spark.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Publish local files as a task's output: all of them become visible at once, or none.

    What the task published before is superseded, its other outputs too; who reads it keeps it.

    datalayer put aviation/flights/extract@2013-01-01 flights.csv

    datalayer put aviation/flights/by_day@2013-01-01 days/ --output days
    """
    from datalayer.layer import DataLayer

    key = addresses.key_of(address)
    files = _local_files(paths)
    with (
        progress("putting", sum(path.stat().st_size for path in files.values()), quiet=json) as bars,
        DataLayer.from_env().publish(key) as attempt,
    ):
        _upload(attempt.output(output, packed=packed), files, bars.add)
    manifest = attempt.commit()
    made = manifest.outputs[output]
    if json:
        print_json(
            {
                "address": str(key),
                "attempt": manifest.attempt,
                "output": output,
                "files": made.files,
                "bytes": made.bytes,
            }
        )
    else:
        print_line(f"{key}@{manifest.attempt}, output {output}: {files_text(made.files)}, {bytes_text(made.bytes)}")


def _local_files(paths: list[Path]) -> dict[str, Path]:
    from datalayer.addresses.layout import check_file_name
    from datalayer.commit.output import regular_files

    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"{path} is not there")
        named = {name: path / name for name in regular_files(path)} if path.is_dir() else {path.name: path}
        for name, file in named.items():
            if name in found:
                raise InvalidKeyError(
                    f"{file} and {found[name]} would both be {name!r} in the output; put them in folders, or give one folder"
                )
            found[check_file_name(name)] = file
    if not found:
        raise NotFoundError("no file in what was given. Zero rows are fine, but an output needs at least one file")
    return found


def _upload(writer: OutputWriter, files: dict[str, Path], done: Callable[[int], None]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def upload(name: str) -> None:
        with files[name].open("rb") as source, writer.open(name, "wb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                target.write(chunk)
                done(len(chunk))

    with ThreadPoolExecutor(_PARALLEL, "datalayer-put") as pool:
        pending = [pool.submit(upload, name) for name in files]
        try:
            for future in pending:
                future.result()
        except BaseException:  # also an interrupt ends what has not begun
            for future in pending:
                future.cancel()
            raise


def run(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND…", help="The program and its arguments. No shell.")
    ],
    context: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The job's context: which task, what it reads and must produce.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Instead of a context: the task instance that the command produces."),
    ] = None,
    job_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --task: its job_config, inputs and destinations as JSON. docs/job-contract.md has an example.",
        ),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="With --task: the scheduler's id of this try, so that it finds its attempt again."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the report goes; by default $DATALAYER_REPORT.")
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Room for what is copied; by default the system's for temporary files."),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Run a command as a job: its inputs are brought before it, its outputs committed after it, if it ends with 0.

    The command finds its inputs in $DATALAYER_IN/TASK/OUTPUT/ and leaves files in $DATALAYER_OUT/OUTPUT/. Signals and its exit code are passed on.

    datalayer run --context context.json -- ./by_airport --fast

    datalayer run --task aviation/flights/late@2013-01-01 --job-config job.json -- python late.py

    With --json the report is the last thing on standard output.
    """
    from datalayer.handoff.context import layer_for
    from datalayer.handoff.report import exit_code_for
    from datalayer.handoff.runner import run as run_job

    try:
        told = context_of(context, task, job_config, owner)
        layer = layer_for(told)
    except DataLayerError as error:
        # Nothing has started, so there is no report; the exit code still says what kind of failure it was.
        print_error(error, as_json=json)
        raise typer.Exit(exit_code_for(error)) from error
    with progress("copying", quiet=json) as bars:
        last = {"done": 0, "step": ""}

        def moved(now: Any) -> None:
            if now.step != last["step"]:
                last.update(step=now.step, done=0)
            bars.add(now.done - last["done"])
            last["done"] = now.done

        result = run_job(told, command, layer=layer, report_path=report, work_dir=work_dir, progress=moved)
    if json:
        sys.stdout.buffer.write(result.report.encode())
        sys.stdout.buffer.flush()
    else:
        _say(result.report)
    if result.report.error:
        typer.echo(f"error: {printable(result.report.error.message)}", err=True)
    raise typer.Exit(result.exit_code)


def _say(report: TaskReport) -> None:
    # Not on standard output, which is the command's.
    made = [
        f"{name} ({files_text(output.files)}, {bytes_text(output.bytes)})" for name, output in report.outputs.items()
    ]
    if report.digest:
        typer.echo(printable(f"committed {report.key}@{report.attempt}: {', '.join(made)}"), err=True)
    hot = report.receipt.get("hot")
    if hot:
        asked = f"{bytes_text(hot.bytes_hit)} of {bytes_text(hot.bytes_read)} came from copies"
        missed = ", ".join(f"{reason} ({count})" for reason, count in hot.misses.items())
        typer.echo(printable(f"hot tier: {asked}" + (f"; passed on: {missed}" if missed else "")), err=True)
    for delivered in report.delivered:
        typer.echo(printable(f"delivered {delivered.output} to {delivered.location}"), err=True)


def context_of(path: Path | None, task: str | None, job_config: Path | None, owner: str | None) -> TaskContext:
    """Return the context that a command's options describe: a file, or a task and its job_config.

    Raises:
        DataLayerError: They describe none.
    """
    if (path is None) == (task is None):
        raise ConfigError("datalayer run needs either --context FILE or --task ADDRESS")
    if path is not None:
        if job_config or owner:
            raise ConfigError("--job-config and --owner go with --task; a --context file has its own")
        from datalayer.handoff.context import read_context

        return read_context(path)
    from datalayer.handoff.fields import parse_json
    from datalayer.handoff.job_config import context_from_job_config

    document: Any = {}
    if job_config is not None:
        try:
            data = job_config.read_bytes()
        except OSError as error:
            raise ConfigError(f"--job-config {job_config} cannot be read: {error.strerror}") from error
        document = parse_json(data, f"--job-config {job_config}", ConfigError)
        if not isinstance(document, dict):
            raise ConfigError(f"--job-config {job_config} must hold an object, with the keys input and output")
    try:
        key = addresses.key_of(task or "")
    except InvalidKeyError as error:
        raise ConfigError(f"--task: {error}") from error
    return context_from_job_config(document, key, owner=owner)
