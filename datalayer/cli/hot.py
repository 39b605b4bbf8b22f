"""``hot warm``, ``hot pin``, ``hot unpin``, ``hot evict``, ``hot status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from datalayer.cli import addresses
from datalayer.cli.durations import duration
from datalayer.cli.printing import Json, print_json, print_line, print_table, progress, time_text
from datalayer.cli.reading import Address
from datalayer.errors import ConfigError, InvalidKeyError
from datalayer.hot.sizes import size_text
from datalayer.words import files_text, printable

if TYPE_CHECKING:
    from datetime import timedelta

    from datalayer.hot.ledger import Lease
    from datalayer.hot.selecting import What
    from datalayer.hot.status import HotStatus
    from datalayer.layer import DataLayer
    from datalayer.taskfs.paths import TaskPath

OutputName = Annotated[
    str | None, typer.Option("--output", "-o", metavar="NAME", help="Only this output. By default all of them.")
]
Holder = Annotated[str | None, typer.Option(metavar="NAME", help="For whom it is pinned. By default you.")]

_UNKNOWN = "?"
_NOTHING = (
    "nothing was warmed here or is pinned. Copies that were made by writing or reading are not listed: ask with "
    "'datalayer hot status ADDRESS'"
)

app = typer.Typer(no_args_is_help=True, help="Say what is to be hot: held as copies near its readers.")


def add_to(whole: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(warm)
    app.command()(pin)
    app.command()(unpin)
    app.command()(evict)
    app.command()(status)
    whole.add_typer(app, name="hot")


def warm(
    address: Address,
    output: OutputName = None,
    file: Annotated[
        list[str] | None, typer.Option("--file", "-f", metavar="NAME", help="Only this file, or folder of files.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", "-c", metavar="NAME", help="Only this column of Parquet files.")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="How many files are read at once.")] = 8,
    *,
    json: Json = False,
) -> None:
    """Make copies of a task's outputs before they are read. What is a copy already is not fetched again.

    Exit code 1 if something was left out, because the rest of hot.budget is pinned.

    datalayer hot warm aviation/flights/extract@latest

    datalayer hot warm aviation/flights/extract@2013-01-01 --column carrier --column dep_delay
    """
    from datalayer.layer import DataLayer

    layer = DataLayer.from_env()
    what, asked = _named(layer, address, output)
    files = [*(file or []), *([name] if (name := "/".join(asked.rest[1:])) else [])]
    with progress("warming", quiet=json) as bars:
        last = 0

        def moved(done: int, total: int) -> None:
            nonlocal last
            bars.add(done - last, total)
            last = done

        made = layer.hot.warm(what, files=files or None, columns=column or None, parallel=parallel, progress=moved)
    if json:
        left_out = [one._asdict() for one in made.left_out]
        print_json({"ok": not left_out, **made._asdict(), "left_out": left_out})
    else:
        print_line(
            f"{files_text(made.files)}, {size_text(made.bytes)}: {size_text(made.hot)} were hot, {size_text(made.fetched)} fetched"
        )
        for evicted in made.evicted:
            print_line(f"evicted {evicted}")
        for one in made.left_out:
            where = one.output if one.file is None else f"{one.output}/{one.file}"
            typer.echo(printable(f"left out: {where}, {size_text(one.bytes)}: {one.reason}"), err=True)
    raise typer.Exit(1 if made.left_out else 0)


def pin(
    address: Address,
    output: OutputName = None,
    time: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long, if nobody takes it back before: 90m, 36h, 7d.")
    ] = "24h",
    holder: Holder = None,
    *,
    json: Json = False,
) -> None:
    """Keep copies from making room for others. It warms nothing. Pinning again renews the pin.

    datalayer hot pin aviation/flights/extract@2013-01-01 --for 7d
    """
    from datalayer.layer import DataLayer

    _check_whole(address)
    name, ttl = _holder(holder), _ttl(time)
    layer = DataLayer.from_env()
    what, _ = _named(layer, address, output)
    until = layer.hot.pin(what, name, ttl).isoformat()
    if json:
        print_json({"holder": name, "until": until})
    else:
        print_line(f"pinned for {name} until {time_text(until)}")


def unpin(address: Address, output: OutputName = None, holder: Holder = None, *, json: Json = False) -> None:
    """Take a holder's pins back. When the last holder's is gone, the copies may make room for others.

    datalayer hot unpin aviation/flights/extract@2013-01-01
    """
    from datalayer.layer import DataLayer
    from datalayer.resolve.resolution import Resolution

    _check_whole(address)
    name = _holder(holder)
    layer = DataLayer.from_env()
    what, asked = _named(layer, address, output)
    # Of a task as such, what was pinned before it was run again, too.
    meant: What = what.key if isinstance(what, Resolution) and asked.attempt is None else what
    released = layer.hot.unpin(meant, name)
    if json:
        print_json({"holder": name, "unpinned": released})
        return
    for one in released:
        print_line(f"unpinned {one}")
    if not released:
        print_line(f"nothing there was pinned for {name}")


def evict(
    address: Address,
    output: OutputName = None,
    force: Annotated[bool, typer.Option("--force", help="Also what somebody has pinned.")] = False,
    *,
    json: Json = False,
) -> None:
    """Drop copies. The cold tier has everything; who reads one meanwhile reads on undisturbed.

    datalayer hot evict aviation/flights/extract@2013-01-01
    """
    from datalayer.layer import DataLayer

    _check_whole(address)
    layer = DataLayer.from_env()
    what, _ = _named(layer, address, output)
    dropped = layer.hot.evict(what, force=force)
    if json:
        print_json({"evicted": dropped})
        return
    for one in dropped:
        print_line(f"evicted {one}")


def status(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="A team, or an address as for the others. By default everything.")
    ] = "",
    output: OutputName = None,
    *,
    json: Json = False,
) -> None:
    """Show how much is hot: of an output, or of all that was warmed here or is pinned; by team and in all.

    datalayer hot status

    datalayer hot status aviation/flights/extract@latest
    """
    from datalayer.layer import DataLayer

    layer = DataLayer.from_env()
    ids = addresses.parse_address(address).ids
    team = ids[0] if ids else None
    what = _named(layer, address, output)[0] if len(ids) > 1 else None
    found = layer.hot.status(what, team=team)
    if json:
        print_json(_document(found))
        return
    known = found.unavailable is None

    def hot_text(size: int) -> str:
        return size_text(size) if known else _UNKNOWN

    rows = [
        (
            one.team,
            one.address,
            size_text(one.bytes),
            hot_text(one.hot),
            _percent(one.hot, one.bytes) if known else _UNKNOWN,
            _pins(one.leases),
        )
        for one in found.outputs
    ]
    print_table(["team", "output", "bytes", "hot", "%", "pinned"], rows, right=("bytes", "hot", "%"))
    if what is None and found.outputs:
        print_line("")
        teams = [
            (one.team, one.outputs, size_text(one.bytes), hot_text(one.hot), hot_text(one.pinned))
            for one in found.teams
        ]
        print_table(["team", "outputs", "bytes", "hot", "pinned"], teams, right=("outputs", "bytes", "hot", "pinned"))
    elif not found.outputs and team is not None:
        print_line(f"nothing of {team!r} was warmed or is pinned")
    elif not found.outputs:
        print_line(_NOTHING)
    room = "" if found.held is None else f"; all copies take {size_text(found.held)}"
    room += "" if found.capacity is None else f" of {size_text(found.capacity)}"
    print_line(
        f"{hot_text(found.hot)} of {size_text(found.bytes)} hot, {hot_text(found.pinned)} pinned; budget {size_text(found.budget)}{room}"
    )
    if found.unavailable:
        print_line(
            f"the hot tier does not serve: {found.unavailable.rstrip('.')}. What is hot is not known. See datalayer doctor"
        )


def _named(layer: DataLayer, address: str, output: str | None) -> tuple[What, TaskPath]:
    """Return what an address names: an output where it or the option says which, else all of the attempt's."""
    asked = addresses.parse_address(address)
    if asked.run is None:
        raise InvalidKeyError(f"{address!r} names no run: write team/dag/task@RUN. See 'datalayer ls {address}'")
    resolution, asked = addresses.resolve(layer, address)
    if asked.rest or output:
        return addresses.pick_output(resolution, asked, output), asked
    return resolution, asked


