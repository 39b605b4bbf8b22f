"""Inputs as directories: links to the committed files where their tier is mounted, verified copies where it is not."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from datalayer.addresses.layout import check_file_name
from datalayer.errors import (
    DataLayerError,
    HandoffError,
    NotFoundError,
    PermissionDeniedError,
    TransientStoreError,
    VerificationError,
)
from datalayer.stores.budget import ByteBudget, run_all
from datalayer.stores.checksum import Crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from datalayer.handoff.pinning import PinnedInput
    from datalayer.resolve.output import ResolvedOutput

_CHUNK_BYTES = 4 << 20
# A store holds several chunks of a stream at once, some of them twice while they are handed over, so a large file counts for more than one. Two
# streams from S3 share 80 MiB of ranges; one alone has 72 MiB.
_LARGE_FILE_BYTES = 12 * _CHUNK_BYTES
_BYTES_IN_FLIGHT = 96 << 20
_WORKERS = 16


class Progress(NamedTuple):
    """How far a transfer is."""

    step: str
    """``inputs``, ``outputs`` or ``delivery``."""
    done: int
    """Bytes."""
    total: int
    """Bytes."""


class SharedFile(NamedTuple):
    """An input file that is the cache's own copy, which other jobs may have been given, too."""

    output: ResolvedOutput
    name: str
    path: Path
    was: os.stat_result
    """When it was found right."""


def prepare_inputs(
    pinned: Iterable[PinnedInput], folder: Path, *, in_place: bool, progress: Callable[[Progress], None] | None = None
) -> list[SharedFile]:
    """Make ``<folder>/<alias>/<output>/`` for every input, holding exactly the files that the manifests list.

    Args:
        pinned: The inputs.
        folder: An empty folder of this machine.
        in_place: Whether the design reads in place. If so, files of a mounted tier are linked, those of a cache on this machine under their
            own names beside it, and inputs that are read through the SDK or Spark get no directory. If not, everything is copied.
        progress: Called now and then while bytes are copied.

    Returns:
        The files that are not this job's alone, for :func:`check_shared`.

    Raises:
        NotFoundError: A committed file is gone from the tier.
        VerificationError: A file is not the one that was committed.
    """
    copies: list[_Copy] = []
    shared: list[SharedFile] = []
    for one in pinned:
        if in_place and one.spec.access == "in-place":
            continue
        for output in one.outputs:
            target = folder / one.folder / output.key.name
            target.mkdir(parents=True)
            if in_place and output.paths_last and output.path is not None:
                _link(output, target)
            else:
                copies += [_Copy(output, name, target, shared if in_place else None) for name in output.files]
    _copy_all(copies, progress)
    return shared


def check_shared(files: Iterable[SharedFile]) -> None:
    """Make sure that nobody wrote into files that several jobs were given, while this one may have read them.

    They are nobody's to write, but a process of root is not kept from it.

    Raises:
        TransientStoreError: Somebody did. The next attempt is given the right bytes: the cache notices it as well.
    """
    for file in files:
        try:
            now = file.path.lstat()
        except FileNotFoundError:
            continue
        same_file = os.path.samestat(now, file.was)
        untouched = (now.st_mtime_ns, now.st_size) == (file.was.st_mtime_ns, file.was.st_size)
        if same_file and not untouched and not _is_right(file):
            raise TransientStoreError(
                f"{file.output.key}, file {file.name!r}: {file.path} was written to while the job ran, by it or by another job that was given "
                "the same file. Nothing was committed. Input files must not be changed: copy what is to be changed. Run the job again",
                tier=file.output.tier.value,
                location=str(file.path),
            )


def _is_right(file: SharedFile) -> bool:
    """Whether a file whose time has changed holds what was committed all the same."""
    found = Crc32c()
    with file.path.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.text() == file.output.entry(file.name).checksum


class _Copy(NamedTuple):
    output: ResolvedOutput
    name: str
    folder: Path
    shared: list[SharedFile] | None = None
    """Where a copy that a cache of this machine has, or makes, will do: takes it, if it is used."""


