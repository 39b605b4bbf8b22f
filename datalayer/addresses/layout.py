"""Where things lie below a root: pure functions from key and attempt to paths.

::

    <team>/<dag_id>/<task_id>/<run>[/map_index-N]/
        manifest.json                    the head, on a store with compare-and-put
        commits/<attempt>.json           the commits, on one without
        attempts/<attempt>/claim.json    this number is taken
        attempts/<attempt>/alive         touched by an attempt that takes long
        attempts/<attempt>/manifest.json a superseded head, kept for readers pinned to it
        attempts/<attempt>/index/<output>.json.gz
        attempts/<attempt>/<output>/…    the output's files
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datalayer.addresses.keys import MAX_KEY_BYTES, TaskKey
from datalayer.errors import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = "manifest.json"
COMMITS = "commits"
ATTEMPTS = "attempts"
CLAIM = "claim.json"
ALIVE = "alive"
INDEX = "index"

MAX_NAME_BYTES = 1024
_MAX_COMPONENT_BYTES = 255
_FORBIDDEN = frozenset(map(chr, range(32))) | {"\x7f", "\\"}
_PRINTED = bytes(range(32, 127)).replace(b"\\", b"")
# What has no place in names that stand one a line, with a line's end before and after all of them. A dot begins few names.
_SUSPICIOUS = (b"//", b"/\n", b"\n/", b"\n\n", b"/.", b"\n.")


def head_path(key: TaskKey) -> str:
    """Where a task's head lies."""
    return f"{key.path}/{HEAD}"


def commits_path(key: TaskKey) -> str:
    """The folder of a task's commits, on a store without compare-and-put."""
    return f"{key.path}/{COMMITS}"


def commit_path(key: TaskKey, attempt: int) -> str:
    """One attempt's commit, on a store without compare-and-put."""
    return f"{key.path}/{COMMITS}/{attempt}.json"


def attempts_path(key: TaskKey) -> str:
    """The folder of a task's attempts."""
    return f"{key.path}/{ATTEMPTS}"


def attempt_path(key: TaskKey, attempt: int) -> str:
    """The folder of one attempt."""
    return f"{key.path}/{ATTEMPTS}/{attempt}"


def output_path(key: TaskKey, attempt: int, output: str) -> str:
    """The folder of one attempt's output."""
    return f"{key.path}/{ATTEMPTS}/{attempt}/{output}"


def check_file_name(name: str) -> str:
    """Return a file's name within an output unchanged if every store and engine can hold it.

    Slashes make folders. Names are otherwise literal: ``year=2013/part 0%.parquet`` is one.

    Raises:
        InvalidKeyError: The name is empty, absolute, over 1,024 bytes (a component over 255), or holds an empty, ``.`` or ``..`` component, a
            control character, a backslash, or text that UTF-8 cannot encode.
    """
    if not isinstance(name, str) or not name:
        raise InvalidKeyError(f"file name {name!r} is empty or no text")
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidKeyError(f"file name {name!r} is not valid Unicode text; rename the file") from error
    if size > MAX_NAME_BYTES:
        raise InvalidKeyError(f"file name {name[:60]!r}… takes {size} bytes; the limit is {MAX_NAME_BYTES}")
    if not _FORBIDDEN.isdisjoint(name):
        raise InvalidKeyError(
            f"file name {name!r} holds a control character or a backslash, which object stores and engines do not agree on; rename the file"
        )
    for component in name.split("/"):
        if component in {"", ".", ".."}:
            raise InvalidKeyError(f"file name {name!r} has an empty, '.' or '..' component")
        if len(component.encode("utf-8")) > _MAX_COMPONENT_BYTES:
            raise InvalidKeyError(f"file name {name[:60]!r}… has a component over 255 bytes")
    return name


def are_plain(names: Sequence[str]) -> bool:
    """Whether all of many names are ones that :func:`check_file_name` returns, found out at once; False where it has to be asked for each."""
    text = "\n".join(names)
    if not text.isascii() or max(map(len, names), default=0) > _MAX_COMPONENT_BYTES:
        return False
    lines = f"\n{text}\n".encode()
    # Nothing but line's ends is left, and only one for each name.
    if len(lines.translate(None, _PRINTED)) != len(names) + 1 or text.count("\n") != len(names) - 1:
        return False
    return not any(one in lines for one in _SUSPICIOUS)


def holds_data(name: str) -> bool:
    """Whether a file of an output holds data, as Hadoop's engines and Arrow have it.

    A name or folder that begins with ``_`` or ``.`` says that it does not; ``_column=value`` is a partition.
    """
    return not any(part[0] == "." or (part[0] == "_" and "=" not in part) for part in name.split("/"))


def check_object_path(path: str) -> str:
    """Return an object's path below a root unchanged if S3 can hold it.

    Raises:
        InvalidKeyError: It is over 1,024 bytes.
    """
    size = len(path.encode("utf-8"))
    if size > MAX_KEY_BYTES:
        raise InvalidKeyError(
            f"the object key {path[:80]}… takes {size} bytes; S3 allows {MAX_KEY_BYTES}. Use shorter ids or file names"
        )
    return path
