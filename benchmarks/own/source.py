"""``Source``: the user's own data, wherever they lie: found, measured from here, and read. Nothing is ever written to where they are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from benchmarks.front import STD, Limits
from datalayer import Config, ConfigError, DataLayer, Location, NotFoundError, Tier
from datalayer.addresses.layout import holds_data
from datalayer.cli.addresses import pick_output, resolve
from datalayer.config import TierConfig
from datalayer.stores.base import Store
from datalayer.stores.opening import open_root

PARQUET = ".parquet"
_TRIES = 9
_PIECE = 8 << 20
_AT_ONCE = 8
_ENOUGH = 32 << 20


class File(NamedTuple):
    """One file of the user's."""

    path: str
    """Below the store's root."""
    size: int


class Piece(NamedTuple):
    """What of one file is in the sample."""

    file: File
    length: int
    """Its first so many bytes."""


@dataclass
class Source:
    """Some files of one store."""

    uri: str
    store: Store
    files: list[File]
    limits: Limits = field(default=STD)
    """How slow an S3 the designs are to be tried on: as this source was measured to be, else as the suite's."""
    measured: bool = False
    """Whether the limits are this source's own."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def sample(self, size: int, count: int, *, whole: bool) -> list[Piece]:
        """Return at most ``count`` files, spread evenly, and of about ``size`` bytes at most.

        Args:
            size: Bytes.
            count: Files.
            whole: Whether half a file is of no use, as half a Parquet file is not.

        Raises:
            ConfigError: Not one file is small enough.
        """
        fitting = [file for file in self.files if file.size <= size]
        if not fitting:
            smallest = min(self.files, key=lambda file: file.size)
            if whole:
                need = -(-smallest.size // 1_000_000)
                raise ConfigError(
                    f"--sample: the smallest file has {need} MB, and part of a Parquet file is none: --sample {need}MB"
                )
            return [Piece(smallest, size)]
        # Large ones would never be in a sample of the small ones.
        step = max(len(fitting) / count, sum(file.size for file in fitting) / size, 1.0)
        picked = [fitting[int(at * step)] for at in range(max(1, int(len(fitting) / step)))]
        taken, left = [], size
        for file in picked:
            if file.size <= left:
                taken.append(Piece(file, file.size))
                left -= file.size
        return taken

    def read(self, piece: Piece) -> Iterator[bytes]:
        """Yield a piece's bytes."""
        return self.store.stream_range(piece.file.path, 0, piece.length)

    def probe(self) -> None:
        """Find out how far away an S3 is, by a few reads: its first byte, one connection, and some at once."""
        if self.store.original.root.scheme != "s3":
            return
        largest = max(self.files, key=lambda file: file.size)
        if not largest.size:
            return
        waits = [self._seconds(largest, 0, 1) for _ in range(_TRIES)]
        # The first has also opened the connection.
        wait = statistics.median(waits[1:])
        length = min(largest.size, _PIECE)
        one = length / max(self._seconds(largest, 0, length) - wait, 1e-4)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            began = time.perf_counter()
            list(
                pool.map(
                    lambda at: self._seconds(largest, at % max(1, largest.size - length), length),
                    range(0, _AT_ONCE * _PIECE, _PIECE),
                )
            )
            total = _AT_ONCE * length / max(time.perf_counter() - began - wait, 1e-4)
        if length * _AT_ONCE < _ENOUGH:
            # Small files say little of bandwidth.
            one, total = max(one, STD.connection), max(total, STD.total)
        self.limits = _as_far(wait, one, max(one, total))
        self.measured = True

    def _seconds(self, file: File, start: int, length: int) -> float:
        began = time.perf_counter()
        self.store.get_range(file.path, start, length)
        return time.perf_counter() - began


def _as_far(first_byte: float, connection: float, total: float) -> Limits:
    """Return the limits of an S3 whose other waits stand to its first byte as those of the suite's S3 do."""
    far = float(f"{first_byte / STD.first_byte:.2g}")
    connection, total = (float(f"{rate:.2g}") for rate in (connection, total))
    waits = ("first_byte", "first_byte_p99", "put", "put_p99", "list", "list_p99")
    return replace(STD, connection=connection, total=total, **{name: getattr(STD, name) * far for name in waits})


