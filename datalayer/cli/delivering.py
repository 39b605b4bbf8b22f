"""``deliver``: a committed output to its destinations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datalayer.cli.printing import Json, print_json, print_table, progress
from datalayer.errors import ConfigError
from datalayer.words import bytes_text

if TYPE_CHECKING:
    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.report import Delivered


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(deliver)


def deliver(
    address: Annotated[
        str,
        typer.Argument(
            metavar="[ADDRESS]",
            help="With --job-config: the task instance that has published, team/dag/task@2013-01-01.",
        ),
    ] = "",
    context: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The context that the job had; it names the destinations.")
    ] = None,
    job_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With ADDRESS: the job_config whose output destinations are delivered to."),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Copy what a task has committed to the destinations that its context or job_config names.

    The server copies by itself where it can, else the bytes go through this process, verified. It may be interrupted and run again at any time: each
    object appears whole or not at all, and what an earlier delivery left over is removed. Only the task's newest attempt is delivered.

    datalayer deliver --context context.json

    datalayer deliver aviation/flights/late@2013-01-01 --job-config job.json

    Connections are those of the configuration. Without any argument, in a pod, the context is in DATALAYER_INTERNAL_CONTEXT_0 and so on, as for
    [b]datalayer pod[/b]; keys are in DATALAYER_CONNECTIONS__NAME__ACCESS_KEY_ID and the like, and the report is the container's termination message.
    """
    from datalayer.handoff.packing import PIECE_PREFIX

    if not address and context is None and job_config is None and f"{PIECE_PREFIX}0" in os.environ:
        from datalayer.handoff.pod_delivery import run_delivery

        raise typer.Exit(run_delivery(os.environ).exit_code)
    from datalayer.handoff.context import layer_for
    from datalayer.handoff.deliveries import check_destinations, deliver_outputs

    told = _told(address, context, job_config)
    layer = layer_for(told)
    check_destinations(told, layer)
    resolution = layer.resolve(told.task_key, attempt=told.attempt.number if told.attempt else None)
    with progress("delivering", quiet=json) as bars:
        last = 0

        def moved(now: Any) -> None:
            nonlocal last
            bars.add(now.done - last if now.done >= last else now.done)
            last = now.done

        done = deliver_outputs(told, layer, resolution, moved)
    _say(done, as_json=json)


def _told(address: str, context: Path | None, job_config: Path | None) -> TaskContext:
    from datalayer.cli.publishing import context_of

    if context is not None and (address or job_config is not None):
        raise ConfigError(
            "--context names the task and its destinations itself: give it alone, or ADDRESS with --job-config"
        )
    if context is None and (not address or job_config is None):
        raise ConfigError("datalayer deliver needs either --context FILE, or ADDRESS and --job-config FILE")
    told = context_of(context, address or None, job_config, None)
    if not any(spec.destinations for spec in told.outputs.values()):
        raise ConfigError(
            f"{context or job_config} names no destination for any output of {told.key}: add one to its outputs"
        )
    return told


def _say(done: list[Delivered], *, as_json: bool) -> None:
    if as_json:
        import msgspec

        print_json({"delivered": msgspec.to_builtins(done)})
        return
    rows = [
        (one.output, one.location, one.files, bytes_text(one.bytes), one.copied_by_server, one.removed) for one in done
    ]
    columns = ["output", "delivered to", "files", "bytes", "copied by the server", "removed"]
    print_table(columns, rows, right=columns[2:])
