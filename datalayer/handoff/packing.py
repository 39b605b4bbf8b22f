"""A context as environment variables, for a container that shares no file with whoever starts it.

``DATALAYER_INTERNAL_CONTEXT_0``, ``_1`` and so on: pieces of the compressed document. Nothing has to be made for it beforehand, and so nothing
has to be removed after it.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from typing import TYPE_CHECKING

from datalayer.errors import ConfigError, HandoffError
from datalayer.handoff.context import decode_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datalayer.handoff.context import TaskContext

PIECE_PREFIX = "DATALAYER_INTERNAL_CONTEXT_"

# Linux takes no variable above 128 KiB, and etcd no object above 1.5 MiB, of which the rest of the pod needs its part.
_PIECE_BYTES = 96 << 10
_MAX_PACKED = 1_000_000
_MAX_UNPACKED = 16 << 20


def context_environment(context: TaskContext) -> dict[str, str]:
    """Return a context as variables for :func:`context_from_environment`. The same context always gives the same ones.

    Raises:
        ConfigError: It is too large for a pod.
    """
    pieces = packed(context.encode(), PIECE_PREFIX)
    size = sum(map(len, pieces.values()))
    if size > _MAX_PACKED:
        counts = f"{sum(len(spec.pins or ()) for spec in context.inputs.values())} pinned inputs, {len(context.readers)} readers"
        raise ConfigError(
            f"the context of {context.key} has {size} bytes when packed, and a pod takes {_MAX_PACKED} ({counts}). Read fewer "
            "runs or map indexes in one task"
        )
    return pieces


def packed(document: bytes, prefix: str) -> dict[str, str]:
    """Return a document as variables for :func:`unpacked`: their values have no character that a shell or the kubelet would expand."""
    text = base64.b64encode(gzip.compress(document, mtime=0)).decode("ascii")
    starts = range(0, len(text), _PIECE_BYTES)
    return {f"{prefix}{at}": text[start : start + _PIECE_BYTES] for at, start in enumerate(starts)}


def context_from_environment(environ: Mapping[str, str]) -> TaskContext:
    """Return the context that variables hold.

    Raises:
        ConfigError: A value in it cannot be used.
        HandoffError: There is none, it is not whole, or it is no context.
        ProtocolVersionError: It was written by a newer major version.
    """
    return decode_context(unpacked(environ, PIECE_PREFIX, "the context"), "the context in the environment")


def unpacked(environ: Mapping[str, str], prefix: str, what: str) -> bytes:
    """Return the document that variables hold.

    Args:
        environ: The environment.
        prefix: Of the variables' names.
        what: The document, in the words of an error.

    Raises:
        HandoffError: There is none, or it is not whole.
    """
    pieces: list[str] = []
    while (piece := environ.get(f"{prefix}{len(pieces)}")) is not None:
        pieces.append(piece)
    if not pieces:
        raise HandoffError(
            f"{prefix}0 is not set: {what} is not in the environment. The operator that makes the pod sets it"
        )
    try:
        unpacker = zlib.decompressobj(wbits=31)
        # Bounded, because a few bytes can unpack to any number.
        data = unpacker.decompress(base64.b64decode("".join(pieces), validate=True), _MAX_UNPACKED)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise HandoffError(f"{what} in {prefix}0 to _{len(pieces) - 1} cannot be unpacked: {error}") from error
    if not unpacker.eof:
        raise HandoffError(
            f"{what} in {prefix}0 to _{len(pieces) - 1} is not whole, or larger than {_MAX_UNPACKED} bytes"
        )
    return data
