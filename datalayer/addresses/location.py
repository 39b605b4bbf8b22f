"""``Location``: a parsed URI value. Joins and compares; does no I/O."""

from __future__ import annotations

import re

from datalayer.errors import InvalidKeyError

_URI = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^\x00-\x1f\x7f]*)?", re.ASCII | re.DOTALL
)
_BAD_COMPONENTS = frozenset({"", ".", ".."})


class Location:
    """A URI of three parts: ``scheme://authority/path``. The path has no leading and no trailing slash.

    Text in the path is literal: ``%`` and ``+`` mean themselves, as S3 and POSIX take them.

    Raises:
        InvalidKeyError: A component of the path is empty, ``.`` or ``..``, or the scheme is malformed.
    """

    __slots__ = ("authority", "path", "scheme")

    scheme: str
    authority: str
    path: str

    def __init__(self, scheme: str, authority: str = "", path: str = "") -> None:
        path = path.strip("/")
        if path and not _BAD_COMPONENTS.isdisjoint(path.split("/")):
            raise InvalidKeyError(f"location path {path!r} has an empty, '.' or '..' component")
        object.__setattr__(self, "scheme", scheme)
        object.__setattr__(self, "authority", authority)
        object.__setattr__(self, "path", path)

    @classmethod
    def parse(cls, text: str) -> Location:
        """Return the location that a URI, or an absolute POSIX path, names.

        Raises:
            InvalidKeyError: The text is neither.
        """
        if text.startswith("/"):
            return cls("file", "", text)
        match = _URI.fullmatch(text)
        if not match:
            raise InvalidKeyError(f"{text!r} is not a location: write scheme://authority/path, or an absolute path")
        return cls(match["scheme"], match["authority"], match["path"] or "")

    def join(self, *parts: str) -> Location:
        """Return the location below this one; a part may itself hold slashes."""
        return Location(self.scheme, self.authority, "/".join(part for part in (self.path, *parts) if part))

    def is_within(self, other: Location) -> bool:
        """Whether this location is the other one, or lies below it."""
        same_root = (self.scheme, self.authority) == (other.scheme, other.authority)
        return same_root and (not other.path or self.path == other.path or self.path.startswith(f"{other.path}/"))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Location is immutable: cannot set {name}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}/{self.path}"

    def __repr__(self) -> str:
        return f"Location({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Location) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[object, ...]:
        return Location, (self.scheme, self.authority, self.path)
