"""Which bytes of a Parquet file hold some of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datalayer.errors import NotFoundError, NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from datalayer.resolve.resolution import ResolvedOutput

Span = tuple[int, int]
"""Bytes from the first number up to the second."""

_TAIL = 8  # The footer's length and the magic.


def column_spans(output: ResolvedOutput, name: str, columns: Sequence[str]) -> list[Span]:
    """Return the spans of the columns' chunks and of the footer, in order. The footer is read for it.

    Args:
        output: The output.
        name: The file.
        columns: Names of columns; of a nested one, its own or that of a part of it, ``address.city``.

    Raises:
        NotFoundError: The file has no such column.
        NotSupportedError: It is no Parquet file.
    """
    import pyarrow
    import pyarrow.parquet

    length = output.entry(name).length
    try:
        with output.open(name) as file:
            footer = pyarrow.parquet.read_metadata(file)
    except pyarrow.ArrowInvalid as error:
        raise NotSupportedError(
            f"{output.key}, file {name!r}: it is no Parquet file, so it has no columns to warm: warm it whole, or name other files"
        ) from error
    known = {footer.schema.column(index).path for index in range(footer.num_columns)}
    for column in columns:
        if not any(_is_part(path, column) for path in known):
            raise NotFoundError(
                f"{output.key}, file {name!r}: no column {column!r}; it has {', '.join(sorted(known))}",
                tier=output.tier.value,
                location=str(output.location),
            )
    spans = [(length - _TAIL - footer.serialized_size, length)]
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            chunk = footer.row_group(group).column(index)
            if any(_is_part(chunk.path_in_schema, column) for column in columns):
                spans.append(_span(chunk))
    return merged(spans)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the same bytes in order, in as few spans as they make."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif start < end:
            found.append((start, end))
    return found


def _span(chunk: Any) -> Span:
    start = chunk.data_page_offset
    # A writer that has no dictionary page may still spell an offset, of 0.
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


def _is_part(path: str, column: str) -> bool:
    return path == column or path.startswith(f"{column}.")
