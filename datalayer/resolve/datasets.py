"""Arrow datasets over a manifest's own list of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datalayer.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow.dataset

    from datalayer.addresses.keys import OutputKey
    from datalayer.commit.manifest import Entry
    from datalayer.resolve.output import ResolvedOutput

_FORMATS = {
    "parquet": "parquet",
    "csv": "csv",
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "arrow": "ipc",
    "feather": "ipc",
    "ipc": "ipc",
    "orc": "orc",
}


def dataset(output: ResolvedOutput, entries: list[Entry], options: dict[str, object]) -> pyarrow.dataset.Dataset:
    """Return files of an output as a dataset. Nothing is listed.

    Args:
        output: The output.
        entries: Which files.
        options: For ``pyarrow.dataset.dataset``.

    Raises:
        NotSupportedError: The format cannot be told by the files' names.
    """
    import pyarrow.dataset

    options = {"format": _format_of(output.key, entries), **options} if "format" not in options else options
    if output.packed:
        base = output.uri.removeprefix("task://")
        names = [f"{base}/{entry.name}" for entry in entries]
        return pyarrow.dataset.dataset(names, filesystem=output.filesystem, partition_base_dir=base, **options)
    store = output.store
    base = store.filesystem_path(output.folder)
    paths = [store.filesystem_path(output.object_path(entry)) for entry in entries]
    if entries and options["format"] == "parquet" and options.keys() == {"format"}:
        sizes = [(path, entry.length) for path, entry in zip(paths, entries, strict=True)]
        return _parquet_dataset(sizes, store.arrow_filesystem)
    return pyarrow.dataset.dataset(paths, filesystem=store.arrow_filesystem, partition_base_dir=base, **options)


def _parquet_dataset(sizes: Sequence[tuple[str, int]], filesystem: Any) -> pyarrow.dataset.Dataset:
    """Return a dataset that asks for no file's size, and reads the first file's footer, which has the schema, only once.

    Args:
        sizes: Paths in the file system, and their lengths in bytes.
        filesystem: pyarrow's or fsspec's.
    """
    from pyarrow.dataset import FileSystemDataset, ParquetFileFormat

    form = ParquetFileFormat()
    parts = [form.make_fragment(path, filesystem, file_size=size) for path, size in sizes]
    return FileSystemDataset(parts, parts[0].physical_schema, form, parts[0].filesystem)


def _format_of(key: OutputKey, entries: list[Entry]) -> str:
    endings = {entry.name.removesuffix(".gz").rpartition(".")[2].lower() for entry in entries}
    formats = {_FORMATS.get(ending) for ending in endings}
    if len(formats) == 1 and (known := formats.pop()):
        return known
    raise NotSupportedError(
        f"{key}: no dataset format goes with files ending in {', '.join(sorted(endings)) or 'nothing'}; pass format=…, or read them with open(name)"
    )
