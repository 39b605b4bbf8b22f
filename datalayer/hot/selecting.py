"""What is to be warmed: outputs, files of them, and which bytes of those are copies already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from datalayer.addresses.keys import OutputKey, TaskKey
from datalayer.commit.manifest import FILES
from datalayer.errors import InvalidKeyError, NotFoundError, NotSupportedError
from datalayer.hot.columns import column_spans
from datalayer.hot.ledger import OutputRef
from datalayer.resolve.bulk import side_by_side
from datalayer.resolve.output import ResolvedOutput
from datalayer.resolve.resolution import Resolution
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from datalayer.commit.manifest import Entry
    from datalayer.resolve.parquet import Span
    from datalayer.stores.base import Expected
    from datalayer.stores.hot import HotStore

What = ResolvedOutput | Resolution | OutputKey | TaskKey
"""What a verb is about: one output, or all outputs of a task's committed attempt."""


class LeftOut(NamedTuple):
    """What was not warmed."""

    output: str
    """``/team/dag/task/run@attempt/output``."""
    file: str | None
    """None for the whole output."""
    bytes: int
    reason: str


class Wanted(NamedTuple):
    """One file to be warmed, or some bytes of it."""

    ref: OutputRef
    name: str
    path: str
    """In the store."""
    expected: Expected
    spans: tuple[Span, ...]
    """The bytes, in order."""
    before: int
    """Bytes of the file that are copies already."""

    @property
    def bytes(self) -> int:
        """How many are wanted."""
        return sum(end - start for start, end in self.spans)

    @property
    def hot(self) -> int:
        """How many of them are known to be copies already. Of a part of a file nothing is known before the whole file is one."""
        whole = self.bytes == self.expected.length
        return self.before if whole else self.bytes * (self.before == self.expected.length)


def outputs_of(what: What, resolve: Callable[[TaskKey], Resolution]) -> list[ResolvedOutput]:
    """Return the outputs that are meant.

    Raises:
        InvalidKeyError: It is nothing that has outputs.
        NotPublishedError: Nothing is committed there.
        ResolutionError: The attempt has no such output.
    """
    if isinstance(what, ResolvedOutput):
        # As it lies on the tiers: a job may hold a local copy of it.
        return [what.resolution[what.key.name]]
    if isinstance(what, TaskKey):
        what = resolve(what)
    if isinstance(what, Mapping):
        return list(what.values())
    if isinstance(what, OutputKey):
        return [resolve(what.task)[what.name]]
    raise InvalidKeyError(
        f"{what!r} is nothing that can be hot: give a TaskKey, an OutputKey, or what layer.resolve(key) returned, or one output of that"
    )


def is_copied(output: ResolvedOutput) -> bool:
    """Whether the hot tier holds copies of outputs of this kind."""
    return output.output.kind == FILES and output.output.tier == Tier.COLD.value


def copied_here(outputs: list[ResolvedOutput]) -> tuple[list[ResolvedOutput], list[LeftOut]]:
    """Divide outputs into those that the hot tier holds copies of, and the others with the reason.

    Raises:
        NotSupportedError: There are no others.
    """
    others = []
    for found in outputs:
        if not is_copied(found):
            reason = f"it was written to the tier {found.output.tier}, which has no copies"
            if found.output.kind != FILES:
                reason = "it is a reference: its data is read where it lies"
            others.append(LeftOut(str(OutputRef.of(found)), None, found.output.bytes, reason))
    if len(others) == len(outputs) and others:
        raise NotSupportedError(f"{others[0].output} cannot be hot: {others[0].reason}", tier=Tier.HOT.value)
    return [found for found in outputs if is_copied(found)], others


def paths_of(output: ResolvedOutput) -> list[str]:
    """Return the path of every file of an output in the store."""
    return [output.object_path(entry) for entry in output.objects()]


def select(
    store: HotStore,
    output: ResolvedOutput,
    files: Sequence[str] | None,
    columns: Sequence[str] | None,
    parallel: int,
) -> list[Wanted]:
    """Return what is wanted of an output, by file.

    Args:
        store: Says what is a copy already.
        output: The output.
        files: Names of files, or folders of them; None for all.
        columns: Columns of Parquet files; None for whole files.
        parallel: How many files are looked at at once.

    Raises:
        NotFoundError: The output has no such file, or one of them no such column.
        NotSupportedError: Columns of a file that is no Parquet file, or of a packed output.
    """
    if columns:
        output.refuse_packed("a warming of columns")
    names = [entry.name for entry in output.data_files()] if columns else list(output.files)
    if files is not None:
        names = list(dict.fromkeys(name for one in files for name in _named(output, names, one)))
    ref = OutputRef.of(output)

    def look(entry: Entry) -> Wanted | None:
        name, path = entry.name, output.object_path(entry)
        expected = output.expected(path)
        if expected is None:
            return None  # A part of a larger object is read past the copies.
        before = store.resident(path, expected.length)
        spans = column_spans(output, name, columns) if columns else [(0, expected.length)] if expected.length else []
        return Wanted(ref, name, path, expected, tuple(spans), before)

    # A file of a pack is hot with all of its pack.
    places = {output.files[name].object or name for name in names}
    objects = (entry for entry in output.objects() if entry.name in places)
    return [wanted for wanted in side_by_side(look, objects, parallel) if wanted]


def _named(output: ResolvedOutput, names: Iterable[str], asked: str) -> list[str]:
    inside = f"{asked.rstrip('/')}/"
    found = [name for name in names if name == asked or name.startswith(inside)]
    if not found:
        output.entry(asked)
        raise NotFoundError(
            f"{output.key}: file {asked!r} holds no data", tier=output.tier.value, location=str(output.location)
        )
    return found
