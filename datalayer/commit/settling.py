"""Files that an engine or a program wrote to a mounted tier: read back and made durable before they are committed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from datalayer.errors import VerificationError
from datalayer.stores.checksum import Crc32c

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CHUNK_BYTES = 4 << 20
# Of eight at once each holds one chunk; a sync mostly waits.
_PARALLEL = 8


def settle_files(files: Mapping[Path, int], *, checksums: bool) -> dict[Path, str | None]:
    """Make files, and the folders they lie in, durable; return each file's checksum, or None where none was asked for.

    Args:
        files: Each file with the bytes it was listed with.
        checksums: Read every file. Without, only its length is known.

    Raises:
        VerificationError: A file is a link now, cannot be read or synced, or has another length than it was listed with.
    """
    with ThreadPoolExecutor(_PARALLEL, "datalayer-settle") as pool:
        sums = list(pool.map(lambda item: _settle(*item, checksums=checksums), files.items()))
        # Deepest first: a folder's own entry is in the one above it.
        folders = sorted({path.parent for path in files}, key=lambda folder: len(folder.parts), reverse=True)
        list(pool.map(_sync_folder, folders))
    return dict(zip(files, sums, strict=True))


def _settle(path: Path, size: int, *, checksums: bool) -> str | None:
    crc = Crc32c()
    try:
        # No link is followed: swapped in now, it would have something committed that lies outside.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            while checksums and (chunk := os.read(file, _CHUNK_BYTES)):
                crc.update(chunk)
            os.fsync(file)
            found = os.fstat(file).st_size
        finally:
            os.close(file)
    except OSError as error:
        raise VerificationError(f"{path} cannot be read back and made durable: {error.strerror}") from error
    if found != size or (checksums and crc.length != size):
        raise VerificationError(f"{path} changed while it was being verified: something still writes there")
    return crc.text() if checksums else None


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise VerificationError(f"the folder {folder} cannot be made durable: {error.strerror}") from error
