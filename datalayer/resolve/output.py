"""``ResolvedOutput``: one committed output, to read in place."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, cast

from datalayer.addresses import layout
from datalayer.addresses.location import Location
from datalayer.commit.index import decode_index
from datalayer.commit.manifest import REFERENCE, Entry, Manifest, Output
from datalayer.errors import NotFoundError, NotSupportedError, VerificationError
from datalayer.resolve.serving import Miss, Served
from datalayer.stores.base import Expected, Tier
from datalayer.stores.checksum import BLOCK, Crc32c, crc32c, parse_blocks, parse_checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import fsspec
    import pyarrow.dataset

    from datalayer.addresses.keys import OutputKey
    from datalayer.resolve.columnar import Footers
    from datalayer.resolve.resolution import Resolution
    from datalayer.stores.base import Store

# Up to here a file is read by one request; above, in chunks that arrive side by side.
_ONE_REQUEST = 8 << 20
_SMALL = 256 << 10
# A file of a pack up to here is read whole when it is opened.
_PACKED_AT_ONCE = 1 << 20
_BATCH = 4
# Of 64 KB, 250 MB/s are 3,900 files a second, and S3 answers each in 43 ms on average: 165 have to be in flight to fill the line.
_MANY_AT_ONCE = 192
_SOME_AT_ONCE = 32
_AHEAD = 8
_READ_AHEAD = 64 << 20


class ResolvedOutput:
    """One committed output, ready to be read in place."""

    def __init__(
        self,
        resolution: Resolution,
        key: OutputKey,
        output: Output,
        served: Served,
        home: Store,
        filesystem: Callable[[], fsspec.AbstractFileSystem],
    ) -> None:
        self.resolution = resolution
        self.key = key
        self.output = output
        """What the manifest says of it: counts, bytes, schema."""
        self._served = served._replace(store=served.store.verifying(self.expected))
        self._home = home
        self._make_filesystem = filesystem
        self._entries: dict[str, Entry] | None = None
        self._footers: Footers | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest of the attempt that this output belongs to."""
        return self.resolution.manifest

    @property
    def tier(self) -> Tier:
        """The tier that serves it."""
        return self._served.store.tier

    @property
    def misses(self) -> tuple[Miss, ...]:
        """Why each faster tier was passed over; empty if the fastest one serves."""
        return self._served.misses

    @property
    def uri(self) -> str:
        """The ``task://`` address, pinned to this attempt: for pandas, Polars, DuckDB, pyarrow and everything else that takes fsspec URLs."""
        return f"task:/{self.resolution.key}@{self.resolution.attempt}/{self.key.name}"

    @property
    def location(self) -> Location:
        """The folder's location on the tier that serves it."""
        return self._served.store.location(self._served.folder)

    @property
    def spark_uri(self) -> str:
        """The folder as a URI that Spark reads in place.

        Raises:
            NotSupportedError: Spark has no way to this tier, or the output is packed.
        """
        self.refuse_packed("Spark")
        return self._served.store.spark_uri(self._served.folder)

    def spark_uris(self) -> list[str]:
        """Return the URI of every file that holds data, for engines that take a list. Raises as :attr:`spark_uri` does."""
        self.refuse_packed("Spark")
        return [self._served.store.spark_uri(self._path(entry)) for entry in self.data_files()]

    @property
    def path(self) -> Path | None:
        """The folder on this machine; None where the tier is not mounted, does not have all files of the output whole, or has them in packs."""
        if self.packed:
            return None
        return self._served.store.local_folder(self._served.folder, lambda: map(self._path, self.files.values()))

    @property
    def paths_last(self) -> bool:
        """Whether paths on this machine stay as long as the output is committed. A cache takes its own back to make room."""
        return self._served.store.paths_last

    def local_path(self, name: str) -> Path | None:
        """Return where one file lies on this machine; None where the tier is not mounted, does not have the file whole, or has it in a pack.

        Raises:
            NotFoundError: The output has no such file.
        """
        entry = self.entry(name)
        return None if self.is_packed(entry) else self._served.store.local_path(self._path(entry))

    @property
    def packed(self) -> bool:
        """Whether small files of it lie together in packs: then it is read through this library, not by other engines."""
        return bool(self.output.packs)

    def refuse_packed(self, who: str) -> None:
        """Make sure that each file is an object of its own, as others than this library have to find it.

        Raises:
            NotSupportedError: Files lie in packs.
        """
        if self.packed:
            raise NotSupportedError(
                f"{self.key} is packed: {len(self.output.packs or ())} objects hold its small files, which {who} cannot tell apart. Read it with "
                "read_many(), open() or dataset(), copy it out with 'datalayer get', or publish it without packed",
                tier=self.tier.value,
                location=str(self.location),
            )

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """The ``task://`` file system of this layer: ``pandas.read_parquet(output.uri, filesystem=output.filesystem)``."""
        return self._make_filesystem()

    @property
    def files(self) -> dict[str, Entry]:
        """The files by name. Read from the index, in one request, where there are more than the manifest holds.

        Raises:
            VerificationError: The index is not the one that was committed.
        """
        if self._entries is None:
            entries = self.output.entries if self.output.entries is not None else self._read_index()
            self._entries = {entry.name: entry for entry in entries}
        return self._entries

    def data_files(self) -> list[Entry]:
        """Return the entries that hold data: as in Hadoop and Arrow, a name or folder that begins with ``_`` or ``.`` is none."""
        return [entry for name, entry in self.files.items() if layout.holds_data(name)]

    def entry(self, name: str) -> Entry:
        """Return one file's entry.

        Raises:
            NotFoundError: The output has no such file.
        """
        try:
            return self.files[name]
        except KeyError:
            names = sorted(self.files)
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise NotFoundError(
                f"{self.key} has no file {name!r}; it has {', '.join(names[:5])}{more}",
                tier=self.tier.value,
                location=str(self.location),
            ) from None

    def open(self, name: str) -> BinaryIO:
        """Return a seekable, read-only file.

        Raises:
            NotFoundError: The output has no such file, or its bytes are gone from the tier.
            VerificationError: The object there has another length than the one committed, or is no longer the one a reference is pinned to.
        """
        entry = self.entry(name)
        self._check_pinned(entry)
        if self.is_packed(entry):
            if entry.length <= _PACKED_AT_ONCE:
                # One request, and verified besides.
                whole = io.BytesIO(self.read_bytes(name))
                return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", whole)))
            from datalayer.stores.ranges import RangeFile

            file = RangeFile(self._served.store, self._path(entry), entry.offset, entry.length)
            return cast("BinaryIO", io.BufferedReader(file))
        # A reference is a whole object. Opened by its store, it stays on the version that was just looked at.
        opened = self._served.store.open(self._path(entry))
        try:
            self.check_length(entry, opened.seek(0, io.SEEK_END))
        except VerificationError:
            opened.close()
            raise
        opened.seek(0)
        return opened

    def stream(self, name: str, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        """Yield a file's bytes in order, verified: the last chunk comes only after length and checksum were found right.

        Raises:
            NotFoundError: The output has no such file, or its bytes are gone.
            VerificationError: The bytes are not the ones that were committed.
        """
        entry = self.entry(name)
        self._check_pinned(entry)
        if self._comes_verified(entry):
            yield from self._chunks(entry, chunk_size)
            return
        crc = Crc32c()
        held: bytes | None = None
        for chunk in self._chunks(entry, chunk_size):
            crc.update(chunk)
            if held is not None:
                yield held
            held = chunk
        self._verify(entry, crc)
        if held is not None:
            yield held

    def read_bytes(self, name: str) -> bytes:
        """Return a whole file, verified.

        Raises:
            NotFoundError: As for :meth:`stream`.
            VerificationError: As for :meth:`stream`.
        """
        entry = self.entry(name)
        if self.is_packed(entry) and entry.length <= _ONE_REQUEST:
            return self.checked(entry, self.read_range(name, 0, entry.length))
        if entry.length > _ONE_REQUEST:
            # A buffer that grows: pieces that wait to be joined would be held beside the whole.
            whole = io.BytesIO()
            for chunk in self.stream(name):
                whole.write(chunk)
            return whole.getvalue()
        # Small: one request brings all of it.
        self._check_pinned(entry)
        data, _ = self._served.store.get(self._path(entry))
        return data if self._comes_verified(entry) else self.checked(entry, data)

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Return a file's bytes from ``start`` up to ``end``, in one request. They are not verified: only whole files can be.

        Raises:
            NotFoundError: The output has no such file, or its bytes are gone.
            VerificationError: The file ends before ``end``; or a reference is no longer what it was pinned to.
        """
        entry = self.entry(name)
        if not 0 <= start <= end <= entry.length:
            raise VerificationError(
                f"{self.key}, file {name!r} has {entry.length} bytes, and {start} to {end} were asked for"
            )
        if start == end:
            return b""
        if self.output.kind == REFERENCE:  # Opening it makes sure that it is still the object it was pinned to.
            with self.open(name) as file:
                file.seek(start)
                return file.read(end - start)
        return self._served.store.get_range(self._path(entry), entry.offset + start, end - start)

    def read_many(
        self, names: Iterable[str] | None = None, *, parallel: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Yield files whole with their names, verified, read side by side: for many small ones. Of a packed output each request brings many.

        Args:
            names: Which, and in which order; by default all, in the manifest's order.
            parallel: How many are read at once; by default 192 where they are under 256 KiB on average, else 32. Some 64 MiB of them are in memory,
                or so many files where they are large.

        Raises:
            NotFoundError: As for :meth:`stream`, at that file's turn; so are the others.
            VerificationError: As for :meth:`stream`.
        """
        from datalayer.resolve.bulk import side_by_side

        wanted = list(self.files if names is None else names)
        mean = max(1, sum(self._length_of(name) for name in wanted) // max(1, len(wanted)))
        small = mean <= _SMALL
        if parallel is None:
            parallel = _MANY_AT_ONCE if small else _SOME_AT_ONCE
        if self.packed:
            from datalayer.resolve.packed import read_packed

            return read_packed(self, wanted, parallel)
        # Several in a row where there are enough of them to keep all threads busy to the end.
        batch = max(1, min(_BATCH, len(wanted) // (16 * parallel))) if small and parallel > 0 else 1
        # First bytes come when they come: who waits for one in order needs others to be read meanwhile.
        ahead = max(1, min(_AHEAD, _READ_AHEAD // (mean * batch * parallel))) if parallel > 0 else 1
        return side_by_side(lambda name: (name, self.read_bytes(name)), wanted, parallel, batch, ahead)

    def read_table(self, columns: Sequence[str] | None = None) -> pyarrow.Table:
        """Return Parquet files as one Arrow table, in two round trips: all footers at once, then all column chunks at once. Nothing is listed.

        The footers are kept for who reads on. For filters, and for more than memory holds, take :meth:`dataset`.

        As from ``open``, the bytes are *not* compared with the file's checksum, which only whole files can be: lengths are, and the checksums of
        pages where the writer made them, as Spark does. Files of which a copy is kept on this machine are compared there, block by block.

        Args:
            columns: Names of columns; of a nested one, its own or that of a part of it, ``address.city``. By default all.

        Raises:
            NotFoundError: A file has no such column, or its bytes are gone from the tier.
            NotSupportedError: A file is no Parquet file, or is encrypted.
            VerificationError: A file is not the one that was committed, or its columns cannot be decoded.
        """
        from datalayer.resolve.columnar import Footers, read_table

        self.check_pins(self.data_files())
        self._footers = self._footers or Footers()
        return read_table(self, columns, self._footers)

    def dataset(self, **options: object) -> pyarrow.dataset.Dataset:
        """Return the output as an Arrow dataset over the manifest's own file list: nothing is listed.

        Args:
            **options: Passed to ``pyarrow.dataset.dataset``: ``format`` (by default told by the files' ending), ``schema``, ``partitioning``.

        Raises:
            NotSupportedError: The format cannot be told by the files' names.
        """
        from datalayer.resolve.datasets import dataset

        entries = self.data_files()
        self.check_pins(entries)
        return dataset(self, entries, options)

    def __repr__(self) -> str:
        size = f"{self.output.files} files, {self.output.bytes} bytes"
        return f"<ResolvedOutput {self.key} attempt {self.resolution.attempt} on {self.tier.value}: {size}>"

    def original(self) -> ResolvedOutput:
        """Return this output as it lies on the tier that it was written to, past any copies."""
        served = Served(self._served.store.original, self._served.folder, ())
        return ResolvedOutput(self.resolution, self.key, self.output, served, self._home, self._make_filesystem)

    def store_path(self, name: str) -> tuple[Store, str]:
        """Return the store that serves a file and its path there, for copies on the server's side.

        Raises:
            NotFoundError: The output has no such file.
            NotSupportedError: The file lies in a pack.
        """
        entry = self.entry(name)
        if self.is_packed(entry):
            raise NotSupportedError(
                f"{self.key}, file {name!r} lies in a pack, and is no object of its own: read it with read_bytes() or read_range()",
                tier=self.tier.value,
                location=str(self._served.store.location(self._path(entry))),
            )
        return self._served.store, self._path(entry)

    @property
    def store(self) -> Store:
        """The store that serves it."""
        return self._served.store

    @property
    def folder(self) -> str:
        """The path of its folder in that store."""
        return self._served.folder

    def objects(self) -> list[Entry]:
        """Return what lies in the store: the files, and in the place of those that lie in packs the packs, named by their paths in the output."""
        alone = [entry for entry in self.files.values() if not self.is_packed(entry)]
        return alone + list(self.output.packs or ())

    def object_path(self, entry: Entry) -> str:
        """Return the path in the store of one of :meth:`objects`."""
        return self._path(entry)

    def expected(self, path: str) -> Expected | None:
        """Return what was committed under a path of the store that serves this output; None where that is no file of its own."""
        inside = path.removeprefix(f"{self._served.folder}/")
        entry = next((pack for pack in self.output.packs or () if pack.name == inside), None)
        if entry is None:
            entry = self.files.get(inside)
        if entry is None or self.is_packed(entry):
            return None
        checksum = parse_checksum(entry.checksum)
        blocks = parse_blocks(entry.blocks, entry.length) if entry.blocks is not None else None
        if blocks is None and checksum is not None and entry.length <= BLOCK:
            blocks = (checksum,) if entry.length else ()
        return Expected(entry.length, checksum, blocks)

    def checked(self, entry: Entry, data: bytes) -> bytes:
        """Return a file's bytes if they are the ones that were committed.

        Raises:
            VerificationError: They are not.
        """
        found = f"crc32c:{crc32c(data):08x}"
        if len(data) != entry.length or (entry.checksum and entry.checksum != found):
            raise self._not_as_committed(entry, f"{len(data)} bytes with {found}")
        return data

    def check_length(self, entry: Entry, found: int) -> None:
        """Make sure that a file has as many bytes as were committed.

        Raises:
            VerificationError: It has not.
        """
        if found != entry.length:
            raise self._not_as_committed(entry, f"{found} bytes")

    def _length_of(self, name: str) -> int:
        entry = self.files.get(name)
        return entry.length if entry else 0

    def _comes_verified(self, entry: Entry) -> bool:
        """Whether the store itself compares the file with what was committed."""
        if self.is_packed(entry):
            return False
        expected = self.expected(self._path(entry)) if self._served.store.verifies else None
        return expected is not None and expected.blocks is not None

    def _verify(self, entry: Entry, crc: Crc32c) -> None:
        if crc.length == entry.length and (not entry.checksum or entry.checksum == crc.text()):
            return
        raise self._not_as_committed(entry, f"{crc.length} bytes with {crc.text()}")

    def _not_as_committed(self, entry: Entry, found: str) -> VerificationError:
        committed = f"{entry.length} bytes with {entry.checksum or 'no checksum'}"
        return VerificationError(
            f"{self.key}, file {entry.name!r}: committed were {committed}, on tier {self.tier.value} lie {found}. Run the task again",
            key=str(self.resolution.key),
            attempt=self.resolution.attempt,
        )

    def _chunks(self, entry: Entry, chunk_size: int) -> Iterator[bytes]:
        if not self.is_packed(entry):
            yield from self._served.store.stream_sized(self._path(entry), entry.length, chunk_size=chunk_size)
            return
        with self.open(entry.name) as file:
            while chunk := file.read(chunk_size):
                yield chunk

    def is_packed(self, entry: Entry) -> bool:
        """Whether a file is a part of a larger object."""
        return self.output.kind != REFERENCE and (bool(entry.offset) or entry.object is not None)

    def _path(self, entry: Entry) -> str:
        if self.output.kind == REFERENCE and entry.object is not None:
            location = Location.parse(entry.object)
            return location.path.removeprefix(self._served.store.root.path).lstrip("/")
        return f"{self._served.folder}/{entry.object or entry.name}"

    def _check_pinned(self, entry: Entry) -> None:
        if self.output.kind != REFERENCE:
            return
        info = self._served.store.head(self._path(entry))
        if (info.size, info.version) != (entry.length, entry.version):
            raise VerificationError(
                f"{self.key}, file {entry.name!r}: {entry.object} changed since it was referenced. "
                "Publish the reference again, or restore the object",
                key=str(self.resolution.key),
                attempt=self.resolution.attempt,
            )

    def check_pins(self, entries: Sequence[Entry]) -> None:
        """Make sure, side by side, that what references name is still the object that each was pinned to. Other outputs need no such look.

        Raises:
            NotFoundError: An object is gone.
            VerificationError: It is another one.
        """
        from datalayer.resolve.bulk import side_by_side

        if self.output.kind == REFERENCE:
            for _ in side_by_side(self._check_pinned, entries, _SOME_AT_ONCE):
                pass

    def _read_index(self) -> list[Entry]:
        index = self.output.index
        key, attempt = self.resolution.key, self.resolution.attempt
        if index is None:  # Manifest.check refuses such a manifest before anybody gets here.
            return []
        path = f"{layout.attempt_path(key, attempt)}/{index.object}"
        data, _ = self._home.get(path)
        try:
            return decode_index(data, index, self.output, str(self._home.location(path)))
        except VerificationError as error:
            raise VerificationError(str(error), key=str(key), attempt=attempt) from error
