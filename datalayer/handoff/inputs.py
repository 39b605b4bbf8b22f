"""Inputs as directories: links to the committed files where their tier is mounted, verified copies where it is not."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, NamedTuple

from datalayer.addresses.layout import check_file_name
from datalayer.commit.manifest import REFERENCE
from datalayer.errors import DataLayerError, HandoffError, NotFoundError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from datalayer.handoff.pinning import PinnedInput
    from datalayer.resolve.resolution import ResolvedOutput

_CHUNK_BYTES = 4 << 20
# A store holds a few chunks of a stream at once, so a large file counts for more than one.
_LARGE_FILE_BYTES = 4 * _CHUNK_BYTES
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


def prepare_inputs(
    pinned: Iterable[PinnedInput], folder: Path, *, in_place: bool, progress: Callable[[Progress], None] | None = None
) -> None:
    """Make ``<folder>/<alias>/<output>/`` for every input, holding exactly the files that the manifests list.

    Args:
        pinned: The inputs.
        folder: An empty folder of this machine.
        in_place: Whether the design reads in place. If so, files of a mounted tier are linked, and inputs that are read through the SDK or
            Spark get no directory. If not, everything is copied.
        progress: Called now and then while bytes are copied.

    Raises:
        NotFoundError: A committed file is gone from the tier.
        VerificationError: A file is not the one that was committed.
    """
    copies: list[_Copy] = []
    for one in pinned:
        if in_place and one.spec.access == "in-place":
            continue
        for output in one.outputs:
            target = folder / one.folder / output.key.name
            target.mkdir(parents=True)
            if in_place and output.path is not None:
                _link(output, target)
            else:
                copies += [_Copy(output, name, target) for name in output.files]
    _copy_all(copies, progress)


class _Copy(NamedTuple):
    output: ResolvedOutput
    name: str
    folder: Path


def _link(output: ResolvedOutput, folder: Path) -> None:
    for name, entry in output.files.items():
        store, path = output.store_path(name)
        source = store.local_path(path)
        if source is None or entry.offset or (entry.object is not None and output.output.kind != REFERENCE):
            _copy(_Copy(output, name, folder), lambda _size: None)
            continue
        try:
            found = source.lstat()
        except FileNotFoundError as error:
            raise NotFoundError(
                f"{output.key}, file {name!r}: committed, and gone from {source}. Publish the task again",
                tier=output.tier.value,
                location=str(store.location(path)),
            ) from error
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.length:
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
    budget = _Budget(_BYTES_IN_FLIGHT)
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
        cost = min(copy.output.entry(copy.name).length, _LARGE_FILE_BYTES)
        with budget.share(cost):
            _copy(copy, moved)

    with ThreadPoolExecutor(_WORKERS, "datalayer-input") as pool:
        pending: list[Future[None]] = []
        try:
            # Large files first, so that none is left to run alone at the end.
            largest_first = sorted(copies, key=lambda copy: copy.output.entry(copy.name).length, reverse=True)
            pending.extend(pool.submit(run, copy) for copy in largest_first)
            ended, _ = wait(pending, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()
        except BaseException:
            budget.close()
            for future in pending:
                future.cancel()
            wait(pending)
            raise


def _copy(copy: _Copy, moved: Callable[[int], None]) -> None:
    target = copy.folder / check_file_name(copy.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for chunk in copy.output.stream(copy.name, chunk_size=_CHUNK_BYTES):
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


class _Budget:
    """Bytes that may be in memory at once."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._closed = False
        self._changed = threading.Condition()

    def share(self, cost: int) -> _Share:
        return _Share(self, cost)

    def check(self) -> None:
        if self._closed:
            raise TransferStoppedError

    def close(self) -> None:
        """Let nobody in any more: the transfer failed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, cost: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._free >= cost)
            if self._closed:
                raise TransferStoppedError
            self._free -= cost

    def give(self, cost: int) -> None:
        with self._changed:
            self._free += cost
            self._changed.notify_all()


class TransferStoppedError(Exception):
    """Another file of the same transfer failed; that failure is the one to report."""


class _Share:
    def __init__(self, budget: _Budget, cost: int) -> None:
        self._budget = budget
        self._cost = cost

    def __enter__(self) -> None:
        self._budget.take(self._cost)

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._cost)