def _check_whole(address: str) -> None:
    """Make sure that an address names no file: these verbs are about whole outputs.

    Raises:
        typer.BadParameter: It does.
    """
    file = "/".join(addresses.parse_address(address).rest[1:])
    if file:
        raise typer.BadParameter(f"evict, pin and unpin take whole outputs; leave /{file} away", param_hint="'ADDRESS'")


def _holder(given: str | None) -> str:
    from datalayer.hot.leases import check_holder

    try:
        return _me() if given is None else check_holder(given)
    except InvalidKeyError as error:
        raise typer.BadParameter(str(error), param_hint="'--holder'") from error


def _ttl(text: str) -> timedelta:
    from datalayer.hot.leases import check_ttl

    try:
        return check_ttl(duration(text, "--for"))
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="'--for'") from error


def _me() -> str:
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _percent(part: int, whole: int) -> str:
    return f"{100 * part // whole}" if whole else "100"


def _pins(leases: tuple[Lease, ...]) -> str:
    shown = [f"{lease.holder} until {time_text(lease.expires)}" for lease in leases[:2]]
    return ", ".join(shown) + (f" and {len(leases) - 2} more" if len(leases) > 2 else "")


def _document(found: HotStatus) -> dict[str, Any]:
    outputs = [
        one._asdict() | {"leases": [{"holder": lease.holder, "until": lease.expires} for lease in one.leases]}
        for one in found.outputs
    ]
    return found._asdict() | {"outputs": outputs, "teams": [one._asdict() for one in found.teams]}
