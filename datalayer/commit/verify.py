"""``verify``: every file of a committed attempt against its manifest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from datalayer.addresses import layout
from datalayer.commit.manifest import REFERENCE
from datalayer.errors import NotFoundError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datalayer.layer import DataLayer
    from datalayer.resolve.resolution import Resolution, ResolvedOutput
    from datalayer.stores.base import Store

_PARALLEL = 8
# With this many files at once, what is in memory stays well below 256 MiB.
_CHUNK_BYTES = 2 << 20


class Problem(NamedTuple):
    """One way in which an attempt is not what was committed."""

    kind: str
    """``missing``, ``damaged``, or ``extra``: a file that no manifest names, which no reader sees."""
    output: str
    file: str
    detail: str


class Verified(NamedTuple):
    """What was found."""

    key: str
    attempt: int
    files: int
    bytes: int
    unchecked: int
    """Files of which the manifest has only the length: an engine wrote them where no checksum was to be had."""
    problems: list[Problem]

    @property
    def ok(self) -> bool:
        """Whether readers get what was committed. Extra files do them no harm."""
        return all(problem.kind == "extra" for problem in self.problems)


def verify(layer: DataLayer, resolution: Resolution, *, progress: Callable[[int, int], None] | None = None) -> Verified:
    """Read every file of an attempt from the tier it was written to, several at once, and return what does not fit its manifest.

    Args:
        layer: The layer that resolved it.
        resolution: The attempt.
        progress: Called with the files and bytes that each step has verified; from several threads.

    Raises:
        StoreError: A store could not be asked; nothing is known then.
        ResolutionError: No tier can serve an output.
    """
    problems: list[Problem] = []
    work: list[tuple[ResolvedOutput, str]] = []
    unchecked = 0
    outputs = [output.original() for output in resolution.values()]
    for output in outputs:
        name = output.key.name
        try:
            files = output.files
        except (VerificationError, NotFoundError) as error:
            problems.append(Problem("damaged", name, "", f"the list of files: {error}"))
            continue
        work += [(output, file) for file in files]
        unchecked += sum(entry.checksum is None for entry in files.values())

    def check(item: tuple[ResolvedOutput, str]) -> Problem | None:
        output, file = item
        try:
            for chunk in output.stream(file, chunk_size=_CHUNK_BYTES):
                if progress:
                    progress(0, len(chunk))
        except NotFoundError as error:
            return Problem("missing", output.key.name, file, str(error))
        except VerificationError as error:
            return Problem("damaged", output.key.name, file, str(error))
        if progress:
            progress(1, 0)
        return None

    with ThreadPoolExecutor(_PARALLEL, "datalayer-verify") as pool:
        problems += [problem for problem in pool.map(check, work) if problem]
    problems += _extra(layer, resolution, outputs)
    size = sum(output.entry(file).length for output, file in work)
    return Verified(str(resolution.key), resolution.attempt, len(work), size, unchecked, problems)


def _extra(layer: DataLayer, resolution: Resolution, outputs: list[ResolvedOutput]) -> Iterator[Problem]:
    """Yield the files that lie in the attempt's folder and belong to nothing."""
    folder = layout.attempt_path(resolution.key, resolution.attempt)
    stores: dict[str, tuple[Store, set[str]]] = {str(layer.home.root): (layer.home, set())}
    for output in outputs:
        if output.output.kind == REFERENCE:
            continue
        try:
            files = output.files
        except (VerificationError, NotFoundError):
            # Reported already. Without the list, nothing of this output can be told to be extra.
            return
        for file in files:
            store, path = output.store_path(file)
            stores.setdefault(str(store.root), (store, set()))[1].add(path)
    ours = {f"{folder}/{name}" for name in (layout.CLAIM, layout.ALIVE, layout.HEAD)}
    for store, known in stores.values():
        for info in store.list(folder):
            if info.path in known or info.path in ours or info.path.startswith(f"{folder}/{layout.INDEX}/"):
                continue
            output_name, _, file = info.path.removeprefix(f"{folder}/").partition("/")
            yield Problem("extra", output_name, file, f"{store.location(info.path)} is named by no manifest")
