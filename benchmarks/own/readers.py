"""The designs' readers for ``own``: each reads all files of one output, or some of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.contender import Sink
from benchmarks.copies import CHUNK, Cold
from benchmarks.origin import Door
from benchmarks.page_cache import drop_files, drop_folder
from benchmarks.poc import SERIAL, Transfer
from datalayer import DataLayer, TaskKey
from datalayer.resolve.output import ResolvedOutput

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
    settings = f"{SERIAL}: each reader downloads all files, then reads its own copies; it is told their names, and nothing is verified"

    def begin(self, folder: str) -> None:
        super().begin(folder)
        self.names = list(self.output().files)
        self.transfer = Transfer(self.door, parallel=False)
        self.transfer.warm_up(self.object_of(self.names[0]))

    def object_of(self, name: str) -> str:
        """Return a file's key."""
        return f"root{self.key}/attempts/1/default/{name}"

    def run(self, sink: Sink) -> None:
        paths = [(self.own or Path()) / name for name in self.names]
        for name, path in zip(self.names, paths, strict=True):
            self.transfer.download(self.object_of(name), path)
        take_files(paths, self.columns, sink)


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
        return self.door.efs_layer()

    def begin(self, folder: str) -> None:
        super().begin(folder)
        drop_folder(Path(self.door.required_efs))


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
        # A mount may know no such advice: then they stay warm.
        with suppress(OSError):
            drop_files(map(Path, self.paths))

    def run(self, sink: Sink) -> None:
        take_files([Path(path) for path in self.paths], self.columns, sink, self.lengths)


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
