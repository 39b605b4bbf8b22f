"""Columns of Parquet files, read with as few round trips as there can be: the footers side by side, then all column chunks side by side.

A file's length is in the manifest, so that nothing asks for it, and the end of the file that is fetched first is long enough for most footers.
What was fetched is laid where it lies in the file, in memory that is otherwise never touched, and decoded from there by pyarrow.
"""

from __future__ import annotations

import mmap
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from datalayer.commit.manifest import REFERENCE
from datalayer.errors import NotFoundError, NotSupportedError, VerificationError
from datalayer.resolve.bulk import side_by_side
from datalayer.resolve.parquet import TAIL, chunk_spans, has_encrypted_columns, merged, missing
from datalayer.stores.hot import CommittedView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pyarrow

    from datalayer.commit.manifest import Entry
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.resolve.parquet import Span

PARALLEL = 32
"""Ranges in flight at once. What comes is small; what counts is the wait for it."""
# Of a large file that much of its end is fetched at first, about 0.4 % of it: 12 ms at the speed of one connection to S3, less than another wait.
_SHORTEST_END = 64 << 10
_LONGEST_END = 1 << 20
_END_SHARE = 8
# Less than what a connection to S3 carries while one waits for a first byte, and little beside what is read.
_GAP = 64 << 10
# Larger ones come over several connections.
_LONGEST_RANGE = 8 << 20
_KEPT_FOOTERS = 64
# Python tells it from 3.13 on; on Linux for x86 and ARM it is this. Elsewhere memory may be reserved, and still is not touched.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class Footers:
    """Footers that were read, so that who reads on does not ask for them again. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def get(self, name: str) -> Any | None:
        """Return a file's footer, if it was read and is still kept."""
        return self._known.get(name)

    def keep(self, name: str, footer: Any) -> None:
        """Keep a footer. Only some are kept: one of a wide table takes megabytes."""
        if len(self._known) < _KEPT_FOOTERS:
            self._known[name] = footer


def read_table(output: ResolvedOutput, columns: Sequence[str] | None, footers: Footers) -> pyarrow.Table:
    """Return columns of all of an output's Parquet files, in the manifest's order.

    Raises:
        NotFoundError: A file has no such column, or its bytes are gone.
        NotSupportedError: A file is no Parquet file, or is encrypted.
        VerificationError: A file has another length than was committed, or its columns cannot be decoded.
    """
    import pyarrow

    files = [_File(output, entry, footers) for entry in output.data_files()]
    if not files:
        raise NotSupportedError(f"{output.key} has no file that holds data, so no columns")
    fetched: list[_File] = [file for file in files if file.local is None]
    for _ in side_by_side(_File.read_footer, fetched, PARALLEL):
        pass
    spans = [(file, span) for file in fetched for span in file.plan(columns)]
    for _ in side_by_side(lambda wanted: wanted[0].fetch(wanted[1]), spans, PARALLEL):
        pass
    tables = [file.decode(columns) for file in files]
    return tables[0] if len(tables) == 1 else pyarrow.concat_tables(tables, promote_options="default")


