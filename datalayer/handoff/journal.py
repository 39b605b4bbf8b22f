"""The journal: what a wrapped job staged through ``open_task()``, so that its wrapper commits it without a listing.

JSON lines in a file of the work folder, appended by however many processes of the job. Internal: both sides are the same installation.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from datalayer.addresses.layout import check_file_name
from datalayer.commit.manifest import Entry, Field
from datalayer.commit.output import OutputWriter
from datalayer.errors import InvalidKeyError, PublishError, VerificationError
from datalayer.stores.counting import TierReceipt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO, TextIO

    import pyarrow

    from datalayer.addresses.keys import TaskKey
    from datalayer.commit.files import OutputFile
    from datalayer.stores.base import ObjectInfo, Store


class Record(msgspec.Struct, omit_defaults=True):
    """One line: of one output, or a receipt."""

    output: str = ""
    begun: str | None = None
    """A file was opened."""
    dropped: str | None = None
    """A file that was opened was given up."""
    wrote: Entry | None = None
    """A file is closed and whole."""
    pack: Entry | None = None
    """A pack is closed and whole."""
    opened: bool = False
    """The folder was handed to an engine or a program."""
    checksums: bool = False
    """And its files are to be read for their checksums, because a program wrote them."""
    engine: bool = False
    """And it is an engine's to write to by its URI, whether or not the job does."""
    rows: int | None = None
    schema: list[Field] | None = None
    receipt: dict[str, TierReceipt] | None = None
    """What a process of the job asked of each tier."""


class FileJournal:
    """Appends to a journal. Each line is one write, so that processes do not mix theirs."""

    def __init__(self, path: str) -> None:
        self._path = path

    def wrote(self, output: str, entry: Entry) -> None:
        """A file is closed and whole."""
        self.add(Record(output, wrote=entry))

    def opened(self, output: str) -> None:
        """The output's folder was handed to an engine or a program."""
        self.add(Record(output, opened=True))

    def packed(self, output: str, pack: Entry, files: list[Entry]) -> None:
        """A pack is closed and whole, and so are the files in it."""
        self.add(Record(output, pack=pack))
        for entry in files:
            self.wrote(output, entry)

    def add(self, record: Record) -> None:
        """Append one record."""
        line = msgspec.json.encode(record) + b"\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


class JournaledOutput(OutputWriter):
    """The writer of an output that another process commits.

    Args:
        store: Where the output is staged.
        key: The task.
        attempt: The attempt's number.
        name: The output's name.
        journal: What the committer reads.
        folder: The output's folder in the store, where it is not the attempt's own.
        packed: Whether small files are laid together into packs.
    """

    def __init__(
        self,
        store: Store,
        key: TaskKey,
        attempt: int,
        name: str,
        *,
        journal: FileJournal,
        folder: str | None = None,
        packed: bool = False,
    ) -> None:
        super().__init__(store, key, attempt, name, journal, packed=packed)
        self._records = journal
        if folder is not None:
            self._folder = folder

    def open(self, name: str, mode: str = "wb") -> BinaryIO | TextIO:  # type: ignore[override]  # the overloads are the base's
        file = super().open(name, mode)  # type: ignore[call-overload]  # either mode, which overloads cannot say
        self._records.add(Record(self.name, begun=name))
        return file  # type: ignore[no-any-return]  # for the same reason

    def _begins_in_pack(self, name: str) -> None:
        # Whoever never closes the pack has lost the file: nothing may be committed without it.
        self._records.add(Record(self.name, begun=name))

    def write_table(self, table: pyarrow.Table, name: str = "part-0.parquet") -> None:
        super().write_table(table, name)
        self.describe()

    def adopt_folder(self, *, checksums: bool) -> None:
        super().adopt_folder(checksums=checksums)
        if checksums:
            self._records.add(Record(self.name, opened=True, checksums=True))

    def adopt_engine_folder(self) -> None:
        super().adopt_engine_folder()
        self._records.add(Record(self.name, opened=True, engine=True))

    def describe(self) -> None:
        """Tell the committer the rows and columns that are known."""
        if self.rows is not None or self.schema is not None:
            self._records.add(Record(self.name, rows=self.rows, schema=self.schema))

    def check_closed(self) -> None:
        """Make sure that no file is still open.

        Raises:
            PublishError: One is.
        """
        if self._unfinished:
            name = next(iter(self._unfinished))
            raise PublishError(
                f"output {self.name!r}: file {name!r} was opened and never closed: close it, or use 'with'"
            )

    def _finished(self, file: OutputFile, info: ObjectInfo | None) -> None:
        super()._finished(file, info)
        if info is None:
            self._records.add(Record(self.name, dropped=file.name))


class Staged(msgspec.Struct):
    """What a journal says of one output."""

    entries: dict[str, Entry] = {}
    packs: list[Entry] = []
    opened: bool = False
    checksums: bool = False
    engine: bool = False
    rows: int | None = None
    schema: list[Field] | None = None


def read_journal(path: Path) -> dict[str, Staged]:
    """Return what a job staged through ``open_task()``, by output.

    Raises:
        PublishError: A file was opened and never closed.
        VerificationError: The journal is damaged, or names a file outside the output.
    """
    found: dict[str, Staged] = {}
    unfinished: set[tuple[str, str]] = set()
    for record in _records(path):
        staged = found.setdefault(record.output, Staged())
        if record.begun is not None:
            unfinished.add((record.output, record.begun))
        if record.dropped is not None:
            unfinished.discard((record.output, record.dropped))
        if record.wrote is not None:
            unfinished.discard((record.output, record.wrote.name))
            staged.entries[record.wrote.name] = record.wrote
        if record.pack is not None:
            staged.packs.append(record.pack)
        staged.opened |= record.opened
        staged.checksums |= record.checksums
        staged.engine |= record.engine
        staged.rows = record.rows if record.rows is not None else staged.rows
        staged.schema = record.schema if record.schema is not None else staged.schema
    if unfinished:
        output, name = min(unfinished)
        raise PublishError(
            f"output {output!r}: the job opened file {name!r} and never closed it: close it, or use 'with'"
        )
    return found


def _records(path: Path) -> Iterator[Record]:
    """Yield the lines that are about outputs."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            record = msgspec.json.decode(line, type=Record)
            for name in (record.begun, record.dropped, record.wrote.name if record.wrote else None):
                if name is not None:
                    check_file_name(name)
        except (msgspec.MsgspecError, InvalidKeyError) as error:
            raise VerificationError(f"the job's journal {path} is damaged: {error}") from error
        if record.receipt is None:
            yield record


def read_receipts(path: Path) -> list[dict[str, TierReceipt]]:
    """Return what the processes of a job asked of each tier through ``open_task()``. A line that is damaged counts nothing."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            receipt = msgspec.json.decode(line, type=Record).receipt
        except msgspec.MsgspecError:
            continue
        if receipt is not None:
            found.append(receipt)
    return found
