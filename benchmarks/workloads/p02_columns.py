"""P2: 3 of the 1,000 columns of a Parquet file, as a report or a feature needs them.

The table is 1 GiB of 64-bit floats in row groups of 128 MiB, as Spark writes them, uncompressed. Ours: ``read_table(columns)`` and
``dataset().to_table(columns)`` straight from S3, the resolve counted; and ``read_table`` from a cache folder of the machine that has seen these
columns, by a layer that is new. Against: the POC, which downloads the file, by a serial loop and by boto3's TransferManager; pyarrow with pre_buffer,
as ``ParquetFile`` on an open file, which asks the least, and as ``read_table``; at full scale s3fs with pyarrow, fsspec's blockcache and
filecache. The rivals are given the path. Before an *emulated* S3 (STD). Clients are connected and modules imported beforehand. Goals: 25 times as
fast as the POC with a hundredth of its bytes; cold 1.5 times as fast as pyarrow, warm 10 times. Ceiling against the POC: about 40 times, which is
three waits of 30 ms against 1 GiB at 250 MB/s.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import scratch
from benchmarks.contender import Contender, Sink
from benchmarks.front import STD
from benchmarks.origin import POOL, Door
from benchmarks.page_cache import drop_folder
from benchmarks.poc import PARALLEL, SERIAL, Transfer
from benchmarks.reading import RUN
from benchmarks.results import Figure, Timing, fastest, paired, same, speed_figure
from benchmarks.workload import Workload
from datalayer import DataLayer, TaskKey

_FILE = "part-0.parquet"
_WIDTH = 1000
_WANTED = ("c100", "c500", "c900")
_KEY = TaskKey("bench", "columns", "wide", RUN)
_OBJECT = f"root{_KEY}/attempts/1/default/{_FILE}"


class Columns(Contender):
    """Some columns of a file, as an Arrow table whose bytes are compared."""

    group = "columns"

    def open(self, door: Door) -> None:
        import pyarrow.dataset
        import pyarrow.parquet  # noqa: F401  # so that no import is timed

        self.door = door
        self.folder: Path | None = None

    def prepare(self) -> None:
        self.close()
        self.folder = scratch.new_folder()
        self.begin()

    def begin(self) -> None:
        """Make the clients, with a connection that is warm."""
        raise NotImplementedError

    def read(self) -> Any:
        """Return the table."""
        raise NotImplementedError

    def run(self, sink: Sink) -> None:
        self.table = self.read()

    def check(self, sink: Sink) -> None:
        for column in _WANTED:
            sink.take(self.table[column].to_numpy().tobytes())

    def close(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder)
            self.folder = None


class Ours(Columns):
    """Ours: two waits after the resolve's."""

    name = "datalayer read_table"
    settings = "layer.resolve(key)['default'].read_table(columns), straight from S3"
    layer: DataLayer

    def begin(self) -> None:
        self.layer = self.door.layer()
        self.layer.resolve(_KEY)

    def read(self) -> Any:
        return self.layer.resolve(_KEY)["default"].read_table(_WANTED)


class OursDataset(Ours):
    """Ours as a dataset: pyarrow reads it."""

    name = "datalayer dataset"
    settings = "layer.resolve(key)['default'].dataset().to_table(columns), straight from S3"

    def read(self) -> Any:
        return self.layer.resolve(_KEY)["default"].dataset().to_table(list(_WANTED))


class OursWarm(Ours):
    """Ours from a folder in which these columns are already, by a layer that is new, its input pinned as a job's is."""

    name = "hot-cold, NodeCache, warm"
    settings = "layer.resolve(key, attempt=1)['default'].read_table(columns), cache folder filled by such a read"

    def begin(self) -> None:
        super().begin()
        self._layer()["default"].read_table(_WANTED)

    def read(self) -> Any:
        return self._layer()["default"].read_table(_WANTED)

    def _layer(self) -> Any:
        folder = self.folder or Path()
        hot = {"url": str(folder / "hot"), "budget": "10GB"}
        return self.door.layer(design="hot-cold", hot=hot, cache=str(folder / "known")).resolve(_KEY, attempt=1)


