"""``OutputWriter``: stages the files of one output under its attempt's folder, and knows what landed there."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, TextIO, cast, overload

from datalayer.addresses import layout
from datalayer.commit.files import OutputFile, TextOutputFile
from datalayer.commit.manifest import PACKS, Entry, Field
from datalayer.commit.packs import SMALL_BYTES, PackedWriter, Packs
from datalayer.commit.settling import settle_files
from datalayer.errors import DataLayerError, InvalidKeyError, NotSupportedError, PublishError, VerificationError
from datalayer.stores.budget import ByteBudget, run_all
from datalayer.stores.checksum import Crc32c

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pyarrow

    from datalayer.addresses.keys import TaskKey
    from datalayer.addresses.location import Location
    from datalayer.stores.base import ObjectInfo, Store, StoreWriter

SUCCESS = "_SUCCESS"
"""What a job of Hadoop's or Spark's leaves in the folder that it wrote, last of all."""

_ENGINE_PART = "part-"

# Uploads of a tree: enough requests at once to hide latency. A writer to S3 holds up to 80 MiB, so one large file goes at a time, with small
# ones beside it, and the whole stays well below 256 MiB.
_PARALLEL_UPLOADS = 8
_LARGE_FILE_BYTES = 88 << 20
_BYTES_IN_FLIGHT = 128 << 20
_CHUNK_BYTES = 4 << 20


class Journal(Protocol):
    """Told of what a job stages, so that another process can commit it without listing."""

    def wrote(self, output: str, entry: Entry) -> None:
        """A file is closed and whole."""

    def opened(self, output: str) -> None:
        """The output's folder was handed to an engine or a program; only a listing will know what landed."""

    def packed(self, output: str, pack: Entry, files: list[Entry]) -> None:
        """A pack is closed and whole, and so are the files in it."""


