"""``WrappingStore``: behaviour added around a store, instead of flags inside it (counting here; faults and delays in ``datalayer.testing``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from datalayer.stores.base import ObjectInfo, Store, StoreWriter

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta
    from pathlib import Path

    import fsspec
    import pyarrow.fs


class WrappingStore(Store):
    """A store that hands every call to another one; subclasses override what they change."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.root = inner.root
        self.tier = inner.tier
        self.can_compare_and_put = inner.can_compare_and_put
        self.paths_last = inner.paths_last

    def tell_hedges(self, told: Callable[[], None]) -> None:
        self.inner.tell_hedges(told)

    def head(self, path: str) -> ObjectInfo:
        return self.inner.head(path)

    def get(self, path: str) -> tuple[bytes, ObjectInfo]:
        return self.inner.get(path)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        return self.inner.get_range(path, start, length)

    def open(self, path: str) -> BinaryIO:
        return self.inner.open(path)

    def stream(self, path: str, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        return self.inner.stream(path, chunk_size=chunk_size)

    def stream_range(self, path: str, start: int, end: int, *, piece: int = 8 << 20) -> Iterator[bytes]:
        return self.inner.stream_range(path, start, end, piece=piece)

    def put(self, path: str, data: bytes) -> ObjectInfo:
        return self.inner.put(path, data)

    def put_exclusive(self, path: str, data: bytes) -> ObjectInfo:
        return self.inner.put_exclusive(path, data)

    def compare_and_put(self, path: str, data: bytes, version: str) -> ObjectInfo:
        return self.inner.compare_and_put(path, data, version)

    def writer(self, path: str) -> StoreWriter:
        return self.inner.writer(path)

    def copy(self, source: str, target: str) -> ObjectInfo:
        return self.inner.copy(source, target)

    def delete(self, paths: Iterable[str]) -> None:
        self.inner.delete(paths)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self.inner.list(prefix)

    def children(self, prefix: str) -> tuple[builtins.list[str], builtins.list[ObjectInfo]]:
        return self.inner.children(prefix)

    def reap_uploads(self, prefix: str, older_than: timedelta) -> builtins.list[str]:
        return self.inner.reap_uploads(prefix, older_than)

    @property
    def identity(self) -> str:
        return self.inner.identity

    def unavailable(self) -> str | None:
        return self.inner.unavailable()

    def local_path(self, path: str) -> Path | None:
        return self.inner.local_path(path)

    def bring(self, path: str) -> Path | None:
        return self.inner.bring(path)

    def local_folder(self, path: str, files: Callable[[], Iterable[str]]) -> Path | None:
        return self.inner.local_folder(path, files)

    def spark_uri(self, path: str) -> str:
        return self.inner.spark_uri(path)

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        return self.inner.filesystem

    @property
    def arrow_filesystem(self) -> pyarrow.fs.FileSystem:
        return self.inner.arrow_filesystem

    def filesystem_path(self, path: str) -> str:
        return self.inner.filesystem_path(path)
