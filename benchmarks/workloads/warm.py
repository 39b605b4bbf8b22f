"""Reads of what the cache folder already holds, against the same read of a plain file.

Ours: the stream, the file object, the whole of it at once, and the file's own path mapped into memory; and an Arrow file as a dataset. Rivals: the
same copy in the folder, read without us in the same way, and as little checked. Each reader takes the checksum of what it gets, as a job looks at
its bytes. Goal: at least 0.95 times as fast. Ceiling: 1.0.
"""

from __future__ import annotations

import mmap
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import scratch
from benchmarks.contender import Contender, Sink
from benchmarks.copies import CHUNK, read_file
from benchmarks.origin import Door
from benchmarks.reading import NAME, RUN, publish_large
from benchmarks.results import Figure, Timing, same, speed_against
from benchmarks.workload import Workload
from datalayer import TaskKey
from datalayer.resolve.output import ResolvedOutput

_TABLE = "part-0.arrow"
_COLUMNS = 8
_BUDGET = "2GB"


class _Warm(Contender):
    """A read of one file of which the folder has a copy."""

    file = NAME

    def __init__(self, key: TaskKey, folder: str) -> None:
        self.key = str(key)
        self.folder = folder
        self.group = self.file

    def open(self, door: Door) -> None:
        # Room for one door's copies: those of the doors at which requests were counted before go.
        self.layer = door.hot_layer(self.folder, _BUDGET)
        self.layer.hot.warm(TaskKey.parse(self.key))
        path = self.output().local_path(self.file)
        if path is None:
            raise RuntimeError(f"the cache folder has no whole copy of {self.file}")
        self.path = path

    def output(self) -> ResolvedOutput:
        """Return the output, resolved as each task does it: pinned, and so without a request."""
        return self.layer.resolve(TaskKey.parse(self.key), attempt=1)["default"]

    def run(self, sink: Sink) -> None:
        looking = Sink(check=True)
        self.read(looking)
        self.found = looking.checksum() or ""

    @abstractmethod
    def read(self, sink: Sink) -> None:
        """Read all of it."""

    def check(self, sink: Sink) -> None:
        sink.take(self.found.encode())


class Stream(_Warm):
    """Ours, verified."""

    name = "datalayer stream"
    settings = "stream(name, chunk_size=1 MiB), verified"

    def read(self, sink: Sink) -> None:
        for chunk in self.output().stream(NAME, chunk_size=CHUNK):
            sink.take(chunk)


class Verified(_Warm):
    """A plain file whose checksum is taken and compared, as a careful reader does."""

    name = "file, verified"
    settings = "open(path, buffering=0).read(1 MiB), CRC-32C of all"

    def read(self, sink: Sink) -> None:
        careful = Sink(check=True)
        with self.path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                careful.take(chunk)
                sink.take(chunk)
        careful.checksum()


class OpenFile(_Warm):
    """Ours, as a file."""

    name = "datalayer open()"
    settings = "open(name).read(1 MiB)"

    def read(self, sink: Sink) -> None:
        with self.output().open(NAME) as file:
            while chunk := file.read(CHUNK):
                sink.take(chunk)


class PlainFile(_Warm):
    """A plain file."""

    name = "file"
    settings = "open(path, buffering=0).read(1 MiB)"

    def read(self, sink: Sink) -> None:
        read_file(self.path, sink)


class Whole(_Warm):
    """Ours, all at once, verified."""

    name = "datalayer read_bytes()"
    settings = "read_bytes(name), verified"

    def read(self, sink: Sink) -> None:
        sink.take(self.output().read_bytes(NAME))


class PlainWhole(_Warm):
    """A plain file, all at once, whose checksum is taken and compared."""

    name = "file, read_bytes(), verified"
    settings = "path.read_bytes(), CRC-32C of it"

    def read(self, sink: Sink) -> None:
        data = self.path.read_bytes()
        careful = Sink(check=True)
        careful.take(data)
        sink.take(data)


class Mapped(_Warm):
    """Ours: the file's path, mapped."""

    name = "datalayer .path, mapped"
    settings = "mmap of local_path(name)"

    def read(self, sink: Sink) -> None:
        _read_mapped(self.output().local_path(NAME) or Path(), sink)


