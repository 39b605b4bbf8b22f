"""Outputs downloaded to a folder: verified, under their names only once they are whole, and taken up again where it stopped."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import NotFoundError
from datalayer.stores.checksum import Crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from datalayer.commit.manifest import Entry
    from datalayer.resolve.output import ResolvedOutput

_PARALLEL = 8
_CHUNK_BYTES = 4 << 20


class Fetched(NamedTuple):
    """One downloaded file."""

    output: str
    name: str
    bytes: int
    path: Path
    there: bool
    """Whether it was there already, with the same bytes."""


def download(output: ResolvedOutput, folder: Path, prefix: str, done: Callable[[int], None]) -> list[Fetched]:
    """Download an output's files, several at once.

    Args:
        output: What to download.
        folder: The files go below it under their names.
        prefix: Only this file, or those below this folder of the output. Empty for all.
        done: Called with the bytes of each step; from several threads.

    Raises:
        NotFoundError: Nothing has that prefix.
        VerificationError: A file is not what was committed; nothing is left of it.
    """
    wanted = [
        entry for name, entry in output.files.items() if not prefix or name == prefix or name.startswith(f"{prefix}/")
    ]
    if not wanted:
        raise NotFoundError(f"{output.key} has no file or folder {prefix!r}")
    packed = [entry for entry in wanted if entry.object is not None] if output.packed else []
    fetched = list(_fetch_packed(output, packed, folder, done))
    wanted = [entry for entry in wanted if entry.object is None] if output.packed else wanted
    with ThreadPoolExecutor(_PARALLEL, "datalayer-get") as pool:
        pending = [pool.submit(_fetch, output, entry, folder, done) for entry in wanted]
        try:
            return fetched + [future.result() for future in pending]
        except BaseException:  # also an interrupt leaves nothing behind
            for future in pending:
                future.cancel()
            raise


def _fetch_packed(
    output: ResolvedOutput, entries: list[Entry], folder: Path, done: Callable[[int], None]
) -> Iterator[Fetched]:
    """Download files of packs, many by each request."""
    missing = {entry.name: entry for entry in entries if not _same(folder / entry.name, entry)}
    for entry in entries:
        if entry.name not in missing:
            done(entry.length)
            yield Fetched(output.key.name, entry.name, entry.length, folder / entry.name, there=True)
    for name, data in output.read_many(missing):
        yield _write(output, missing[name], folder / name, [data], done)


def _fetch(output: ResolvedOutput, entry: Entry, folder: Path, done: Callable[[int], None]) -> Fetched:
    target = folder / entry.name
    if _same(target, entry):
        done(entry.length)
        return Fetched(output.key.name, entry.name, entry.length, target, there=True)
    return _write(output, entry, target, output.stream(entry.name, chunk_size=_CHUNK_BYTES), done)


def _write(
    output: ResolvedOutput, entry: Entry, target: Path, chunks: Iterable[bytes], done: Callable[[int], None]
) -> Fetched:
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".datalayer-get-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                done(len(chunk))
        # As open() would have made it, not as private as a temporary file.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(target)
    except BaseException:  # also an interrupt leaves nothing behind
        Path(temporary).unlink(missing_ok=True)
        raise
    return Fetched(output.key.name, entry.name, entry.length, target, there=False)


def _same(path: Path, entry: Entry) -> bool:
    if entry.checksum is None or not path.is_file() or path.stat().st_size != entry.length:
        return False
    crc = Crc32c()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc.update(chunk)
    return crc.text() == entry.checksum


def _umask() -> int:
    # Linux says what it is without setting it, which no other thread would like.
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