class _File:
    """One file, of which some spans are read."""

    def __init__(self, output: ResolvedOutput, entry: Entry, footers: Footers) -> None:
        self._output = output
        self._entry = entry
        self._footers = footers
        self._footer: Any = footers.get(entry.name)
        self._end: tuple[int, bytes] = (entry.length, b"")
        self._bytes: mmap.mmap | None = None
        self.local: Path | None = None
        """Where the file lies on this machine; None where it does not."""
        self._mapped = False
        self._get: Callable[[int, int], bytes] = partial(output.read_range, entry.name)
        # A reference is compared with its pin at each read.
        if not output.is_packed(entry) and output.output.kind != REFERENCE:
            store, path = output.store_path(entry.name)
            self._get = lambda start, end: store.get_range(path, start, end - start)
            if isinstance(store, CommittedView):
                self._mapped = True
                self.local = store.mappable_path(path)
            elif (local := store.local_path(path)) is not None:
                output.check_length(entry, store.head(path).size)
                self.local = local

    def read_footer(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if self._footer is not None:
            return
        length = self._entry.length
        self._fetch_end(min(length, max(_SHORTEST_END, min(_LONGEST_END, length >> _END_SHARE))))
        size = int.from_bytes(self._end[1][-TAIL : -TAIL // 2], "little") + TAIL
        if len(self._end[1]) < size <= length and self._end[1].endswith(b"PAR1"):
            self._fetch_end(size)
        try:
            self._footer = pyarrow.parquet.read_metadata(pyarrow.BufferReader(self._end[1]))
        except (pyarrow.ArrowException, OSError) as error:
            raise self._no_parquet(error) from error
        if has_encrypted_columns(self._footer, size - TAIL):
            raise self._no_parquet("columns of it are encrypted")
        self._footers.keep(self._entry.name, self._footer)

    def plan(self, columns: Sequence[str] | None) -> list[Span]:
        """Return the ranges to fetch."""
        # Before anything is fetched.
        self._check(columns)
        found: list[Span] = []
        for start, end in merged(chunk_spans(self._footer, columns), _GAP):
            if not 0 <= start <= end <= self._entry.length:
                raise VerificationError(
                    f"{self._output.key}, file {self._entry.name!r}: its footer tells of bytes outside of it"
                )
            found += [(at, min(at + _LONGEST_RANGE, end)) for at in range(start, end, _LONGEST_RANGE)]
        if found:
            # Zeros that take no memory until something is written there.
            self._bytes = mmap.mmap(-1, self._entry.length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
        return found

    def fetch(self, span: Span) -> None:
        if self._bytes is None:
            raise RuntimeError("planned before it is fetched")
        start, end = span
        known = self._end[0]
        data = self._end[1][start - known : end - known] if start >= known else self._read(start, end)
        self._bytes[start:end] = data

    def decode(self, columns: Sequence[str] | None) -> pyarrow.Table:
        import pyarrow
        import pyarrow.parquet

        try:
            file = pyarrow.parquet.ParquetFile(
                self._source(), metadata=self._footer, pre_buffer=False, page_checksum_verification=True
            )
        except (pyarrow.ArrowException, OSError) as error:
            raise self._no_parquet(error) from error
        if self._footer is None:
            self._footer = file.metadata
            self._footers.keep(self._entry.name, self._footer)
        self._check(columns)
        try:
            return file.read(columns=None if columns is None else list(columns))
        except (pyarrow.ArrowException, OSError) as error:
            raise VerificationError(
                f"{self._output.key}, file {self._entry.name!r}: its columns cannot be decoded: {error}. 'datalayer verify' tells whether these are "
                "the bytes that were committed; where they are, the writer made them so"
            ) from error

    def _source(self) -> Any:
        import pyarrow

        if self.local is None:
            return pyarrow.BufferReader(pyarrow.py_buffer(self._bytes or b""))
        try:
            return pyarrow.memory_map(str(self.local)) if self._mapped else pyarrow.OSFile(str(self.local))
        except FileNotFoundError as error:
            # It was there a moment ago.
            raise NotFoundError(
                f"{self._output.key}, file {self._entry.name!r}: no such file any more. Resolve the task again",
                tier=self._output.tier.value,
                location=str(self._output.location),
            ) from error

    def _check(self, columns: Sequence[str] | None) -> None:
        lacking = missing(self._footer, columns or ())
        if lacking is not None:
            known = self._footer.schema.to_arrow_schema().names
            more = f" and {len(known) - 10} more" if len(known) > 10 else ""
            raise NotFoundError(
                f"{self._output.key}, file {self._entry.name!r}: no column {lacking!r}; it has {', '.join(known[:10])}{more}",
                tier=self._output.tier.value,
                location=str(self._output.location),
            )

    def _fetch_end(self, size: int) -> None:
        start = self._entry.length - size
        self._end = start, self._read(start, self._entry.length)

    def _read(self, start: int, end: int) -> bytes:
        if end > self._entry.length:
            raise VerificationError(
                f"{self._output.key}, file {self._entry.name!r}: its footer tells of bytes after its end"
            )
        return self._get(start, end)

    def _no_parquet(self, error: Exception | str) -> NotSupportedError:
        return NotSupportedError(
            f"{self._output.key}, file {self._entry.name!r}: it is no Parquet file that can be read here ({error}). Read it with open(name); another "
            "format, with dataset()"
        )