class OutputWriter:
    """One named output of an attempt, being written.

    Args:
        store: Where it is written.
        key: The task.
        attempt: The attempt's number.
        name: The output's name.
        journal: Told of what is staged.
        packed: Whether small files are laid together into packs.
    """

    def __init__(
        self,
        store: Store,
        key: TaskKey,
        attempt: int,
        name: str,
        journal: Journal | None = None,
        *,
        packed: bool = False,
    ) -> None:
        self._store = store
        self._key = key
        self._attempt = attempt
        self._journal = journal
        self._folder = layout.output_path(key, attempt, name)
        self._entries: dict[str, Entry] = {}
        self._unfinished: set[str] = set()
        self._sealed = ""
        self._lock = threading.Lock()
        self._list_with: Literal["checksums", "lengths"] | None = None
        self._by_engine = False
        self._packing: Packs | None = None
        self._closed_packs: list[Entry] = []
        self.packed = packed
        """Whether small files are laid together into packs."""
        self.name = name
        self.rows: int | None = None
        """Row count for the manifest, where the writer knows it."""
        self.schema: list[Field] | None = None
        """Columns for the manifest, where the writer knows them."""

    @overload
    def open(self, name: str, mode: Literal["wb"] = "wb") -> BinaryIO: ...
    @overload
    def open(self, name: str, mode: Literal["w"]) -> TextIO: ...
    def open(self, name: str, mode: str = "wb") -> BinaryIO | TextIO:
        """Return a new file of this output, open for writing: binary (``wb``), or UTF-8 text (``w``).

        The file counts once it is closed. Leaving its ``with`` block by an exception drops it.

        Raises:
            InvalidKeyError: The name cannot be a file's.
            PublishError: The attempt has ended, or this file is open already.
            ValueError: The mode is another one.
        """
        if mode not in {"wb", "w"}:
            raise ValueError(f"mode {mode!r}: an output's files are written once, with 'wb' or 'w'")
        path = self._begin(name)
        try:
            file = OutputFile(self._writer(name, path), name, self._finished)
        except BaseException:  # also what was interrupted is not being written any more
            self._unfinished.discard(name)
            raise
        return cast("TextIO", TextOutputFile(file)) if mode == "w" else cast("BinaryIO", file)

    def put(self, name: str, data: bytes) -> None:
        """Write one small file whole, in one request; of a packed output, at the end of the pack that is being written.

        Raises:
            InvalidKeyError: The name cannot be a file's.
            PublishError: The attempt has ended, or this file is being written already.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"file {name!r} takes bytes, not {type(data).__name__}: use open(name, 'w') for text")
        path = self._begin(name)
        data = bytes(data)
        try:
            if self.packed and len(data) <= SMALL_BYTES:
                self._begins_in_pack(name)
                self._packs.add(name, data)
                return
            info = self._store.put(path, data)
            crc = Crc32c()
            crc.update(data)
            self._record(name, crc, info)
        finally:
            self._unfinished.discard(name)

    def _begins_in_pack(self, name: str) -> None:
        """A file is about to be added to a pack, and has landed only when the pack is closed."""

    def write_table(self, table: pyarrow.Table, name: str = "part-0.parquet") -> None:
        """Write an Arrow table as one Parquet file, and note its columns and rows for the manifest."""
        import pyarrow.parquet

        with self.open(name, "wb") as file:
            # Whoever reads pages by themselves, past this library, has nothing else to verify them by.
            pyarrow.parquet.write_table(table, file, write_page_checksum=True)
        self.schema = [Field(field.name, str(field.type)) for field in table.schema]
        self.rows = (self.rows or 0) + table.num_rows

    def put_folder(self, folder: Path) -> None:
        """Upload a local folder's files under their relative names, several at once, in bounded memory.

        Raises:
            VerificationError: The folder cannot be read, changes meanwhile, or holds a symbolic link, a device or a pipe: only what is
                inside it can be committed.
            InvalidKeyError: A file's name cannot be an output file's.
        """
        budget = ByteBudget(_BYTES_IN_FLIGHT)

        def upload(name: str) -> None:
            source = folder / name
            with self._reading(source):
                size = source.lstat().st_size
                with budget.share(size if size <= _CHUNK_BYTES else _LARGE_FILE_BYTES):
                    self._upload(source, name, budget)

        names = sorted(regular_files(folder))
        run_all(upload, names, budget=budget, workers=_PARALLEL_UPLOADS, name="datalayer-upload")

    @property
    def location(self) -> Location:
        """Where this output is staged."""
        return self._store.location(self._folder)

    @property
    def spark_uri(self) -> str:
        """The folder as a URI that Spark writes to in place. What it leaves there is listed at the commit.

        Raises:
            NotSupportedError: Spark has no way to this tier, or the output is packed.
        """
        self._refuse_if_packed("Spark")
        uri = self._store.spark_uri(self._folder)
        self.adopt_folder(checksums=False)
        return uri

    @property
    def path(self) -> Path | None:
        """The folder on this machine, made, for programs that write files; None where the tier is not mounted, or the output is packed.

        What lies there at the commit is listed, checksummed and made durable.
        """
        path = None if self.packed else self._store.local_path(self._folder)
        if path is not None:
            self.adopt_folder(checksums=True)
            path.mkdir(parents=True, exist_ok=True)
        return path

    def adopt(self, entries: Iterable[Entry]) -> None:
        """Take in files that another process of this attempt wrote and closed."""
        self._entries |= {entry.name: entry for entry in entries}

    def adopt_packs(self, packs: Iterable[Entry]) -> None:
        """Take in packs that another process of this attempt wrote and closed."""
        self._closed_packs += packs

    def adopt_folder(self, *, checksums: bool) -> None:
        """Have the folder listed at the commit, whoever wrote there, and on a mounted tier its files checksummed or not.

        Raises:
            NotSupportedError: The output is packed.
        """
        self._refuse_if_sealed()
        self._refuse_if_packed("a program that writes into its folder")
        if self._journal:
            self._journal.opened(self.name)
        if self._list_with != "checksums":
            self._list_with = "checksums" if checksums else "lengths"

    def adopt_engine_folder(self) -> None:
        """Have the folder listed at the commit, and taken in what a Spark job of any language wrote there by its URI.

        Its markers, its unfinished and its hidden files are left out. Its data counts only with the ``_SUCCESS`` of the job that wrote it.
        """
        self.adopt_folder(checksums=False)
        self._by_engine = True

    def seal(self, reason: str) -> None:
        """Refuse every write from now on: what a reader may see never changes. An empty reason takes that back."""
        with self._lock:
            self._sealed = reason

    def finish(self) -> list[Entry]:
        """Return the entries of everything that landed, verified.

        Raises:
            PublishError: A file is still open.
            VerificationError: No file was written, or what lies there is not what was written.
        """
        if self._unfinished:
            raise self._error(
                PublishError,
                f"file {min(self._unfinished)!r} was opened and never closed: close it, or use 'with'",
            )
        if self._packing is not None:
            self._packing.flush()
        if self._list_with:
            self._list(checksums=self._list_with == "checksums")
        if not self._entries:
            raise self._error(
                VerificationError,
                "no file was written. Zero rows are fine, but a declared output needs at least one file",
            )
        # Files of a pack in the order in which they lie there: who reads them in the manifest's order reads on.
        entries = sorted(self._entries.values(), key=lambda entry: (entry.object or "", entry.offset, entry.name))
        folders = {name[:index] for name in self._entries for index in _slashes(name)}
        if clash := sorted(folders & self._entries.keys()):
            raise self._error(
                VerificationError, f"{clash[0]!r} is both a file and a folder, which a volume cannot hold"
            )
        return entries

    @property
    def packs(self) -> list[Entry] | None:
        """The packs that hold files of :meth:`finish`; None where there are none."""
        used = {entry.object for entry in self._entries.values() if entry.object is not None}
        found = sorted((pack for pack in self._closed_packs if pack.name in used), key=lambda pack: pack.name)
        return found or None

    def flush(self) -> None:
        """Close the pack that is being written, so that all files that were closed have landed."""
        if self._packing is not None:
            self._packing.flush()

    def drop(self) -> None:
        """Drop the pack that is being written: the attempt is given up."""
        if self._packing is not None:
            self._packing.discard()

    @property
    def tier(self) -> str:
        """The tier the bytes are written to."""
        return self._store.tier.value

    def _begin(self, name: str) -> str:
        """Return the path of a file that is written from now on: nobody else writes it, and nothing is committed meanwhile."""
        path = layout.check_object_path(f"{self._folder}/{layout.check_file_name(name)}")
        if self.packed and name.partition("/")[0] == PACKS:
            raise InvalidKeyError(f"file name {name!r}: a packed output keeps its packs in {PACKS}/; take another name")
        with self._lock:
            self._refuse_if_sealed()
            if name in self._unfinished:
                raise self._error(PublishError, f"file {name!r} is being written already: close it first")
            self._unfinished.add(name)
        return path

    @property
    def _packs(self) -> Packs:
        with self._lock:
            if self._packing is None:
                self._packing = Packs(self._store, self._folder, self._pack_landed)
            return self._packing

    def _writer(self, name: str, path: str) -> StoreWriter:
        if self.packed:
            return PackedWriter(self._packs, name, lambda: self._store.writer(path))
        return self._store.writer(path)

    def _pack_landed(self, pack: Entry, files: list[Entry]) -> None:
        self._closed_packs.append(pack)
        self._entries |= {entry.name: entry for entry in files}
        if self._journal:
            self._journal.packed(self.name, pack, files)

    def _refuse_if_packed(self, who: str) -> None:
        if self.packed:
            raise NotSupportedError(
                f"output {self.name!r} of {self._key} is packed, which {who} cannot write: write it with put(), open() or put_folder(), or "
                "leave packed out",
                tier=self._store.tier.value,
                location=str(self.location),
            )

    def _refuse_if_sealed(self) -> None:
        if self._sealed:
            raise self._error(
                PublishError, f"{self._sealed}, so nothing is written to it any more. Publish again for a new attempt"
            )

    def _finished(self, file: OutputFile, info: ObjectInfo | None) -> None:
        self._unfinished.discard(file.name)
        # A file of a pack is recorded with its pack.
        if info is not None and not file.packed:
            self._record(file.name, file.crc, info)

    def _record(self, name: str, crc: Crc32c, info: ObjectInfo) -> None:
        if info.size != crc.length:
            raise self._error(VerificationError, f"{crc.length} bytes of {name!r} were written and {info.size} landed")
        if self._packing is not None:
            self._packing.forget(name)
        entry = Entry(name, crc.length, crc.text(), crc.blocks())
        self._entries[name] = entry
        if self._journal:
            self._journal.wrote(self.name, entry)

    def _upload(self, source: Path, name: str, budget: ByteBudget) -> None:
        # The path is opened without following a link: a job must not have its neighbour's secrets committed by swapping a file for a link.
        # Nor is a pipe in its place waited for.
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with io.FileIO(descriptor) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._changed(source)
            if status.st_size <= _CHUNK_BYTES:
                data = file.read(status.st_size + 1)
                if len(data) != status.st_size:
                    raise self._changed(source)
                self.put(name, data)
                return
            with self.open(name, "wb") as target:
                while chunk := file.read(_CHUNK_BYTES):
                    budget.check()
                    target.write(chunk)
                if target.tell() != status.st_size:
                    raise self._changed(source)

    def _changed(self, path: object) -> PublishError:
        return self._error(
            VerificationError, f"{str(path)!r} changed while it was being read: something still writes there"
        )

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, DataLayerError):
                raise
            raise self._error(
                VerificationError,
                f"{path} cannot be read: {error.strerror}. Check its rights, and that nothing changes there meanwhile",
            ) from error

    def _list(self, *, checksums: bool) -> None:
        mounted = self._store.local_path(self._folder)
        if mounted is not None and mounted.is_dir():
            # A store lists no links: a program that left one would lose that file without a word.
            for _ in regular_files(mounted):
                pass
        landed = {info.path.removeprefix(f"{self._folder}/"): info for info in self._store.list(self._folder)}
        for name, entry in self._entries.items():
            if name not in landed or landed[name].size != entry.length:
                raise self._error(VerificationError, f"{name!r} was written and is gone or changed")
        strangers = sorted(landed.keys() - self._entries.keys())
        if self._by_engine:
            self._check_success(strangers)
            strangers = [name for name in strangers if layout.holds_data(name)]
        local = {name: self._store.local_path(landed[name].path) for name in strangers}
        sizes = {path: landed[layout.check_file_name(name)].size for name, path in local.items() if path is not None}
        sums = settle_files(sizes, checksums=checksums)
        for name, path in local.items():
            checksum = None if path is None else sums[path]
            self._entries[name] = Entry(layout.check_file_name(name), landed[name].size, checksum)

    def _check_success(self, names: list[str]) -> None:
        """Make sure that every part lies below the folder of a job that ended well."""
        whole = {name.removesuffix(SUCCESS) for name in names if f"/{name}".endswith(f"/{SUCCESS}")}
        for name in names:
            if not name.rpartition("/")[2].startswith(_ENGINE_PART) or not layout.holds_data(name):
                continue
            if not any(folder in whole for folder in ("", *(name[: at + 1] for at in _slashes(name)))):
                raise self._error(
                    VerificationError,
                    f"Spark wrote {name!r} and left no {SUCCESS} beside or above it, so parts may be missing. Wait for the write to end, and leave "
                    "mapreduce.fileoutputcommitter.marksuccessfuljobs as it is",
                )

    def _error(self, kind: type[PublishError], reason: str) -> PublishError:
        return kind(
            f"output {self.name!r} of {self._key}, attempt {self._attempt}: {reason}",
            key=str(self._key),
            attempt=self._attempt,
        )


def regular_files(folder: Path) -> Iterator[str]:
    """Yield the relative names of a folder's files, at any depth.

    Raises:
        VerificationError: Something there is neither a file nor a folder, or a folder cannot be read.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            with os.scandir(folder / prefix) as found:
                items = list(found)
        except OSError as error:
            raise VerificationError(
                f"the folder {str(folder / prefix)[:200]} cannot be read: {error.strerror}. Give an existing folder that this process may read"
            ) from error
        for item in items:
            name = f"{prefix}{item.name}"
            if item.is_dir(follow_symlinks=False):
                pending.append(f"{name}/")
            elif item.is_file(follow_symlinks=False):
                yield name
            else:
                raise VerificationError(
                    f"{folder / name} is a symbolic link or a special file: only regular files can be committed. Copy its content into the output"
                )


def _slashes(name: str) -> Iterator[int]:
    index = name.find("/")
    while index >= 0:
        yield index
        index = name.find("/", index + 1)
