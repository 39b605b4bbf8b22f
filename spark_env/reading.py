"""``read``: a committed output as a DataFrame, read in place by Spark's own engine."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from datalayer.addresses.location import Location
from datalayer.commit.manifest import REFERENCE
from datalayer.errors import NotFoundError, NotSupportedError, ResolutionError, VerificationError
from datalayer.handoff.local_copy import LocalOutput
from spark_env.copies import explained, local_copies
from spark_env.failures import is_missing_file, reason, spark_errors
from spark_env.known_files import frame_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from datalayer.commit.manifest import Entry
    from datalayer.resolve.output import ResolvedOutput

MAX_LISTED = 32
"""Up to this many files Spark gets the manifest's own list; beyond it (its default threshold for a distributed listing) the folder."""

_DICTIONARIES = "parquet.filter.dictionary.enabled"
_SMALL = 128 << 20
"""Bytes, as Spark's own row group: to ask for three dictionaries costs 0.1 s of S3's round trips for each row group, and what they seldom save of one
this large, a quarter of its bytes in some columns, 0.4 s."""

_FORMATS = {
    "parquet": "parquet",
    "csv": "csv",
    "tsv": "csv",
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "orc": "orc",
    "txt": "text",
    "avro": "avro",
    "xml": "xml",
}
_COMPRESSIONS = re.compile(r"\.(gz|bz2|lz4|snappy|zst|zstd|deflate)$")
# Spark takes every path for a pattern; a backslash makes these mean themselves.
_PATTERN_CHARACTERS = re.compile(r"([\\{}\[\]*?])")


def read(
    session: SparkSession,
    output: ResolvedOutput,
    *,
    format: str | None = None,  # noqa: A002 - Spark's own word
    schema: StructType | str | None = None,
    **options: str | bool | float,
) -> DataFrame:
    """Return a committed output as a DataFrame: exactly the files that its manifest names, wherever they lie.

    Folders like ``year=2013`` become columns. Files and folders whose name begins with ``_`` or ``.`` hold no data. Under a design with a hot
    tier they are read from Alluxio as long as it serves, or from whole, verified copies on this machine, which are made now.

    Args:
        session: From :func:`spark_env.session`, so that it can reach the output's tier.
        output: ``task.input("extract")["default"]``, or ``layer.resolve(key)["default"]``.
        format: Spark's name of the format; by default told by the files' ending.
        schema: The columns, where Spark need not look for them itself.
        **options: For Spark's reader: ``header=True``, ``mergeSchema=True`` and so on.

    Raises:
        NotSupportedError: The format cannot be told, or Spark has no way to the files.
        VerificationError: The folder holds other files than the manifest names, or a reference changed.
        NotFoundError: Files of the output are gone from the tier. Of Parquet files in a short list Spark asks nothing here: that some of them are
            gone shows, as an error of Spark's own, when it reads them.
        ResolutionError: Spark could not open it; the cause says why.
        TransientStoreError: A copy could not be read, or the server that holds it does not serve. The next attempt reads it from the cold tier.
    """
    entries = output.data_files()
    if not entries:
        if schema is not None:
            return session.createDataFrame([], schema)
        raise ResolutionError(
            f"{output.key} holds no file with data, so Spark cannot tell its columns: pass schema=…",
            key=str(output.key),
        )
    check_readable(output, entries)
    format = format or format_of(str(output.key), (entry.name for entry in entries))  # noqa: A001 - as above
    reader = session.read.format(format)
    if schema is not None:
        reader = reader.schema(schema)
    copies = local_copies(session, output, entries)
    if copies is None and small_on_a_store(output.spark_uri, entries):
        options = {_DICTIONARIES: False, **options}
    folder = copies.folder if copies else output.spark_uri
    # A reference may name some of many files in a folder. The folder of a cache has only those that were asked for.
    by_list = len(entries) <= MAX_LISTED or output.output.kind == REFERENCE or copies is not None
    paths = copies.files if copies else output.spark_uris() if by_list else [folder]
    # Columns that come from folders have to be told where these begin, for which Spark asks what is there.
    if any("/" in entry.name for entry in entries):
        options = {**options, "basePath": folder}
    try:
        if by_list and format == "parquet" and schema is None:
            files = [(path, entry.length) for path, entry in zip(paths, entries, strict=True)]
            return frame_of(session, files, _when(output), options)
        frame = reader.options(**options).load([literal(path) for path in paths])
        if not by_list:
            check_files(output, folder, frame.inputFiles(), entries)
    except spark_errors() as error:
        raise explained(error) or _read_error(output, folder, error) from error
    return frame


