"""``VolumeStore``: a folder on a mounted file system. EFS, NFS and other shared volumes, or a local disk.

An object is a regular file. It becomes visible whole and durable, by ``link(2)`` or ``rename(2)`` of a synced temporary file beside it. What
is no regular file is no object: symbolic links are neither followed nor listed, because they can lead out of the volume.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from datalayer.errors import ConfigError, StoreError, StoreUnavailableError
from datalayer.stores.base import ObjectInfo, Store, StoreWriter, Tier, check_small
from datalayer.stores.beneath import open_beneath
from datalayer.stores.paths import TEMPORARY_PREFIX, check_new_path, check_path, check_prefix
from datalayer.stores.volume_errors import volume_error
from datalayer.stores.volume_files import TemporaryFile, opened, remove_empty_folders, remove_file
from datalayer.stores.volume_reading import VolumeFile, read_exactly, reopening

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta

    import fsspec
    import pyarrow.fs

    from datalayer.addresses.location import Location

_T = TypeVar("_T")
_Scan = tuple[list[str], list[ObjectInfo], list[ObjectInfo]]

_ROOT = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# A FIFO that somebody put in an object's place must not hang the reader.
_READ = os.O_RDONLY | os.O_NONBLOCK
_LIST = os.O_RDONLY | os.O_DIRECTORY
_COPY_CHUNK = 1 << 30
_DELETERS = 16
# What file systems answer that cannot copy within the kernel.
_NO_KERNEL_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF})


class VolumeStore(Store):
    """Objects as files below a folder, which must exist: a missing root is taken for a volume that is not mounted.

    There is no compare-and-put on a file system, so commits are exclusive puts. ``version`` is made of inode, time and size.

    Args:
        root: A ``file://`` location.
        tier: Which tier the volume is.

    Raises:
        ConfigError: The location is no local one.
    """

    can_compare_and_put = False

    def __init__(self, root: Location, *, tier: Tier = Tier.SHARED) -> None:
        if root.scheme != "file" or root.authority:
            raise ConfigError(f"{root} is no folder of this machine; write an absolute path or file:///path")
        self.root = root
        self.tier = tier
        self._folder = f"/{root.path}"

    # Reading ------------------------------------------------------------------------------------------------------------------------

    def head(self, path: str) -> ObjectInfo:
        return self._reading(path, lambda _file, info: info)

    def get(self, path: str) -> tuple[bytes, ObjectInfo]:
        def read(file: int, info: ObjectInfo) -> tuple[bytes, ObjectInfo]:
            check_small(info, self.location(path))
            return read_exactly(file, 0, info.size, self.location(path)), info

        return self._reading(path, read)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        return self._reading(path, lambda file, _info: read_exactly(file, start, length, self.location(path)))

    def open(self, path: str) -> BinaryIO:
        check_path(path)
        raw = VolumeFile(
            lambda: self._run(path, lambda root: self._open(root, path)),
            lambda error: volume_error(error, self.location(path), self.tier),
        )
        return io.BufferedReader(raw, 128 << 10)

    def stream(self, path: str, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        file = self.open(path)

        def chunks() -> Iterator[bytes]:
            with file:
                while chunk := file.read(chunk_size):
                    yield chunk

        return chunks()

    # Writing ------------------------------------------------------------------------------------------------------------------------

    def put(self, path: str, data: bytes) -> ObjectInfo:
        return self._write(path, data, replace=True)

    def put_exclusive(self, path: str, data: bytes) -> ObjectInfo:
        return self._write(path, data, replace=False)

    def writer(self, path: str) -> StoreWriter:
        temporary = self._run(check_new_path(path), lambda root: TemporaryFile(root, path), writing=True)
        return _VolumeWriter(
            path, temporary, lambda error: volume_error(error, self.location(path), self.tier, writing=True)
        )

    def copy(self, source: str, target: str) -> ObjectInfo:
        self.head(source)  # So that an error below is the target's.

        def operation(root: int) -> ObjectInfo:
            with opened(self._open(root, source)[0]) as file:
                temporary = TemporaryFile(root, target)
                try:
                    _copy_bytes(file, temporary)
                    return _info(target, temporary.publish(replace=True))
                finally:
                    temporary.drop()

        return self._run(check_new_path(target), operation, writing=True)

    def delete(self, paths: Iterable[str]) -> None:
        wanted = [check_path(path) for path in paths]

        def delete(path: str) -> None:
            self._run(path, lambda root: remove_file(root, path))

        if len(wanted) < _DELETERS:
            for path in wanted:
                delete(path)
        else:
            with ThreadPoolExecutor(_DELETERS) as pool:
                list(pool.map(delete, wanted))
        for folder in sorted({path.rpartition("/")[0] for path in wanted}, key=len, reverse=True):
            self._run(folder, lambda root, folder=folder: remove_empty_folders(root, folder))  # type: ignore[misc]  # bound at once

    # Listing ------------------------------------------------------------------------------------------------------------------------

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        self._run(prefix, lambda _root: None)  # An unmounted volume is an error now, not when the caller first looks.
        return self._walk(prefix)

    def children(self, prefix: str) -> tuple[builtins.list[str], builtins.list[ObjectInfo]]:
        """As the contract says; a folder may also be one that is empty, or only holds files still being written."""
        folders, objects, _ = self._scan(check_prefix(prefix))
        return sorted(folders), sorted(objects)

    def reap_uploads(self, prefix: str, older_than: timedelta) -> builtins.list[str]:
        """As the contract says. The names returned are the temporary files' own: which object one was for is not known."""
        latest = datetime.fromtimestamp(time.time(), UTC) - older_than
        pending = [check_prefix(prefix)]
        found: builtins.list[str] = []
        while pending:
            folder = pending.pop()
            names, _, temporary = self._scan(folder)
            pending.extend(f"{folder}/{name}" if folder else name for name in names)
            found.extend(info.path for info in temporary if info.modified < latest)
        self.delete(found)
        return found

    # Views --------------------------------------------------------------------------------------------------------------------------

    def local_path(self, path: str) -> Path:
        return Path(self.filesystem_path(path))

    def spark_uri(self, path: str) -> str:
        return f"file://{self.filesystem_path(path)}"

    @cached_property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()

    @cached_property
    def arrow_filesystem(self) -> pyarrow.fs.FileSystem:
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem()

    def filesystem_path(self, path: str) -> str:
        return f"/{self.location(path).path}"

    # Within -------------------------------------------------------------------------------------------------------------------------

    def _run(self, path: str, operation: Callable[[int], _T], *, writing: bool = False) -> _T:
        """Run an operation on the opened root, anew while the server says that a handle is stale, and map what it raises."""

        def once() -> _T:
            with opened(self._open_root()) as root:
                return operation(root)

        try:
            return reopening(once)
        except StoreError:
            raise
        except OSError as error:
            raise volume_error(error, self.location(path), self.tier, writing=writing) from error

    def _open_root(self) -> int:
        try:
            return os.open(self._folder, _ROOT)
        except (FileNotFoundError, NotADirectoryError) as error:
            # Also for reads: a volume that is not mounted must not pass for one that holds nothing.
            raise StoreUnavailableError(
                f"{self.root}: there is no such folder; is the volume mounted? Mount it, or make the folder where it is new",
                tier=self.tier,
                location=str(self.root),
            ) from error

    def _open(self, root: int, path: str) -> tuple[int, ObjectInfo]:
        file = open_beneath(root, path, _READ)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            os.close(file)
            raise IsADirectoryError(errno.EISDIR, "it is a folder, or no regular file", path)
        return file, _info(path, status)

    def _reading(self, path: str, read: Callable[[int, ObjectInfo], _T]) -> _T:
        def operation(root: int) -> _T:
            file, info = self._open(root, path)
            with opened(file):
                return read(file, info)

        return self._run(check_path(path), operation)

    def _write(self, path: str, data: bytes, *, replace: bool) -> ObjectInfo:
        def operation(root: int) -> ObjectInfo:
            temporary = TemporaryFile(root, path)
            try:
                temporary.write(data)
                return _info(path, temporary.publish(replace=replace))
            finally:
                temporary.drop()

        return self._run(check_new_path(path), operation, writing=True)

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        pending = [prefix]
        while pending:
            folder = pending.pop()
            names, objects, _ = self._scan(folder)
            yield from objects
            pending.extend(f"{folder}/{name}" if folder else name for name in names)

    def _scan(self, folder: str) -> _Scan:
        """Return a folder's folders, objects, and temporary files."""

        def operation(root: int) -> _Scan:
            result: _Scan = ([], [], [])
            folders, objects, temporary = result
            try:
                descriptor = open_beneath(root, folder, _LIST)
            except (FileNotFoundError, NotADirectoryError):
                return result
            with opened(descriptor), os.scandir(descriptor) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # Deleted since.
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(entry.name)
                    elif stat.S_ISREG(status.st_mode):
                        info = _info(f"{folder}/{entry.name}" if folder else entry.name, status)
                        (temporary if entry.name.startswith(TEMPORARY_PREFIX) else objects).append(info)
            return result

        return self._run(folder, operation)


