"""Reading and writing versioned JSON documents.

A document has a ``version``, ``"MAJOR.MINOR"``. A newer minor version is read, and what it adds is left alone; a newer major version is refused.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from datalayer.errors import DataLayerError, ProtocolVersionError, VerificationError

_Document = TypeVar("_Document")

MAJOR = 1
VERSION = f"{MAJOR}.0"
PACKED = f"{MAJOR}.1"
"""The newest version, of a document that says of an output that it is packed. Other documents are of the one before, which more readers know."""


class _Versioned(msgspec.Struct):
    version: str


_KNOWN = frozenset({VERSION, PACKED})
# No longer than any version will be: Python refuses to read numbers of thousands of digits.
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9})*", re.ASCII)
_VERSIONED = msgspec.json.Decoder(_Versioned)
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {}
_REQUIRING: dict[type, bool] = {}


def decode(
    data: bytes | msgspec.Raw, form: type[_Document], what: str, error_type: type[DataLayerError] = VerificationError
) -> _Document:
    """Return the document that JSON bytes spell, as ``form``.

    Args:
        data: The bytes.
        form: A msgspec struct type.
        what: What the document is and where it lies, for errors.
        error_type: What to raise when the bytes are not such a document.

    Raises:
        ProtocolVersionError: Its major version is newer than this library's.
    """
    try:
        return _checked(data, form, what, error_type)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise error_type(f"{what} is not a valid document: {error}") from error


def _checked(
    data: bytes | msgspec.Raw, form: type[_Document], what: str, error_type: type[DataLayerError]
) -> _Document:
    if _requires_version(form):
        # One pass, for what nearly all documents are. A newer version may look otherwise altogether, which is then what has to be said.
        try:
            document = prepared(form).decode(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            pass
        else:
            if document.version in _KNOWN:  # type: ignore[attr-defined]  # forms that require a version have one
                return document
    version = _VERSIONED.decode(data).version
    if not _VERSION.fullmatch(version):
        raise error_type(f"{what} has the version {version[:20]!r}, which is none")
    if int(version.partition(".")[0]) > MAJOR:
        raise ProtocolVersionError(
            f"{what} has version {version}; this library reads versions {MAJOR}.x. Upgrade datalayer-tasks here"
        )
    return prepared(form).decode(data)


def _requires_version(form: type[Any]) -> bool:
    found = _REQUIRING.get(form)
    if found is None:
        found = any(field.name == "version" and field.required for field in msgspec.structs.fields(form))
        _REQUIRING[form] = found
    return found


def prepared(form: type[_Document]) -> msgspec.json.Decoder[_Document]:
    """Return the decoder of a struct type. Making it takes longer than most documents take to decode, so each is made once."""
    decoder = _DECODERS.get(form)
    if decoder is None:
        decoder = _DECODERS[form] = msgspec.json.Decoder(form)
    return decoder


def encode(document: object) -> bytes:
    """Return a document's JSON bytes, its keys in their defined order."""
    return msgspec.json.encode(document)