def small_on_a_store(uri: str, entries: Iterable[Entry]) -> bool:
    """Whether files are so small, and so far away, that a look at what they could be passed over for costs more than to read them.

    Parquet reads the dictionaries of filtered columns first, one after the other, and one of S3's round trips brings a connection 2 to 3 MB of data.
    Statistics, which come with the footer, are looked at all the same.
    """
    return not uri.startswith("file:") and all(entry.length <= _SMALL for entry in entries)


def _when(output: ResolvedOutput) -> float:
    """Return when an output was committed, in seconds since 1970; 0 where its committer said it in other words than we do."""
    try:
        return datetime.fromisoformat(output.manifest.committed).timestamp()
    except ValueError:
        return 0.0


def format_of(key: str, names: Iterable[str]) -> str:
    """Return Spark's name of the format that files' endings tell.

    Raises:
        NotSupportedError: They tell none, or several.
    """
    endings = {_COMPRESSIONS.sub("", name.lower()).rpartition("/")[2].rpartition(".")[2] for name in names}
    formats = {_FORMATS.get(ending) for ending in endings}
    if len(formats) == 1 and (known := formats.pop()):
        return known
    shown = ", ".join(sorted(endings)[:5])
    raise NotSupportedError(f"{key}: no one format of Spark goes with files ending in {shown}: pass format=…")


def literal(path: str) -> str:
    """Return a path such that Spark, which takes paths for patterns, finds just that path."""
    return _PATTERN_CHARACTERS.sub(r"\\\1", path)


def check_readable(output: ResolvedOutput, entries: Sequence[Entry]) -> None:
    """Make sure that an engine other than ours can read an output's files as they lie.

    Raises:
        NotSupportedError: Several of its files are packed into one object.
        VerificationError: A reference is no longer what it was pinned to.
    """
    if isinstance(output, LocalOutput):
        return  # The copy holds every file under its own name, verified.
    if output.output.kind == REFERENCE:
        output.check_pins(entries)
    elif packed := next((entry for entry in entries if output.is_packed(entry)), None):
        raise NotSupportedError(
            f"{output.key}: {packed.name!r} is packed into a larger object, which only this library reads: use .dataset() or .open(name)",
            tier=output.tier.value,
            location=str(output.location),
        )


def check_files(output: ResolvedOutput, folder: str, found: Iterable[str], entries: Iterable[Entry]) -> None:
    """Make sure that what Spark found in a folder is what the manifest names.

    Args:
        output: Where the files belong, for errors.
        folder: The folder's URI, as text.
        found: The files' URIs as Spark gives them, percent-encoded.
        entries: The manifest's.

    Raises:
        VerificationError: Spark found a file too many, or one too few.
    """
    base = f"/{Location.parse(folder).path}/"
    names = {unquote(urlsplit(uri).path).removeprefix(base) for uri in found}
    expected = {entry.name for entry in entries}
    if names == expected:
        return
    name = min(names ^ expected)
    problem = "holds a file that is not in the manifest" if name in names else "lacks a file of the manifest"
    raise VerificationError(
        f"{output.key}: {folder} {problem}: {name!r}. Something changed a committed folder; publish the task again",
        key=str(output.resolution.key),
        attempt=output.resolution.attempt,
    )


def _read_error(output: ResolvedOutput, folder: str, error: Exception) -> NotFoundError | ResolutionError:
    if is_missing_file(error):
        return NotFoundError(
            f"{output.key}: files of it are gone from {folder} ({output.tier.value}): {reason(error)}. Publish the task again",
            tier=output.tier.value,
            location=str(output.location),
        )
    return ResolutionError(
        f"{output.key}: Spark could not read {folder} ({output.tier.value}): {reason(error)}. Was the session made by spark_env.session(task)?",
        key=str(output.resolution.key),
    )
