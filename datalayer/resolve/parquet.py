"""What a Parquet file's footer says: where its columns lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Span = tuple[int, int]
"""Bytes from the first number up to the second."""

TAIL = 8
"""Bytes at the end of a file that hold the footer's length and the magic."""

_SIGNATURE = 12 + 16
"""Bytes of nonce and tag behind a footer that can be read though columns are encrypted (Parquet's format, "Plaintext footer mode")."""


def has_encrypted_columns(footer: Any, size: int) -> bool:
    """Whether a file has columns that only its owner's keys open. pyarrow ends the whole process when it is asked where such a column lies.

    Args:
        footer: pyarrow's ``FileMetaData``.
        size: The footer's length, as the end of the file tells it.
    """
    return bool(footer.serialized_size + _SIGNATURE == size)


def chunk_spans(footer: Any, columns: Sequence[str] | None) -> list[Span]:
    """Return the spans of some columns' chunks, unordered; of all columns by default.

    Args:
        footer: pyarrow's ``FileMetaData``.
        columns: Names of columns; of a nested one, its own or that of a part of it, ``address.city``.
    """
    # The paths are the same in each group, and a wide table has many.
    wanted = [
        index for index, path in enumerate(paths(footer)) if columns is None or any(is_part(path, c) for c in columns)
    ]
    groups = (footer.row_group(number) for number in range(footer.num_row_groups))
    return [_span(group.column(index)) for group in groups for index in wanted]


def missing(footer: Any, columns: Iterable[str]) -> str | None:
    """Return the first of some columns that the file does not have."""
    known = paths(footer)
    names = set(known)
    return next((one for one in columns if one not in names and not any(is_part(path, one) for path in known)), None)


def paths(footer: Any) -> list[str]:
    """Return the columns' paths, in the file's order."""
    schema = footer.schema
    return [schema.column(index).path for index in range(footer.num_columns)]


def merged(spans: Iterable[Span], gap: int = 0) -> list[Span]:
    """Return the same bytes in order, in as few spans as they make.

    Args:
        spans: The bytes.
        gap: Spans with up to so many bytes between them become one.
    """
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif start < end:
            found.append((start, end))
    return found


def is_part(path: str, column: str) -> bool:
    """Whether a path is a column's, or that of a part of it."""
    return path == column or path.startswith(f"{column}.")


def _span(chunk: Any) -> Span:
    start = chunk.data_page_offset
    # A writer that has no dictionary page may still spell an offset, of 0.
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size
