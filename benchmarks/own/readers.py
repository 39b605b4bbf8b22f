"""The designs' readers for ``own``: each reads all files of one output, or some of its columns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.contender import Sink
from benchmarks.copies import CHUNK, Cold
from benchmarks.origin import Door
from datalayer import DataLayer, TaskKey
from datalayer.resolve.resolution import ResolvedOutput

_SMALL = 1 << 20


class Reader(Cold):
    """Ours, straight from S3.

    Args:
        key: The task whose output holds the sample.
        columns: The columns to read; without any, all bytes of all files.
    """

    name = "s3-direct"
    settings = (
        "read in place: read_many() of small files, stream() of large ones, verified; columns by dataset().to_table()"
    )
    layer: DataLayer

    def __init__(self, key: TaskKey, columns: Sequence[str]) -> None:
        super().__init__(key, 0)
        self.columns = list(columns)

    def open(self, door: Door) -> None:
        super().open(door)
        if self.columns:
            # Not in the first run's time.
            import pyarrow.dataset
            import pyarrow.parquet  # noqa: F401  # loaded before the clock runs

    def begin(self, folder: str) -> None:
        self.layer = self.make_layer(folder)
        self.output()

    def make_layer(self, folder: str) -> DataLayer:
        """Return the layer of this design."""
        return self.door.layer()

    def output(self) -> ResolvedOutput:
        """Resolve the sample."""
        return self.layer.resolve(TaskKey.parse(self.key))["default"]

    def run(self, sink: Sink) -> None:
        self.take(self.output(), sink)

    def take(self, output: ResolvedOutput, sink: Sink) -> None:
        """Read an output in place."""
        if self.columns:
            take_table(output.dataset(format="parquet"), self.columns, sink)
        elif output.output.bytes <= output.output.files * _SMALL:
            for _, data in output.read_many():
                sink.take(data)
        else:
            for name in output.files:
                for chunk in output.stream(name, chunk_size=CHUNK):
                    sink.take(chunk)


class Downloaded(Reader):
    """The POC: one file after the other is downloaded, then the program runs on files."""

    name = "s3-poc"
    settings = "each reader downloads all files, one after the other, then reads its own copies"

    def run(self, sink: Sink) -> None:
        output = self.output()
        folder = self.own or Path()
        for name in output.files:
            with (folder / name).open("wb", buffering=0) as file:
                for chunk in output.stream(name, chunk_size=CHUNK):
                    file.write(chunk)
        take_files([folder / name for name in output.files], self.columns, sink)


class Cached(Reader):
    """Ours, through a cache folder that this machine's readers share, empty at first."""

    name = "hot-cold, cold"
    settings = "as s3-direct, design hot-cold with a cache folder of the machine that is empty at first"

    def make_layer(self, folder: str) -> DataLayer:
        return self.door.hot_layer(folder)


class Warmed(Cached):
    """The same, read before."""

    name = "hot-cold, warm"
    settings = "as hot-cold, cold, once it has been read on this machine"

    def begin(self, folder: str) -> None:
        super().begin(folder)
        self.take(self.output(), Sink())


class SharedEfs(Reader):
    """Ours, on a shared volume as EFS is."""

    name = "shared-fs, emulated EFS"
    settings = "as s3-direct, design shared-fs on an emulated EFS volume, page cache dropped first"

    def make_layer(self, folder: str) -> DataLayer:
        return efs_layer(self.door)

    def begin(self, folder: str) -> None:
        super().begin(folder)
        forget(Path(self.door.required_efs))


class InTheirFolder(Reader):
    """The user's own folder, read where it is.

    Args:
        key: As for the others.
        columns: As for the others.
        paths: The files.
        lengths: How much of each.
    """

    name = "shared-fs, your folder"
    settings = "the same files read where they lie, page cache dropped first; nothing is verified"

    def __init__(self, key: TaskKey, columns: Sequence[str], paths: Sequence[str], lengths: Sequence[int]) -> None:
        super().__init__(key, columns)
        self.paths = list(paths)
        self.lengths = list(lengths)

    def begin(self, folder: str) -> None:
        for path in self.paths:
            drop(Path(path))

    def run(self, sink: Sink) -> None:
        take_files([Path(path) for path in self.paths], self.columns, sink, self.lengths)


def efs_layer(door: Door) -> DataLayer:
    """Return a layer of the design ``shared-fs`` on the emulated EFS."""
    return DataLayer(door.config(design="shared-fs", tiers={"shared": {"url": str(door.required_efs)}}))


def take_table(dataset: Any, columns: Sequence[str], sink: Sink) -> None:
    """Read columns of an Arrow dataset, and give the sink their values."""
    import pyarrow

    table = dataset.to_table(columns=list(columns)).combine_chunks()
    written = pyarrow.BufferOutputStream()
    # Whether a schema brings its file's own metadata along depends on the reader, and says nothing of the values.
    with pyarrow.ipc.new_stream(written, table.schema.remove_metadata()) as stream:
        stream.write_table(table.replace_schema_metadata())
    sink.take(memoryview(written.getvalue()))


def take_files(paths: Sequence[Path], columns: Sequence[str], sink: Sink, lengths: Sequence[int] = ()) -> None:
    """Read files of this machine, or columns of them."""
    if columns:
        import pyarrow.dataset

        take_table(pyarrow.dataset.dataset([str(path) for path in paths], format="parquet"), columns, sink)
        return
    for at, path in enumerate(paths):
        left = lengths[at] if lengths else path.stat().st_size
        with path.open("rb", buffering=0) as file:
            while left and (chunk := file.read(min(CHUNK, left))):
                sink.take(chunk)
                left -= len(chunk)


def drop(path: Path) -> None:
    """Ask the kernel to forget a file's pages."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def forget(folder: Path) -> None:
    """Ask the kernel to forget the pages of all files below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            drop(path)
