"""Which texts are paths of objects: one answer for all stores, so that what one tier holds every other tier can hold."""

from __future__ import annotations

from datalayer.addresses.encoding import MAX_COMPONENT_BYTES
from datalayer.addresses.layout import check_object_path
from datalayer.errors import InvalidKeyError

TEMPORARY_PREFIX = ".datalayer-tmp-"
"""How the names of files begin that are still being written; no object may be called so."""

_BAD_COMPONENTS = frozenset({"", ".", ".."})


def check_path(path: str) -> str:
    """Return the path of an object to read or delete unchanged.

    Raises:
        InvalidKeyError: It is empty or absolute, or holds a NUL or an empty, ``.`` or ``..`` component.
    """
    if not isinstance(path, str):
        raise InvalidKeyError(f"a path must be text, not {type(path).__name__}")
    if "\0" in path:
        raise InvalidKeyError(f"path {path!r} holds a NUL character")
    if not _BAD_COMPONENTS.isdisjoint(path.split("/")):
        raise InvalidKeyError(
            f"path {path!r} has an empty, '.' or '..' component; write folder/name, without a slash at either end"
        )
    return path


def check_prefix(prefix: str) -> str:
    """Return a folder to list unchanged: a path, or ``""`` for all.

    Raises:
        InvalidKeyError: As for :func:`check_path`.
    """
    return check_path(prefix) if prefix != "" else prefix


def check_new_path(path: str) -> str:
    """Return the path of an object to write unchanged.

    Raises:
        InvalidKeyError: As for :func:`check_path`; or it is no valid Unicode text, over 1,024 bytes, a component is over 255 bytes or has
            the name of a temporary file.
    """
    check_path(path)
    try:
        check_object_path(path)
    except UnicodeEncodeError as error:
        raise InvalidKeyError(f"path {path!r} is not valid Unicode text; rename the file") from error
    for component in path.split("/"):
        if len(component.encode("utf-8")) > MAX_COMPONENT_BYTES:
            raise InvalidKeyError(
                f"path {path[:60]!r}… has a component over {MAX_COMPONENT_BYTES} bytes, which no file system can hold"
            )
        if component.startswith(TEMPORARY_PREFIX):
            raise InvalidKeyError(
                f"path {path!r} has the name of a temporary file; names that begin with {TEMPORARY_PREFIX!r} are reserved"
            )
    return path
