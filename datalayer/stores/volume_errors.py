"""From an ``OSError`` to this library's error: the one table for volumes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from datalayer.errors import (
    AlreadyExistsError,
    InvalidKeyError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    StoreError,
    StoreFullError,
    StoreTimeoutError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from datalayer.addresses.location import Location
    from datalayer.errors import DataLayerError
    from datalayer.stores.base import Tier

_TABLE: dict[int, tuple[type[StoreError], str]] = {
    errno.ENOENT: (NotFoundError, "no such file"),
    # A component on the way is a file, or the path is a folder: there is no such object.
    errno.ENOTDIR: (NotFoundError, "no such file: a part of the path is a file, not a folder"),
    errno.EISDIR: (NotFoundError, "no such file: it is a folder"),
    errno.EEXIST: (AlreadyExistsError, "is there already"),
    errno.EACCES: (
        PermissionDeniedError,
        "access is denied; check the owner and mode of the folder, and as which user this process runs",
    ),
    errno.EPERM: (
        PermissionDeniedError,
        "the operation is not permitted; check as which user this process runs, and how the volume is mounted",
    ),
    errno.EROFS: (PermissionDeniedError, "the volume is mounted read-only; mount it for writing"),
    errno.ELOOP: (
        PermissionDeniedError,
        "a part of the path is a symbolic link, which could lead out of the volume; write files, not links",
    ),
    errno.ENOSPC: (StoreFullError, "no space is left on the volume; free some, or make it larger"),
    errno.EDQUOT: (StoreFullError, "the disk quota is used up; free some, or raise it"),
    errno.EFBIG: (StoreFullError, "the file is larger than the volume, or this process's limit, allows"),
    errno.ESTALE: (StoreUnavailableError, "the file handle is stale, also when opened anew; remount the volume"),
    errno.ETIMEDOUT: (StoreTimeoutError, "the volume's server did not answer in time; check the network to it"),
    # Not a full store: which bytes were lost is unknown. The bytes are never trusted, and a new attempt writes new files.
    errno.EIO: (StoreUnavailableError, "the file system reports an I/O error; check the disk, or the mount (dmesg)"),
    errno.ENOTCONN: (StoreUnavailableError, "the volume's connection is gone; remount it"),
    errno.ENODEV: (StoreUnavailableError, "the volume's device is gone; remount it"),
    errno.EMFILE: (StoreUnavailableError, "this process has too many open files; close some, or raise `ulimit -n`"),
    errno.ENFILE: (StoreUnavailableError, "this machine has too many open files"),
}

_NO_ROOM_FOR_BOTH = (StoreError, "a file and a folder cannot have one name on a volume; choose another name")
_NO_LINKS = (NotSupportedError, "this file system has no hard links, so no exclusive put; keep commits on another one")
_WRITING: dict[int, tuple[type[StoreError], str]] = {
    errno.ENOENT: (
        StoreUnavailableError,
        "its folder or temporary file was deleted while it was being written; is a sweep running whose TTL is too short?",
    ),
    errno.ENOTDIR: _NO_ROOM_FOR_BOTH,
    errno.EISDIR: _NO_ROOM_FOR_BOTH,
    errno.ENOTEMPTY: _NO_ROOM_FOR_BOTH,
    errno.ENOTSUP: _NO_LINKS,
    errno.ENOSYS: _NO_LINKS,
}


def volume_error(error: OSError, location: Location, tier: Tier, *, writing: bool = False) -> DataLayerError:
    """Return the error to raise from what the operating system said about a location."""
    if error.errno == errno.ENAMETOOLONG:
        return InvalidKeyError(
            f"{location}: a part of the path is longer than the file system allows; use shorter ids or file names"
        )
    code = error.errno or 0
    found = _WRITING.get(code) if writing else None
    kind, words = found or _TABLE.get(code) or (StoreError, error.strerror or str(error))
    return kind(f"{location}: {words}", tier=tier, location=str(location))