class OursOnDisk(OursWarm):
    """The same with the folder no longer in the page cache: it was filled yesterday."""

    name = "hot-cold, NodeCache, warm, page cache dropped"
    settings = "as hot-cold, NodeCache, warm, its folder dropped from the page cache"

    def begin(self) -> None:
        super().begin()
        drop_folder(self.folder or Path(), written=True)


class Arrow(Columns):
    """pyarrow as it asks the least: the file opened once."""

    name = "pyarrow ParquetFile, pre_buffer"
    settings = "ParquetFile(S3FileSystem.open_input_file(path), pre_buffer=True).read(columns), 64 I/O threads"

    def begin(self) -> None:
        self.filesystem = self.door.arrow()
        self.path = f"{self.door.bucket}/{_OBJECT}"
        self.filesystem.get_file_info(self.path)

    def read(self) -> Any:
        import pyarrow.parquet

        with self.filesystem.open_input_file(self.path) as file:
            return pyarrow.parquet.ParquetFile(file, pre_buffer=True).read(list(_WANTED))


class ArrowTable(Arrow):
    """pyarrow as most use it."""

    name = "pyarrow read_table, pre_buffer"
    settings = "pyarrow.parquet.read_table(path, filesystem=S3FileSystem, columns, pre_buffer=True), 64 I/O threads"

    def read(self) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.read_table(self.path, filesystem=self.filesystem, columns=list(_WANTED), pre_buffer=True)


class S3fs(Columns):
    """pyarrow over s3fs."""

    name = "s3fs"
    settings = f"pyarrow.parquet.read_table over s3fs, blocks of 16 MiB, cache 'none', 8 in flight, pool {POOL}"

    def begin(self) -> None:
        self.s3 = self.door.s3fs()
        self.s3.default_cache_type = "none"
        self.path = f"{self.door.bucket}/{_OBJECT}"
        self.s3.info(self.path)

    def read(self) -> Any:
        import pyarrow.parquet

        with self.filesystem().open(self.path, "rb") as file:
            return pyarrow.parquet.ParquetFile(file, pre_buffer=True).read(list(_WANTED))

    def filesystem(self) -> Any:
        """Return what opens the file."""
        return self.s3


class FsspecFile(S3fs):
    """fsspec's cache of whole files."""

    name = "fsspec filecache"
    settings = "filecache over s3fs, parts of 16 MiB, 8 in flight, then ParquetFile"

    def filesystem(self) -> Any:
        from fsspec.implementations.cached import WholeFileCacheFileSystem

        return WholeFileCacheFileSystem(fs=self.s3, cache_storage=str(self.folder), skip_instance_cache=True)


class FsspecBlocks(S3fs):
    """fsspec's cache of blocks, which downloads those that hold the columns."""

    name = "fsspec blockcache"
    settings = "blockcache of blocks of 5 MiB (its default) over s3fs, then ParquetFile"

    def filesystem(self) -> Any:
        from fsspec.implementations.cached import CachingFileSystem

        # Seen with fsspec 2026.9: files are left for the collector to close.
        warnings.simplefilter("ignore", ResourceWarning)
        self.s3.default_block_size = 5 << 20
        return CachingFileSystem(fs=self.s3, cache_storage=str(self.folder), skip_instance_cache=True)


class Poc(Columns):
    """The POC: the file is downloaded, then read."""

    name = "s3-poc, serial"
    settings = f"{SERIAL}, then pyarrow.parquet.read_table(file, columns, memory_map=True)"
    parallel = False

    def begin(self) -> None:
        self.transfer = Transfer(self.door, parallel=self.parallel)
        self.transfer.warm_up(_OBJECT)

    def read(self) -> Any:
        import pyarrow.parquet

        copy = (self.folder or Path()) / _FILE
        self.transfer.download(_OBJECT, copy)
        return pyarrow.parquet.read_table(copy, columns=list(_WANTED), memory_map=True)


class PocTransfer(Poc):
    """The POC, as parallel as boto3 makes it."""

    name = "s3-poc, TransferManager"
    settings = f"{PARALLEL}, then as the serial one"
    parallel = True


_OURS: tuple[type[Columns], ...] = (Ours, OursWarm)
_BESIDE: tuple[type[Columns], ...] = (OursDataset, OursOnDisk)
_POCS: tuple[type[Columns], ...] = (Poc, PocTransfer)
_ARROW: tuple[type[Columns], ...] = (Arrow, ArrowTable)
_MORE: tuple[type[Columns], ...] = (S3fs, FsspecFile, FsspecBlocks)


