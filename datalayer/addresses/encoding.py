"""The one reversible encoding of ids into path components.

``[A-Za-z0-9_.-]`` stand for themselves, every other byte of the UTF-8 text is ``!`` and two lower-case hex digits. The texts ``.`` and
``..`` are encoded whole, because a path component with that spelling means another folder. Encoding is injective (two ids never share a
component), and only the canonical spelling decodes, so a component also never has two spellings.

There is no ``=`` in the alphabet (query engines take ``a=b`` folders for partitions), and no ``%``, ``:`` or ``+`` (decoded or
reinterpreted by URL libraries on the way).
"""

from __future__ import annotations

import re

from datalayer.errors import InvalidKeyError

MAX_COMPONENT_BYTES = 255
"""Longest encoded component: what a POSIX file system takes as one name."""

_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_ENCODED = re.compile(r"(?:[A-Za-z0-9_.-]|![0-9a-f]{2})+")
_UNSAFE = re.compile(rb"[^A-Za-z0-9_.-]")
_ESCAPE = re.compile(rb"!([0-9a-f]{2})")


def encode_component(text: str, what: str = "id") -> str:
    """Return the path component that stands for an id.

    Args:
        text: Any non-empty Unicode text that UTF-8 can encode.
        what: What the text is, for the error message: ``"dag_id"``, ``"team"``.

    Raises:
        InvalidKeyError: The text is empty, is no text at all, holds a lone surrogate, or its encoding is over 255 bytes.
    """
    if not isinstance(text, str):
        raise InvalidKeyError(f"{what} must be text, not {type(text).__name__}")
    if not text:
        raise InvalidKeyError(f"{what} is empty: every part of an address needs at least one character")
    if _PLAIN.fullmatch(text):
        encoded = text.replace(".", "!2e") if text in {".", ".."} else text
    else:
        try:
            raw = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidKeyError(f"{what} {text!r} holds a lone surrogate, which UTF-8 cannot encode") from error
        encoded = _UNSAFE.sub(lambda match: b"!%02x" % match[0][0], raw).decode("ascii")
    if len(encoded) > MAX_COMPONENT_BYTES:
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise InvalidKeyError(
            f"{what} {shown!r} takes {len(encoded)} bytes once encoded; the limit is {MAX_COMPONENT_BYTES}. Use a shorter id"
        )
    return encoded


def decode_component(component: str, what: str = "id") -> str:
    """Return the id that a path component stands for: the exact inverse of :func:`encode_component`.

    Raises:
        InvalidKeyError: The component is not one that :func:`encode_component` gives.
    """
    if not isinstance(component, str) or not _ENCODED.fullmatch(component):
        raise InvalidKeyError(
            f"{what} {component!r} is not an encoded component: only [A-Za-z0-9_.-] and !xx escapes may appear. Encode raw ids with TaskKey(...)"
        )
    if "!" not in component:
        text = component
    else:
        raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), component.encode("ascii"))
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidKeyError(f"{what} {component!r} does not decode to UTF-8 text") from error
    if encode_component(text, what) != component:
        raise InvalidKeyError(f"{what} {component!r} is not the canonical spelling of {text!r}")
    return text