class _VolumeWriter(StoreWriter):
    def __init__(self, path: str, temporary: TemporaryFile, failing: Callable[[OSError], Exception]) -> None:
        self._path = path
        self._temporary = temporary
        self._failing = failing
        self._info: ObjectInfo | None = None
        self._discarded = False

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._check()
        if self._info is not None:
            raise StoreError(f"the writer of {self._path} is closed")
        try:
            return self._temporary.write(data)
        except OSError as error:
            raise self._failing(error) from error

    def close(self) -> ObjectInfo:
        self._check()
        if self._info is None:
            try:
                self._info = _info(self._path, self._temporary.publish(replace=True))
            except OSError as error:
                self.discard()
                raise self._failing(error) from error
        return self._info

    def discard(self) -> None:
        self._discarded = True
        self._temporary.drop()

    def __del__(self) -> None:
        # A writer that was forgotten is not closed: nobody said that its bytes are all there.
        self._temporary.drop()

    def _check(self) -> None:
        if self._discarded:
            raise StoreError(f"the writer of {self._path} failed or was discarded")


def _info(path: str, status: os.stat_result) -> ObjectInfo:
    version = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(path, status.st_size, version, datetime.fromtimestamp(status.st_mtime, UTC))


def _copy_bytes(source: int, temporary: TemporaryFile) -> None:
    """Copy within the kernel (on some file systems by sharing blocks, on NFS within the server), else through this process."""
    try:
        while os.copy_file_range(source, temporary.descriptor, _COPY_CHUNK):
            pass
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
        # It may have failed midway: both files' positions say where.
        while chunk := os.read(source, 8 << 20):
            temporary.write(chunk)