class WideTable(Workload):
    """Few columns of many."""

    name = "p2"
    row = "P2"
    measures = "3 of 1,000 columns of a Parquet file of 1 GiB, before an emulated S3 (quick: 256 MiB)"
    limits = STD
    counted_apart = False

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=11, bench=3, quick=1, tiny=1)

    def prepare(self, door: Door) -> None:
        self.size = self.scale.pick(full=1 << 30, bench=1 << 30, quick=256 << 20, tiny=1 << 20)
        self.length = _publish(door, self.size, width=_WIDTH)

    def contenders(self) -> Sequence[Contender]:
        everything = (*_OURS, *_BESIDE, *_POCS, *_ARROW, *_MORE)
        kinds: tuple[type[Columns], ...] = self.scale.pick(
            full=everything,
            bench=(*_OURS, *_BESIDE, *_POCS, *_ARROW),
            quick=(*_OURS, *_POCS, *_ARROW),
            tiny=everything,
        )
        return [kind() for kind in kinds]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        ours, warm = (timings[kind.name] for kind in (Ours, OursWarm))
        best = fastest(timings, [kind.name for kind in _ARROW])
        poc = [timings[kind.name] for kind in _POCS]

        def speed(
            mine: Timing, rival: Timing, at_least: float | None = None, *, ceiling: str = "", note: str = ""
        ) -> Figure:
            cold = ", cold" if mine is not warm and rival is best else ""
            name = f"{mine.name}{cold}: speed against {rival.name}"
            return speed_figure(name, mine, rival, at_least=at_least, ceiling=ceiling, note=note)

        note = self._note(ours)
        return [
            *(speed(ours, one, 25, ceiling="~40" if one is poc[1] else "", note=note) for one in poc),
            Figure(
                name=f"{ours.name}: bytes of the POC over ours",
                value=same(poc[0].bytes_down / ours.bytes_down),
                unit="×",
                at_least=100,
                ceiling=f"{_WIDTH / len(_WANTED):.0f}",
            ),
            speed(ours, best, 1.5),
            speed(warm, best, 10),
            *(speed(timings[kind.name], best) for kind in _BESIDE if kind.name in timings),
            *(speed(ours, timings[kind.name]) for kind in _MORE if kind.name in timings),
            *(
                Figure(
                    name=f"{one.name}: requests",
                    value=same(one.request_count),
                    unit="requests",
                    at_most=0 if one is warm else None,
                )
                for one in (warm, ours, best)
            ),
            Figure(
                name=f"{ours.name}: CPU seconds against {best.name}",
                value=paired(ours, best, lambda mine, theirs: mine.cpu / theirs.cpu),
                unit="×",
            ),
        ]

    def _note(self, ours: Timing) -> str:
        line = self.length / STD.total
        return (
            f"the whole file takes {line:.1f} s at {STD.total / 1e6:g} MB/s, a 25th of it is {line / 25 * 1e3:.0f} ms. Ours are three waits, one "
            f"after the other: resolve, footer, the slowest of {ours.request_count - 2:.0f} column chunks at once. First bytes are lognormal, p50 "
            f"{STD.first_byte * 1e3:g} ms and p99 {STD.first_byte_p99 * 1e3:g} ms, so the slowest of many is far above the median for which the "
            "ceiling stands. Next step: hedge such reads; a larger file shows more"
        )


def _publish(door: Door, size: int, *, width: int) -> int:
    """Publish the table and return the file's length."""
    import numpy
    import pyarrow
    import pyarrow.parquet

    group = min(size, 128 << 20)
    rows = group // (8 * width)
    names = [f"c{number}" for number in range(width)]
    schema = pyarrow.schema([(name, pyarrow.float64()) for name in names])
    numbers = numpy.random.default_rng(0)
    with (
        door.layer().publish(_KEY) as attempt,
        attempt.output().open(_FILE) as file,
        pyarrow.parquet.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer,
    ):
        for _ in range(max(1, size // group)):
            data = numbers.random((width, rows))
            writer.write_table(pyarrow.table([pyarrow.array(column) for column in data], schema=schema), rows)
    return door.layer().resolve(_KEY)["default"].entry(_FILE).length
