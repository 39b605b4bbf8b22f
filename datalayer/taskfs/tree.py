"""A committed attempt as a tree of folders and files, named below the path that was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datalayer.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datalayer.commit.manifest import Entry
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.resolve.resolution import Resolution
    from datalayer.taskfs.paths import TaskPath


def folder(name: str, attempt: int | None = None) -> dict[str, Any]:
    """Return a folder's info."""
    found: dict[str, Any] = {"name": name, "size": 0, "type": "directory"}
    return found if attempt is None else found | {"attempt": attempt}


def info(asked: TaskPath, resolution: Resolution) -> dict[str, Any]:
    """Return the info of the folder or file that a path names in an attempt.

    Raises:
        NotFoundError: It names none.
    """
    base = asked.pinned(resolution.key.run, resolution.attempt)
    if not asked.rest:
        return folder(base, resolution.attempt)
    output = output_of(asked, resolution)
    name = "/".join(asked.rest[1:])
    if not name:
        return folder(base, resolution.attempt)
    if name in output.files:
        return _file(asked.pinned_file(resolution.key.run, resolution.attempt), output, output.files[name])
    if any(True for _ in _inside(output, f"{name}/")):
        return folder(base, resolution.attempt)
    raise _missing(asked, output)


def children(asked: TaskPath, resolution: Resolution) -> list[dict[str, Any]]:
    """Return one level: an attempt's outputs, a folder's folders and files, or the one file that the path names.

    Raises:
        NotFoundError: The path names nothing.
    """
    if not asked.rest:
        base = asked.pinned(resolution.key.run, resolution.attempt)
        return [folder(f"{base}/{name}", resolution.attempt) for name in sorted(resolution)]
    found = below(asked, resolution, 1, withdirs=True)
    return [found[name] for name in sorted(found) if name != asked.text]


def below(
    asked: TaskPath, resolution: Resolution, maxdepth: int | None, *, withdirs: bool
) -> dict[str, dict[str, Any]]:
    """Return every file at or below a path, and the folders if asked for, down to ``maxdepth`` levels, by name.

    Raises:
        NotFoundError: The path names nothing.
    """
    base = asked.pinned(resolution.key.run, resolution.attempt)
    if not asked.rest:
        tops = [(resolution[name], f"{name}/", "") for name in resolution]
    else:
        output = output_of(asked, resolution)
        name = "/".join(asked.rest[1:])
        if name in output.files:
            pinned = asked.pinned_file(resolution.key.run, resolution.attempt)
            return {pinned: _file(pinned, output, output.files[name])}
        tops = [(output, "", f"{name}/" if name else "")]
    found: dict[str, dict[str, Any]] = {}
    for output, shown, prefix in tops:
        inside = list(_inside(output, prefix))
        if not inside:
            raise _missing(asked, output)
        for rest, entry in inside:
            parts = f"{shown}{rest}".split("/")
            if maxdepth is None or len(parts) <= maxdepth:
                full = "/".join((base, *parts))
                found[full] = _file(full, output, entry)
            if withdirs:
                for depth in range(1, min(len(parts), (maxdepth or len(parts)) + 1)):
                    above = "/".join((base, *parts[:depth]))
                    found.setdefault(above, folder(above, resolution.attempt))
    return found


def output_of(asked: TaskPath, resolution: Resolution) -> ResolvedOutput:
    """Return the output that a path lies in.

    Raises:
        NotFoundError: The attempt has none of that name.
    """
    name = asked.rest[0]
    if name not in resolution:
        known = ", ".join(sorted(resolution))
        raise NotFoundError(
            f"task://{asked.text}: {resolution.key} has no output {name!r}; it has {known}",
            location=f"task://{asked.text}",
        )
    return resolution[name]


def _inside(output: ResolvedOutput, prefix: str) -> Iterator[tuple[str, Entry]]:
    for name, entry in output.files.items():
        if name.startswith(prefix):
            yield name[len(prefix) :], entry


def _file(name: str, output: ResolvedOutput, entry: Entry) -> dict[str, Any]:
    return {
        "name": name,
        "size": entry.length,
        "type": "file",
        "checksum": entry.checksum,
        "attempt": output.resolution.attempt,
    }


def _missing(asked: TaskPath, output: ResolvedOutput) -> NotFoundError:
    name = "/".join(asked.rest[1:])
    attempt, files = output.resolution.attempt, output.output.files
    message = f"task://{asked.text}: attempt {attempt} has no file or folder {name!r} in output {output.key.name!r}, among its {files} files"
    return NotFoundError(message, tier=output.tier.value, location=f"task://{asked.text}")