def _link(output: ResolvedOutput, folder: Path) -> None:
    for name, entry in output.files.items():
        store, path = output.store, output.object_path(entry)
        source = output.local_path(name)
        if source is None:
            _copy(_Copy(output, name, folder), lambda _size: None)
            continue
        try:
            found = store.head(path)
        except PermissionDeniedError as error:
            # Also for a link in the place of a folder on the way: whoever may write there would have the job read what they cannot.
            raise VerificationError(
                f"{output.key}, file {name!r}: {source} is not the file that was committed: {error}",
                key=str(output.key.task),
                attempt=output.resolution.attempt,
            ) from error
        except NotFoundError as error:
            raise NotFoundError(
                f"{output.key}, file {name!r}: committed, and gone from {source}. Publish the task again",
                tier=output.tier.value,
                location=str(store.location(path)),
            ) from error
        if found.size != entry.length:
            raise VerificationError(
                f"{output.key}, file {name!r}: {source} is not the file of {entry.length} bytes that was committed",
                key=str(output.key.task),
                attempt=output.resolution.attempt,
            )
        link = folder / check_file_name(name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)


def _copy_all(copies: list[_Copy], progress: Callable[[Progress], None] | None) -> None:
    if not copies:
        return
    total = sum(copy.output.entry(copy.name).length for copy in copies)
    budget = ByteBudget(_BYTES_IN_FLIGHT)
    lock = threading.Lock()
    done = 0

    def moved(size: int) -> None:
        nonlocal done
        budget.check()
        with lock:
            done += size
            if progress:
                progress(Progress("inputs", done, total))

    def run(copy: _Copy) -> None:
        with budget.share(min(copy.output.entry(copy.name).length, _LARGE_FILE_BYTES)):
            _copy(copy, moved)

    # Of a pack, many files come by each request.
    packed = [copy for copy in copies if copy.output.packed and copy.output.entry(copy.name).object is not None]
    folders: dict[tuple[int, Path], dict[str, _Copy]] = {}
    for copy in packed:
        # Two aliases of one input are one output, and two folders.
        folders.setdefault((id(copy.output), copy.folder), {})[copy.name] = copy
    for by_name in folders.values():
        output = next(iter(by_name.values())).output
        for name, data in output.read_many(by_name):
            _copy(by_name[name], moved, [data])
    alone = [copy for copy in copies if not copy.output.packed or copy.output.entry(copy.name).object is None]
    # Large files first, so that none is left to run alone at the end.
    largest_first = sorted(alone, key=lambda copy: copy.output.entry(copy.name).length, reverse=True)
    run_all(run, largest_first, budget=budget, workers=_WORKERS, name="datalayer-input")


def _copy(copy: _Copy, moved: Callable[[int], None], chunks: Iterable[bytes] | None = None) -> None:
    """Copy a file: from its chunks where they have been read already."""
    target = copy.folder / check_file_name(copy.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if copy.shared is not None and _linked(copy, target):
            copy.shared.append(SharedFile(copy.output, copy.name, target, target.lstat()))
            moved(copy.output.entry(copy.name).length)
            return
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for chunk in copy.output.stream(copy.name, chunk_size=_CHUNK_BYTES) if chunks is None else chunks:
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
                moved(len(chunk))
    except OSError as error:
        if isinstance(error, DataLayerError):
            raise
        raise HandoffError(
            f"input file {target} cannot be written: {error.strerror}. Give the job more room, or another work folder"
        ) from error


def _linked(copy: _Copy, target: Path) -> bool:
    """Whether the cache's whole copy of a file stands under the job's name for it, too: then it stays when the cache drops its own."""
    if copy.output.packed and copy.output.entry(copy.name).object is not None:
        return False  # In the cache is the pack it lies in.
    store, path = copy.output.store_path(copy.name)
    source = store.bring(path)
    if source is None:
        return False
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # The cache is on another file system, or has just dropped it.
        return False
    return True
