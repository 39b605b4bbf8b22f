"""``verify``, ``doctor``, ``sweep``, ``schema``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from datalayer.cli import addresses
from datalayer.cli.durations import duration
from datalayer.cli.printing import Json, print_json, print_line, print_table, progress, status
from datalayer.cli.reading import Address
from datalayer.errors import ConfigError
from datalayer.words import bytes_text, files_text

if TYPE_CHECKING:
    from datetime import timedelta

    from datalayer.commit.sweep import Swept


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(verify)
    app.command()(doctor)
    app.command()(sweep)
    app.command()(schema)


def verify(address: Address, *, json: Json = False) -> None:
    """Read every file of an attempt and compare it with the manifest. Exit code 1 if a reader would not get what was committed.

    datalayer verify aviation/flights/extract@2013-01-01
    """
    from datalayer.commit.verify import verify as verify_files
    from datalayer.layer import DataLayer

    layer = DataLayer.from_env()
    resolution, _ = addresses.resolve(layer, address)
    total = sum(output.bytes for output in resolution.manifest.outputs.values())
    with progress("verifying", total, quiet=json) as bars:
        verified = verify_files(layer, resolution, progress=lambda _files, size: bars.add(size))
    if json:
        problems = [problem._asdict() for problem in verified.problems]
        print_json({"ok": verified.ok, **verified._asdict(), "problems": problems})
    else:
        print_table(["problem", "output", "file", "detail"], verified.problems)
        good = "as committed" if verified.ok else "NOT as committed"
        print_line(
            f"{verified.key}@{verified.attempt}: {files_text(verified.files)}, {bytes_text(verified.bytes)}, {good}"
        )
        if verified.unchecked:
            print_line(
                f"{verified.unchecked} of them have no checksum in the manifest: only their lengths were compared"
            )
    raise typer.Exit(0 if verified.ok else 1)


def doctor(*, json: Json = False) -> None:
    """Try what each configured store must be able to do, and say what would break where it cannot. Exit code 1 if something fails.

    It works in a folder of its own below each root, and removes it. It needs the rights of a job that publishes there.

    datalayer doctor

    datalayer --config staging.toml doctor --json
    """
    from datalayer.doctor import FAILED, OK
    from datalayer.doctor import doctor as examine
    from datalayer.layer import DataLayer

    layer = DataLayer.from_env()
    with status(json) as tell:
        findings = list(examine(layer, progress=tell))
    failed = any(finding.status == FAILED for finding in findings)
    if json:
        print_json({"ok": not failed, "findings": [finding._asdict() for finding in findings]})
    else:
        print_table(["", "tier", "check", "found"], [finding[:4] for finding in findings])
        for finding in findings:
            if finding.status != OK:
                print_line("")
                print_line(f"{finding.status}: {finding.check} on {finding.tier}")
                print_line(f"  {finding.breaks}")
    raise typer.Exit(1 if failed else 0)


def sweep(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only below this team, DAG, task or run.")] = "",
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="How long without a sign of life counts as abandoned: 90m, 36h, 7d.")
    ] = "24h",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only tell what would be removed.")] = False,
    *,
    json: Json = False,
) -> None:
    """Remove what abandoned attempts left behind: staged files, claims, unfinished uploads. Never what is committed, or shows a sign of life.

    An attempt is barred from committing before anything of it is removed. It may be stopped and run again at any time.

    datalayer sweep --dry-run

    datalayer sweep aviation --older-than 7d
    """
    from datalayer.commit.publisher import LEASE
    from datalayer.commit.sweep import ALIVE, FAILED
    from datalayer.commit.sweep import sweep as sweep_attempts
    from datalayer.layer import DataLayer

    ttl = duration(older_than, "--older-than")
    if ttl < LEASE / 4 and not json:
        beat = LEASE / 4
        typer.echo(f"warning: a living attempt shows itself every {beat}; one may be refused its commit", err=True)
    looked = 0
    found: list[Swept] = []
    with status(json) as tell:

        def progressed(address: str) -> None:
            nonlocal looked
            looked += 1
            tell(f"{looked} runs, {len(found)} findings: {address}")

        found.extend(
            sweep_attempts(DataLayer.from_env(), _prefix(prefix), older_than=ttl, dry_run=dry_run, progress=progressed)
        )
    failed = any(one.outcome == FAILED for one in found)
    if json:
        entries = [one._asdict() | {"idle": None if one.idle is None else one.idle.total_seconds()} for one in found]
        print_json({"ok": not failed, "dry_run": dry_run, "runs": looked, "found": entries})
    else:
        rows = [
            (
                one.outcome,
                one.address,
                one.attempt,
                one.owner,
                one.files,
                bytes_text(one.bytes),
                one.uploads,
                _age(one.idle),
                one.detail,
            )
            for one in found
            if one.files or one.outcome != ALIVE  # A claim alone is nothing to look at.
        ]
        columns = ["", "address", "attempt", "owner", "files", "bytes", "uploads", "idle", "detail"]
        print_table(columns, rows, right=("attempt", "files", "bytes", "uploads", "idle"))
        gone = [one for one in found if one.outcome not in {ALIVE, FAILED}]
        verb = "would be removed" if dry_run else "removed"
        size = bytes_text(sum(one.bytes for one in gone))
        print_line(f"{looked} runs looked at; {files_text(sum(one.files for one in gone))}, {size} {verb}")
    raise typer.Exit(1 if failed else 0)


def _prefix(text: str) -> str:
    asked = addresses.parse_address(text)
    return str(asked.key) if asked.run is not None else asked.text


def _age(idle: timedelta | None) -> str:
    if idle is None:
        return ""
    hours = idle.total_seconds() / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"


def schema(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="task-context, task-report or manifest. Without one, they are listed."),
    ] = "",
    *,
    json: Json = False,
) -> None:
    """Print the JSON Schema of a document that jobs and operators exchange.

    datalayer schema task-context
    """
    from datalayer.handoff.schemas import SCHEMA_FOLDER

    known = {path.name.rpartition("-")[0]: path for path in sorted(SCHEMA_FOLDER.glob("*.json"))}
    if name:
        if name not in known:
            raise ConfigError(f"there is no schema {name!r}; there are {', '.join(known)}")
        sys.stdout.write(known[name].read_text(encoding="utf-8"))
    elif json:
        print_json({"schemas": list(known)})
    else:
        for one in known:
            print_line(one)
