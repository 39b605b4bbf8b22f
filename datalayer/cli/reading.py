"""``ls``, ``show``, ``resolve``, ``cat``, ``get``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datalayer.cli import addresses
from datalayer.cli.printing import Json, print_fields, print_json, print_line, print_table, progress, time_text
from datalayer.errors import ConfigError, NotFoundError, NotSupportedError
from datalayer.words import bytes_text, files_text

if TYPE_CHECKING:
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.resolve.resolution import Resolution
    from datalayer.taskfs import TaskFileSystem
    from datalayer.taskfs.paths import TaskPath

Address = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS", help="Such as aviation/flights/extract@2013-01-01, …@latest, or /team/dag/task/run@ATTEMPT."
    ),
]
OutputName = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="NAME", help="Which output. By default the only one, else 'default'."),
]

_ABOVE = ("teams", "dags", "tasks", "runs")
_FIELDS = ("uri", "location", "path", "spark_uri", "tier")


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(ls)
    app.command()(show)
    app.command()(resolve)
    app.command()(cat)
    app.command()(get)


def ls(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where to look; by default from the top.")] = "",
    *,
    json: Json = False,
) -> None:
    """List what is committed: teams, DAGs, tasks, runs, outputs, files.

    datalayer ls aviation/flights/extract

    datalayer ls aviation/flights/extract@latest/default
    """
    from datalayer.layer import DataLayer
    from datalayer.taskfs import TaskFileSystem

    fs = TaskFileSystem(layer=DataLayer.from_env(), skip_instance_cache=True)
    asked = addresses.parse_address(address)
    level, entries = _above(fs, asked) if asked.run is None else _within(fs, asked, address)
    if json:
        print_json({"address": f"/{asked.text}", "level": level, "entries": entries})
        return
    if not entries:
        print_line("nothing is committed here")
    columns = [name for name in (entries[0] if entries else {}) if name not in {"address", "id"}]
    rows = [[_shown(name, entry[name]) for name in columns] for entry in entries]
    print_table(columns, rows, right=("attempt", "files", "bytes", "rows"))


def _shown(name: str, value: Any) -> object:
    match name:
        case "bytes":
            return bytes_text(value)
        case "committed":
            return time_text(value)
        case "outputs":
            return ", ".join(value)
        case _:
            return value


def _above(fs: TaskFileSystem, asked: TaskPath) -> tuple[str, list[dict[str, Any]]]:
    level = _ABOVE[len(asked.ids)]
    found = fs.ls(asked.text, detail=False)
    if level == "runs":
        return level, _instances(fs, found)
    from datalayer.addresses.encoding import decode_component

    names = [name.rpartition("/")[2] for name in found]
    return level, [
        {"name": name, "id": decode_component(name), "address": f"/{path}"}
        for name, path in zip(names, found, strict=True)
    ]


def _instances(fs: TaskFileSystem, found: list[str]) -> list[dict[str, Any]]:
    from datalayer.taskfs.paths import parse_path

    entries = []
    for name in found:
        asked = parse_path(name)
        if asked.attempt is None:  # A run of mapped instances: they stand for it.
            entries += _instances(fs, fs.ls(name, detail=False))
            continue
        resolution = fs.layer.resolve(asked.key, attempt=asked.attempt)
        outputs = resolution.manifest.outputs
        entries.append(
            {
                "run": asked.run if asked.map_index is None else f"{asked.run}/map_index-{asked.map_index}",
                "attempt": asked.attempt,
                "committed": resolution.manifest.committed,
                "outputs": sorted(outputs),
                "files": sum(output.files for output in outputs.values()),
                "bytes": sum(output.bytes for output in outputs.values()),
                "address": str(asked.key),
            }
        )
    return entries


def _within(fs: TaskFileSystem, asked: TaskPath, address: str) -> tuple[str, list[dict[str, Any]]]:
    from datalayer.addresses.runs import LATEST
    from datalayer.errors import NotPublishedError
    from datalayer.taskfs import tree

    try:
        resolution, _ = addresses.resolve(fs.layer, address)
    except NotPublishedError:
        if asked.run == LATEST or asked.rest or asked.attempt or asked.map_index is not None:
            raise
        return "instances", _instances(fs, fs.ls(asked.key.path, detail=False))
    if not asked.rest:
        return "outputs", [
            {
                "output": name,
                "kind": output.kind,
                "tier": output.tier,
                "files": output.files,
                "bytes": output.bytes,
                "rows": output.rows,
                "address": f"{resolution.key}@{resolution.attempt}/{name}",
            }
            for name, output in resolution.manifest.outputs.items()
        ]
    pinned = asked._replace(
        text="/".join((f"{resolution.key}@{resolution.attempt}"[1:], *asked.rest)), attempt=resolution.attempt
    )
    return "files", [
        {
            "name": info["name"].rpartition("/")[2] + ("/" if info["type"] == "directory" else ""),
            "bytes": info["size"],
            "checksum": info.get("checksum"),
            "address": f"/{info['name']}",
        }
        for info in tree.children(pinned, resolution)
    ]


def show(address: Address, *, json: Json = False) -> None:
    """Show what one attempt committed: its outputs, what it was made from, who made it, and where it lies.

    datalayer show aviation/flights/extract@2013-01-01

    datalayer show /aviation/flights/extract/20130101T000000Z@1
    """
    import msgspec

    from datalayer.layer import DataLayer

    layer = DataLayer.from_env()
    resolution, _ = addresses.resolve(layer, address)
    manifest = resolution.manifest
    places = {name: _place(output) for name, output in resolution.items()}
    if json:
        print_json(
            {
                "address": str(resolution.key),
                "attempt": resolution.attempt,
                "digest": resolution.digest,
                "home": str(layer.home.location(resolution.key.path)),
                "manifest": msgspec.Raw(resolution.document),
                "outputs": places,
            }
        )
        return
    producer = manifest.producer
    print_fields(
        (
            ("address", resolution.key),
            ("attempt", resolution.attempt),
            ("committed", time_text(manifest.committed)),
            ("digest", resolution.digest),
            ("home", f"{layer.home_tier.value}: {layer.home.location(resolution.key.path)}"),
            ("owner", producer.owner),
            ("operator", producer.operator),
            ("image", producer.image),
            ("versions", ", ".join(f"{name} {version}" for name, version in producer.versions.items()) or None),
        )
    )
    print_line("")
    print_line("inputs" if manifest.inputs else "inputs: none recorded")
    print_table(
        ["alias", "address", "digest"], [(one.alias, f"{one.key}@{one.attempt}", one.digest) for one in manifest.inputs]
    )
    for name, output in manifest.outputs.items():
        rows = "" if output.rows is None else f", {output.rows} rows"
        print_line("")
        print_line(
            f"output {name}: {files_text(output.files)}, {bytes_text(output.bytes)}{rows}"
            + (", a reference" if output.kind != "files" else "")
        )
        if output.schema:
            print_line("  columns  " + ", ".join(f"{field.name} {field.type}" for field in output.schema))
        for field in _FIELDS:
            print_line(f"  {field.replace('_', ' '):<9}  {places[name][field] or '-'}")
        for miss in places[name]["misses"]:
            print_line(f"  not on {miss['tier']}: {miss['reason']}")


def resolve(
    address: Address,
    output: OutputName = None,
    field: Annotated[str | None, typer.Option(help=f"Print only this: {', '.join(_FIELDS)}. For scripts.")] = None,
    *,
    json: Json = False,
) -> None:
    """Find an output: its URI, its place, the tier that serves it, and why each faster tier was passed over.

    datalayer resolve aviation/flights/extract@latest

    spark-submit job.py "$(datalayer resolve aviation/flights/extract@2013-01-01 --field spark_uri)"
    """
    from datalayer.layer import DataLayer

    if field is not None and field not in _FIELDS:
        raise ConfigError(f"--field {field}: the fields are {', '.join(_FIELDS)}")
    resolution, asked = addresses.resolve(DataLayer.from_env(), address)
    found = addresses.pick_output(resolution, asked, output)
    place = _place(found)
    if json:
        print_json(_identity(resolution, found) | place)
    elif field is None:
        print_fields([*_identity(resolution, found).items(), *((name, place[name] or "-") for name in _FIELDS)])
        for miss in place["misses"]:
            print_line(f"not on {miss['tier']}: {miss['reason']}")
    elif place[field] is None:
        raise NotSupportedError(f"{found.key} has no {field} on tier {found.tier.value}: use its uri")
    else:
        typer.echo(place[field])


def _identity(resolution: Resolution, output: ResolvedOutput) -> dict[str, Any]:
    return {
        "address": str(resolution.key),
        "attempt": resolution.attempt,
        "digest": resolution.digest,
        "output": output.key.name,
    }


def _place(output: ResolvedOutput) -> dict[str, Any]:
    try:
        spark_uri = output.spark_uri
    except NotSupportedError:
        spark_uri = None
    return {
        "uri": output.uri,
        "location": str(output.location),
        "path": None if output.path is None else str(output.path),
        "spark_uri": spark_uri,
        "tier": output.tier.value,
        "misses": [{"tier": miss.tier.value, "reason": miss.reason} for miss in output.misses],
    }


def cat(
    address: Address,
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="Which file. By default the only one.")] = None,
    output: OutputName = None,
    *,
    json: Json = False,
) -> None:
    """Write a file to standard output, checked against its manifest. A file that is damaged ends short, with an error.

    datalayer cat aviation/flights/extract@2013-01-01 flights.csv

    With --json its entry in the manifest is printed instead.
    """
    import msgspec

    from datalayer.layer import DataLayer

    resolution, asked = addresses.resolve(DataLayer.from_env(), address)
    found = addresses.pick_output(resolution, asked, output)
    name = file or "/".join(asked.rest[1:])
    if not name:
        if len(found.files) != 1:
            raise NotFoundError(
                f"{found.key} has {len(found.files)} files: name one of them. See 'datalayer ls {resolution.key}/{found.key.name}'"
            )
        name = next(iter(found.files))
    if json:
        print_json(_identity(resolution, found) | {"file": msgspec.to_builtins(found.entry(name))})
        return
    for chunk in found.stream(name):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def get(
    address: Address,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to put it; made if it is not there.", show_default="here")
    ] = Path(),
    output: OutputName = None,
    *,
    json: Json = False,
) -> None:
    """Download outputs, every file checked against the manifest and under its name only once it is whole. Run again, it goes on.

    Without --output, each output gets a folder of its own.

    datalayer get aviation/flights/extract@2013-01-01 out/
    """
    from datalayer.cli.downloading import download
    from datalayer.layer import DataLayer

    resolution, asked = addresses.resolve(DataLayer.from_env(), address)
    if asked.rest or output:
        wanted = [(addresses.pick_output(resolution, asked, output), folder)]
    else:
        wanted = [(resolution[name], folder / name) for name in resolution]
    prefix = "/".join(asked.rest[1:])
    total = sum(one.output.bytes for one, _ in wanted)
    fetched = []
    with progress("getting", total, quiet=json) as bars:
        for one, target in wanted:
            fetched += download(one, target, prefix, bars.add)
    if json:
        files = [
            {"output": one.output, "name": one.name, "bytes": one.bytes, "path": str(one.path), "there": one.there}
            for one in fetched
        ]
        print_json(
            {"address": str(resolution.key), "attempt": resolution.attempt, "digest": resolution.digest, "files": files}
        )
        return
    there = sum(one.there for one in fetched)
    kept = f", {there} there already" if there else ""
    print_line(
        f"{files_text(len(fetched))}, {bytes_text(sum(one.bytes for one in fetched))}{kept}: {resolution.key}@{resolution.attempt} in {folder}"
    )
