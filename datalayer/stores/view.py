"""``StoreFileSystem``: a store as a read-only fsspec file system, with the store's own retries, length checks and errors."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from fsspec import AbstractFileSystem

from datalayer.errors import NotFoundError
from datalayer.stores.view_ranges import read_ranges

if TYPE_CHECKING:
    from datetime import datetime

    from datalayer.stores.base import ObjectInfo, Store


class StoreFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """A store's objects under the paths that its ``filesystem_path`` gives.

    Reading only: a file that is written in place is visible before it is whole, so writing goes through ``publish``. Nothing is cached,
    because a listing that is older than a commit would hide it.
    """

    cachable = False
    root_marker = ""

    def __init__(self, store: Store) -> None:
        super().__init__(use_listings_cache=False)
        self.store = store
        self.protocol = store.root.scheme
        self._root = store.filesystem_path("").strip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreFileSystem, (self.store,)

    @property
    def fsid(self) -> str:
        """Names the store behind this file system."""
        return f"datalayer:{self.store.root}"

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return size, type and version of a file, or say that the path is a folder."""
        inside = self._inside(path)
        if inside:
            try:
                return self._entry(self.store.head(inside))
            except NotFoundError:
                pass
        folders, objects = self.store.children(inside)
        if inside and not folders and not objects:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._folder(inside)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return one level of a folder, or the one file that the path names."""
        inside = self._inside(path)
        folders, objects = self.store.children(inside)
        start = f"{inside}/" if inside else ""
        entries = [self._folder(start + name) for name in folders] + [self._entry(info) for info in objects]
        if not entries and inside:
            entries = [self.info(path)]
        return entries if detail else [entry["name"] for entry in entries]

    def created(self, path: str) -> datetime:
        """Return when the file was written: objects are replaced whole, never changed."""
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """Return when the file was written, by the store's clock."""
        return self.store.head(self._inside(path)).modified

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return a file's bytes from ``start`` up to ``end``; either may count from the end."""
        inside = self._inside(path)
        if start is None and end is None:
            return b"".join(self.store.stream(inside))
        size = self.store.head(inside).size
        first, last, _step = slice(start, end).indices(size)
        return self.store.get_range(inside, first, last - first) if last > first else b""

    def cat_ranges(
        self,
        paths: Any,
        starts: Any,
        ends: Any,
        max_gap: Any = None,  # noqa: ARG002  # fsspec's; ranges are not merged
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Return many ranges, read side by side."""
        return read_ranges(self.cat_file, paths, starts, ends, on_error)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        if mode != "rb":
            self._refuse()
        return self.store.open(self._inside(path))

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise OSError(
            errno.EROFS,
            f"{self.store.root} is read-only here: write through layer.publish(key), which makes an output visible whole or not at all",
        )

    _rm = rm_file = cp_file = mkdir = makedirs = rmdir = pipe_file = touch = put_file = mv = _refuse

    def _inside(self, path: str) -> str:
        path = self._strip_protocol(path)
        if not self._root:
            return path
        if path == self._root:
            return ""
        if not path.startswith(f"{self._root}/"):
            raise FileNotFoundError(errno.ENOENT, f"not below {self.store.root}", path)
        return path[len(self._root) + 1 :]

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        path = os.fspath(path)
        _, scheme, rest = path.partition("://")
        return (rest if scheme else path).strip("/")

    def _entry(self, info: ObjectInfo) -> dict[str, Any]:
        return {
            "name": self.store.filesystem_path(info.path),
            "size": info.size,
            "type": "file",
            "version": info.version,
            "mtime": info.modified.timestamp(),
        }

    def _folder(self, inside: str) -> dict[str, Any]:
        return {"name": self.store.filesystem_path(inside).strip("/"), "size": 0, "type": "directory"}
