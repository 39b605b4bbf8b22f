"""The cache's folder: where it is by default, who may own it, and where in it a file's copy has its places."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from pathlib import Path

from datalayer.errors import ConfigError

_DEFAULT_NAME = "datalayer-node"
_MINE = 0o700
_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def default_folder() -> Path:
    """Return the cache folder of this user: ``datalayer-node`` in ``$XDG_CACHE_HOME``, by default in ``~/.cache``."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # As the XDG specification has it, a relative one is not to be used.
    caches = Path(named) if named.startswith("/") else Path("~/.cache").expanduser()
    return caches / _DEFAULT_NAME


class CacheFolder:
    """The places of one store's copies in a cache folder.

    Args:
        root: The folder.
        identity: Tells the store's files from those of all others.
    """

    def __init__(self, root: Path, identity: str) -> None:
        self.root = root
        self.store = hashlib.sha256(identity.encode()).hexdigest()[:16]
        """The store's name in the tree."""

    def check(self) -> None:
        """Make sure that the folder is there, and that nobody else may write to it: whoever may, names the bytes that others read.

        Raises:
            ConfigError: It is another user's, others may write to it, or it is no folder.
            OSError: It cannot be made.
        """
        with contextlib.suppress(FileExistsError):
            self.root.mkdir(_MINE, parents=True, exist_ok=True)
        found = self.root.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigError(f"hot.url: {self.root} is no folder, so it cannot hold copies; name another one")
        if found.st_uid != os.geteuid():
            raise ConfigError(
                f"hot.url: the cache folder {self.root} belongs to user {found.st_uid}, not to {os.geteuid()}, who could change what is "
                "read from it. Name a folder of your own"
            )
        if found.st_mode & _OF_OTHERS:
            raise ConfigError(
                f"hot.url: others may write to the cache folder {self.root}, and so change what is read from it. "
                f"Name another folder, or: chmod go-w '{self.root}'"
            )

    def check_again(self) -> None:
        """Make sure of the same for a cache that is open: a reader or writer need not suffer from what became of its folder.

        Raises:
            OSError: It is not what it was, or cannot be made.
        """
        try:
            self.check()
        except ConfigError as error:
            raise PermissionError(errno.EPERM, error.message) from error

    def name(self, path: str) -> str:
        """Return the name of a file's entry."""
        return hashlib.sha256(f"{self.store}/{path}".encode("utf-8", "surrogateescape")).hexdigest()

    def entry(self, path: str) -> Path:
        """Return the folder of a file's entry."""
        name = self.name(path)
        return self.root.joinpath("objects", name[:2], name)

    def pin(self, name: str) -> Path:
        """Return the file that pins an entry."""
        return self.root / "pins" / name

    def linked(self, path: str, store: str | None = None) -> Path:
        """Return where a whole file, or a folder, stands in the tree."""
        return self.root.joinpath("tree", store or self.store, path)

    def passing(self, kind: str) -> Path:
        """Return a new name in ``staging`` or ``trash``, which is made."""
        folder = self.root / kind
        folder.mkdir(_MINE, parents=True, exist_ok=True)
        return folder / f"{os.getpid()}-{secrets.token_hex(8)}"
