"""``verify``: every file of a committed attempt against its manifest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from datalayer.addresses import layout
from datalayer.commit.manifest import REFERENCE
from datalayer.errors import DataLayerError, NotFoundError, VerificationError
from datalayer.resolve.packed import Span, read_span, spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datalayer.layer import DataLayer
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.resolve.resolution import Resolution
    from datalayer.stores.base import Store

_PARALLEL = 8
# With this many files at once, what is in memory stays well below 256 MiB: streams from S3 share the ranges that they have ahead.
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
    work: list[tuple[ResolvedOutput, Span]] = []
    count = size = 0
    unchecked = 0
    outputs = [output.original() for output in resolution.values()]
    for output in outputs:
        name = output.key.name
        try:
            files = output.files
        except (VerificationError, NotFoundError) as error:
            problems.append(Problem("damaged", name, "", f"the list of files: {error}"))
            continue
        # Elsewhere each file is streamed by itself, also where some lie in one object.
        alone = (Span([file], file.offset, file.offset + file.length) for file in files.values())
        work += [(output, span) for span in (spans(files.values()) if output.packed else alone)]
        count += len(files)
        size += output.output.bytes
        unchecked += sum(entry.checksum is None for entry in files.values())

    with ThreadPoolExecutor(_PARALLEL, "datalayer-verify") as pool:
        problems += [problem for found in pool.map(partial(_check, progress), work) for problem in found]
    problems += _extra(layer, resolution, outputs)
    return Verified(str(resolution.key), resolution.attempt, count, size, unchecked, problems)


def _check(progress: Callable[[int, int], None] | None, item: tuple[ResolvedOutput, Span]) -> list[Problem]:
    """Return what is wrong with the files of a span: those of a pack that lie together, or one file."""
    output, span = item
    name, file = output.key.name, span.entries[0].name
    found: dict[str, bytes | DataLayerError] = {}
    if output.packed and span.entries[0].object is not None:
        found = read_span(output, span)
        if progress:
            progress(len(found), sum(entry.length for entry in span.entries))
    else:
        try:
            for chunk in output.stream(file, chunk_size=_CHUNK_BYTES):
                if progress:
                    progress(0, len(chunk))
        except (NotFoundError, VerificationError) as error:
            found[file] = error
        else:
            if progress:
                progress(1, 0)
    return [
        Problem("missing" if isinstance(error, NotFoundError) else "damaged", name, file, str(error))
        for file, error in found.items()
        if isinstance(error, DataLayerError)
    ]


def _extra(layer: DataLayer, resolution: Resolution, outputs: list[ResolvedOutput]) -> Iterator[Problem]:
    """Yield the files that lie in the attempt's folder and belong to nothing."""
    folder = layout.attempt_path(resolution.key, resolution.attempt)
    stores: dict[str, tuple[Store, set[str]]] = {str(layer.home.root): (layer.home, set())}
    for output in outputs:
        if output.output.kind == REFERENCE:
            continue
        try:
            objects = output.objects()
        except (VerificationError, NotFoundError):
            # Reported already. Without the list, nothing of this output can be told to be extra.
            return
        known = stores.setdefault(str(output.store.root), (output.store, set()))[1]
        known |= {output.object_path(entry) for entry in objects}
    ours = {f"{folder}/{name}" for name in (layout.CLAIM, layout.ALIVE, layout.HEAD)}
    for store, known in stores.values():
        for info in store.list(folder):
            if info.path in known or info.path in ours or info.path.startswith(f"{folder}/{layout.INDEX}/"):
                continue
            output_name, _, file = info.path.removeprefix(f"{folder}/").partition("/")
            yield Problem("extra", output_name, file, f"{store.location(info.path)} is named by no manifest")