class PlainMapped(_Warm):
    """A plain file, mapped."""

    name = "file, mapped"
    settings = "mmap of the path"

    def read(self, sink: Sink) -> None:
        _read_mapped(self.path, sink)


class Dataset(_Warm):
    """Ours: an Arrow file as a dataset."""

    name = "datalayer dataset()"
    settings = "dataset().to_table(), sum of each column"
    file = _TABLE

    def read(self, sink: Sink) -> None:
        _sums(self.output().dataset().to_table(), sink)


class PlainDataset(_Warm):
    """The same from the plain file."""

    name = "pyarrow dataset"
    settings = "pyarrow.dataset.dataset(path, LocalFileSystem(use_mmap=True)).to_table(), sum of each column"
    file = _TABLE

    def read(self, sink: Sink) -> None:
        import pyarrow.dataset
        import pyarrow.fs

        mapped = pyarrow.fs.LocalFileSystem(use_mmap=True)
        _sums(pyarrow.dataset.dataset(str(self.path), format="ipc", filesystem=mapped).to_table(), sink)


_PAIRS: tuple[tuple[type[_Warm], type[_Warm]], ...] = (
    (Stream, Verified),
    (OpenFile, PlainFile),
    (Whole, PlainWhole),
    (Mapped, PlainMapped),
    (Dataset, PlainDataset),
)


class Warm(Workload):
    """The second reader."""

    name = "warm"
    only_full = True
    measures = (
        "a copy of 1 GiB in the cache folder, and an Arrow file of 256 MiB, read again (quick: 256 MiB and 64 MiB)"
    )

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=11, bench=5, quick=5, tiny=1)

    def prepare(self, door: Door) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix=scratch.prefix())
        self.large = publish_large(
            door, "warm", self.scale.pick(full=1 << 30, bench=256 << 20, quick=256 << 20, tiny=10 << 20)
        )
        self.table = _publish_table(door, self.scale.pick(full=256 << 20, bench=64 << 20, quick=64 << 20, tiny=1 << 20))

    def close(self) -> None:
        self.folder.cleanup()

    def contenders(self) -> Sequence[Contender]:
        return [
            kind(self.table if kind.file == _TABLE else self.large, self.folder.name)
            for pair in _PAIRS
            for kind in pair
        ]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        speeds = [
            Figure(
                name=f"{ours.name}: speed against {plain.name}",
                value=speed_against(timings[ours.name], timings[plain.name]),
                unit="×",
                at_least=0.95,
                ceiling="1.0",
            )
            for ours, plain in _PAIRS
        ]
        # What verifying itself costs: a goal only where both do it.
        speeds += [
            Figure(
                name=f"{ours.name}: speed against {plain.name}",
                value=speed_against(timings[ours.name], timings[plain.name]),
                unit="×",
            )
            for ours, plain in ((Stream, PlainFile), (Stream, PlainMapped))
        ]
        asked = same(sum(timings[ours.name].request_count for ours, _ in _PAIRS))
        return [*speeds, Figure(name="requests to the origin", value=asked, unit="requests", at_most=0)]


def _publish_table(door: Door, size: int) -> TaskKey:
    """Publish an uncompressed Arrow file of about ``size`` bytes of numbers, and return its key."""
    import numpy
    import pyarrow.feather

    key = TaskKey("bench", "reading", "table", RUN)
    rows = 64 << 10
    numbers = numpy.random.default_rng(0)
    batch = pyarrow.record_batch({f"c{column}": numbers.random(rows) for column in range(_COLUMNS)})
    batches = max(1, size // batch.nbytes)
    with door.layer().publish(key) as attempt, attempt.output().open(_TABLE) as file:
        pyarrow.feather.write_feather(pyarrow.Table.from_batches([batch] * batches), file, compression="uncompressed")
    return key


def _read_mapped(path: Path, sink: Sink) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for start in range(0, len(mapped), CHUNK):
            sink.take(mapped[start : start + CHUNK])


def _sums(table: Any, sink: Sink) -> None:
    import pyarrow.compute

    sink.take(repr([pyarrow.compute.sum(column).as_py() for column in table.columns]).encode())
