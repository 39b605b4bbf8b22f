"""Which bytes of a Parquet file hold some of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datalayer.errors import DataLayerError, NotFoundError, NotSupportedError
from datalayer.resolve.parquet import TAIL, chunk_spans, has_encrypted_columns, merged, missing, paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datalayer.resolve.output import ResolvedOutput
    from datalayer.resolve.parquet import Span


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
            file.seek(length - TAIL)
            encrypted = has_encrypted_columns(footer, int.from_bytes(file.read(TAIL // 2), "little"))
    except DataLayerError:
        raise
    except (pyarrow.ArrowException, OSError) as error:
        raise NotSupportedError(
            f"{output.key}, file {name!r}: it is no Parquet file, so it has no columns to warm: warm it whole, or name other files"
        ) from error
    if encrypted:
        raise NotSupportedError(
            f"{output.key}, file {name!r}: columns of it are encrypted, so it cannot be told where they lie: warm it whole"
        )
    lacking = missing(footer, columns)
    if lacking is not None:
        raise NotFoundError(
            f"{output.key}, file {name!r}: no column {lacking!r}; it has {', '.join(sorted(set(paths(footer))))}",
            tier=output.tier.value,
            location=str(output.location),
        )
    return merged([(length - TAIL - footer.serialized_size, length), *chunk_spans(footer, columns)])
