"""Which bytes of a Parquet file hold some of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datalayer.errors import NotFoundError, NotSupportedError
from datalayer.resolve.parquet import TAIL, chunk_spans, merged, missing, paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datalayer.resolve.parquet import Span
    from datalayer.resolve.resolution import ResolvedOutput


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
    lacking = missing(footer, columns)
    if lacking is not None:
        raise NotFoundError(
            f"{output.key}, file {name!r}: no column {lacking!r}; it has {', '.join(sorted(set(paths(footer))))}",
            tier=output.tier.value,
            location=str(output.location),
        )
    return merged([(length - TAIL - footer.serialized_size, length), *chunk_spans(footer, columns)])