def find(uri: str, *, connection: str | None = None, columns: bool = False) -> Source:
    """Return the data under a folder, an ``s3://`` URI or a task's address. They are listed, or their manifest is read; no more.

    Args:
        uri: ``/data/flights``, ``s3://bucket/prefix``, ``s3://bucket/one.parquet``, ``task://team/dag/task/run/output`` or ``team/dag/task@run``.
        connection: The name of a configured connection to S3; by default that of the configured tier or reference that the URI lies
            in, else what the AWS environment says.
        columns: Whether columns will be read: then only Parquet files count.

    Raises:
        ConfigError: Nothing is there that could be read.
        DataLayerError: The store failed, or does not let us in.
    """
    task = uri.startswith("task://") or ("@" in uri and "://" not in uri and not uri.startswith(("/", ".", "~")))
    source = _task(uri) if task else _place(uri, connection)
    if columns:
        source.files = [file for file in source.files if file.path.endswith(PARQUET)]
    source.files = [file for file in source.files if holds_data(file.path) and file.size]
    source.files.sort()
    if not source.files:
        kind = "Parquet file, and --columns asks for columns of some" if columns else "file with data in it"
        raise ConfigError(f"--input {uri}: there is no {kind}")
    return source


def _task(uri: str) -> Source:
    layer = DataLayer.from_env()
    resolution, asked = resolve(layer, uri)
    output = pick_output(resolution, asked, None).original()
    store = None
    files = []
    for name, entry in output.files.items():
        if entry.offset or entry.object is not None:
            raise ConfigError(
                f"--input {uri}: {name} lies in a larger object; give a task whose files are objects of their own"
            )
        store, path = output.store_path(name)
        files.append(File(path, entry.length))
    return Source(uri, store or layer.data, files)


def _place(uri: str, connection: str | None) -> Source:
    config = Config.load()
    if connection is not None and connection not in config.connections:
        known = ", ".join(config.connections) or "none"
        raise ConfigError(f"--connection: no connection named {connection!r} is configured; there are {known}")
    name = connection or _connection(config, uri)
    if "://" in uri and not uri.startswith(("s3://", "file://")):
        raise ConfigError(f"--input {uri}: write a folder, an s3:// URI or a task's address")
    settings = TierConfig(url=uri.rstrip("/") if "://" in uri else _folder(uri), connection=name)
    tier = Tier.COLD if uri.startswith("s3://") else Tier.SHARED
    store = open_root(config, settings, tier, "--input")
    folder, _, last = settings.url.rpartition("/")
    if tier is Tier.SHARED and _is_file(settings.url):
        store = open_root(config, TierConfig(url=folder or "/"), tier, "--input")
        return Source(uri, store, [File(last, store.head(last).size)])
    files = [File(info.path, info.size) for info in store.list("")]
    if not files and tier is Tier.COLD and folder.count("/") >= 2:
        # One object: its bucket and folder are the root.
        store = open_root(config, TierConfig(url=folder, connection=name), tier, "--input")
        try:
            files = [File(last, store.head(last).size)]
        except NotFoundError:
            files = []
    return Source(uri, store, files)


def _connection(config: Config, uri: str) -> str | None:
    """Return the name of the connection that leads to a URI, by what is configured for its bucket."""
    if not uri.startswith("s3://"):
        return None
    bucket = Location.parse(uri).authority
    places = [(tier.url, tier.connection) for tier in config.tiers.values()]
    places += [(reference.prefix, reference.connection) for reference in config.references]
    return next(
        (name for url, name in places if url.startswith("s3://") and Location.parse(url).authority == bucket), None
    )


def _folder(text: str) -> str:
    from pathlib import Path

    return str(Path(text).expanduser().resolve())


def _is_file(url: str) -> bool:
    from pathlib import Path

    return Path(url.removeprefix("file://")).is_file()
