"""The index: an output's list of entries as an object of its own, where it is too long for the manifest."""

from __future__ import annotations

import hashlib

import msgspec

from datalayer.addresses import layout
from datalayer.commit import wire
from datalayer.commit.manifest import Entry, IndexRef, Output, check_entries
from datalayer.errors import VerificationError

MAX_INDEX_BYTES = 128 << 20
"""How long a list may be before it is compressed: some 10⁶ files. A reader unpacks no more, whatever somebody has put there."""


def index_path(output: str) -> str:
    """Where an output's index lies below its attempt's folder."""
    return f"{layout.INDEX}/{output}.json.gz"


def encode_index(entries: list[Entry], output: str) -> tuple[bytes, IndexRef]:
    """Return the object's bytes, and what the manifest says of it.

    Raises:
        VerificationError: The list is longer than a reader takes.
    """
    import gzip

    listed = wire.encode(entries)
    if len(listed) > MAX_INDEX_BYTES:
        raise VerificationError(
            f"output {output!r} has {len(entries)} files, whose list takes {len(listed)} bytes; the limit is {MAX_INDEX_BYTES}. "
            "Write fewer and larger files"
        )
    # Level 1: names and checksums compress to a third at once, and more effort buys little.
    data = gzip.compress(listed, compresslevel=1, mtime=0)
    return data, IndexRef(index_path(output), len(data), _checksum(data))


def decode_index(data: bytes, index: IndexRef, output: Output, where: str) -> list[Entry]:
    """Return the entries in an index.

    Raises:
        VerificationError: It is not the one that was committed, or names files outside its output.
    """
    import zlib

    if _checksum(data) != index.checksum:
        raise VerificationError(f"the index {where} is not the one that was committed")
    try:
        unpacking = zlib.decompressobj(wbits=31)
        listed = unpacking.decompress(data, MAX_INDEX_BYTES + 1)
        if len(listed) > MAX_INDEX_BYTES:
            raise VerificationError(
                f"the index {where} unpacks to more than {MAX_INDEX_BYTES} bytes, which is no list of files"
            )
        entries = msgspec.json.decode(listed, type=list[Entry])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, zlib.error) as error:
        raise VerificationError(f"the index {where} cannot be read: {error}") from error
    check_entries(output, entries, f"the index {where}")
    return entries


def _checksum(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
