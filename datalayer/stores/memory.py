"""``MemoryStore``: a store in this process's memory, for tests and first steps."""

from __future__ import annotations

import io
import secrets
import threading
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from datalayer.addresses.location import Location
from datalayer.errors import AlreadyExistsError, NotFoundError, PreconditionFailedError, StoreError, VerificationError
from datalayer.stores.base import ObjectInfo, Store, StoreWriter, Tier, check_small
from datalayer.stores.paths import check_new_path, check_path, check_prefix

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable, Iterator

    import fsspec
    import pyarrow.fs


class _Object(NamedTuple):
    data: bytes
    info: ObjectInfo


class MemoryStore(Store):
    """Objects in a dictionary under a lock. Each instance is a store of its own; its bytes end with the process."""

    can_compare_and_put = True

    def __init__(self, *, tier: Tier = Tier.COLD) -> None:
        self.root = Location("memory", secrets.token_hex(4))
        self.tier = tier
        self._objects: dict[str, _Object] = {}
        self._lock = threading.Lock()
        self._versions = 0

    def head(self, path: str) -> ObjectInfo:
        return self._object(path).info

    def get(self, path: str) -> tuple[bytes, ObjectInfo]:
        found = self._object(path)
        check_small(found.info, self.location(path))
        return found

    def get_range(self, path: str, start: int, length: int) -> bytes:
        data = self._object(path).data[start : start + length]
        if len(data) != length:
            raise VerificationError(
                f"{self.location(path)} ends before byte {start + length}: only {len(data)} bytes from {start} on"
            )
        return data

    def open(self, path: str) -> BinaryIO:
        return io.BufferedReader(io.BytesIO(self._object(path).data))

    def stream(self, path: str, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        data = self._object(path).data
        return (data[start : start + chunk_size] for start in range(0, len(data), chunk_size))

    def put(self, path: str, data: bytes) -> ObjectInfo:
        check_new_path(path)
        with self._lock:
            return self._set(path, data)

    def put_exclusive(self, path: str, data: bytes) -> ObjectInfo:
        check_new_path(path)
        with self._lock:
            if path in self._objects:
                raise AlreadyExistsError(
                    f"{self.location(path)} is there already", tier=self.tier, location=str(self.location(path))
                )
            return self._set(path, data)

    def compare_and_put(self, path: str, data: bytes, version: str) -> ObjectInfo:
        check_new_path(path)
        with self._lock:
            there = self._objects.get(path)
            if there is None or there.info.version != version:
                found = "nothing" if there is None else "another version"
                raise PreconditionFailedError(
                    f"{self.location(path)}: {found} is there", tier=self.tier, location=str(self.location(path))
                )
            return self._set(path, data)

    def writer(self, path: str) -> StoreWriter:
        return _MemoryWriter(self, check_new_path(path))

    def copy(self, source: str, target: str) -> ObjectInfo:
        return self.put(target, self._object(source).data)

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._objects.pop(check_path(path), None)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        start = f"{check_prefix(prefix)}/" if prefix else ""
        with self._lock:
            return iter([there.info for path, there in self._objects.items() if path.startswith(start)])

    def children(self, prefix: str) -> tuple[builtins.list[str], builtins.list[ObjectInfo]]:
        start = len(prefix) + 1 if prefix else 0
        folders, objects = set(), []
        for info in self.list(prefix):
            name, slash, _ = info.path[start:].partition("/")
            if slash:
                folders.add(name)
            else:
                objects.append(info)
        return sorted(folders), sorted(objects)

    @cached_property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        from datalayer.stores.view import StoreFileSystem

        return StoreFileSystem(self)

    @cached_property
    def arrow_filesystem(self) -> pyarrow.fs.FileSystem:
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        return PyFileSystem(FSSpecHandler(self.filesystem))

    def filesystem_path(self, path: str) -> str:
        return path

    def _object(self, path: str) -> _Object:
        try:
            return self._objects[check_path(path)]
        except KeyError:
            raise NotFoundError(
                f"{self.location(path)}: no such object", tier=self.tier, location=str(self.location(path))
            ) from None

    def _set(self, path: str, data: bytes) -> ObjectInfo:
        self._versions += 1
        info = ObjectInfo(path, len(data), str(self._versions), datetime.now(UTC))
        self._objects[path] = _Object(bytes(data), info)
        return info


class _MemoryWriter(StoreWriter):
    def __init__(self, store: MemoryStore, path: str) -> None:
        self._store = store
        self._path = path
        self._buffer = bytearray()
        self._info: ObjectInfo | None = None
        self._discarded = False

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._check()
        if self._info is not None:
            raise StoreError(f"the writer of {self._store.location(self._path)} is closed")
        self._buffer += data
        return memoryview(data).nbytes

    def close(self) -> ObjectInfo:
        self._check()
        if self._info is None:
            self._info = self._store.put(self._path, bytes(self._buffer))
            self._buffer.clear()
        return self._info

    def discard(self) -> None:
        self._discarded = True
        self._buffer.clear()

    def _check(self) -> None:
        if self._discarded:
            raise StoreError(f"the writer of {self._store.location(self._path)} was discarded")
