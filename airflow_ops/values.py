"""What a Python task returns, as the files of an output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datalayer.errors import PublishError

if TYPE_CHECKING:
    from datalayer.commit.output import OutputWriter

TEXT, BYTES, JSON = "data.txt", "data.bin", "data.json"


def write_value(output: OutputWriter, value: Any) -> None:
    """Write a value as one output.

    A pandas or Polars frame, and an Arrow table, become one Parquet file; bytes ``data.bin``; text ``data.txt``; a ``Path`` that file, or all files
    of that folder; everything else that JSON has, ``data.json``.

    Raises:
        PublishError: It is nothing of these.
    """
    writer = _table_writer(value)
    if writer is not None:
        writer(output)
    elif isinstance(value, Path):
        _write_path(output, value)
    elif isinstance(value, bytes | bytearray | memoryview):
        output.put(BYTES, bytes(value))
    elif isinstance(value, str):
        output.put(TEXT, value.encode())
    else:
        output.put(JSON, _json(output.name, value))


def _table_writer(value: Any) -> Callable[[OutputWriter], None] | None:
    """Return how a table is written, if it is one. Told by its class's name, so that no library is imported that the task has not."""
    home, name = type(value).__module__.partition(".")[0], type(value).__name__
    if (home, name) == ("pyarrow", "Table"):
        return lambda output: output.write_table(value)
    if (home, name) == ("pandas", "DataFrame"):
        return lambda output: _write_pandas(output, value)
    if (home, name) == ("polars", "DataFrame"):
        return lambda output: output.write_table(value.to_arrow())
    if (home, name) == ("polars", "LazyFrame"):
        return lambda output: output.write_table(value.collect().to_arrow())
    return None


def _write_pandas(output: OutputWriter, frame: Any) -> None:
    import pyarrow

    output.write_table(pyarrow.Table.from_pandas(frame))


def _write_path(output: OutputWriter, path: Path) -> None:
    if path.is_dir():
        output.put_folder(path)
        return
    try:
        with path.open("rb") as source, output.open(path.name, "wb") as target:
            while chunk := source.read(4 << 20):
                target.write(chunk)
    except FileNotFoundError as error:
        raise PublishError(
            f"output {output.name!r}: the task returned the path {path}, and nothing lies there"
        ) from error


def _json(name: str, value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise PublishError(
            f"output {name!r}: the task returned a {type(value).__name__}, which cannot be written: {error}. Return a DataFrame, an Arrow table, "
            "bytes, text, a Path or what JSON has, or write files through out=output_writer()"
        ) from error
