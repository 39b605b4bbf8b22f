"""Pinned manifests remembered in a folder, so that a new process resolves a pinned key without a request.

Only committed, pinned attempts are kept; they never change. The folder belongs to one user: whoever can write there can name files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from datalayer.addresses.keys import TaskKey
from datalayer.commit import wire
from datalayer.commit.log import Committed, decode_committed
from datalayer.commit.manifest import Head, Manifest, encode_head
from datalayer.errors import VerificationError

if TYPE_CHECKING:
    from datalayer.addresses.location import Location

_REHEARSAL = (
    b'{"version":"1.0","fenced":[],"manifest":{"version":"1.0","key":"/team/dag/task/run_id-0","attempt":1,"nonce":"","committed":"","producer":{},'
    b'"inputs":[],"outputs":{"default":{"kind":"files","tier":"cold","files":1,"bytes":1,"entries":[{"name":"part","length":1}]}}}}'
)


class RememberedManifests:
    """A folder of committed manifests of one home."""

    def __init__(self, folder: Path, home: Location) -> None:
        # Two homes may hold the same keys; a root is told by its location.
        self._folder = str(folder / hashlib.sha256(str(home).encode()).hexdigest()[:16])
        # Now, with the rest of what a process does once: decoders that are made, and code that runs for the first time, would be most of the
        # first resolve.
        for form in (Head, Manifest):
            wire.prepared(form)
        rehearsed = TaskKey("team", "dag", "task", "run_id-0")
        self.load(rehearsed, 1)
        decode_committed(_REHEARSAL, rehearsed, "the rehearsal")

    def load(self, key: TaskKey, attempt: int) -> Committed | None:
        """Return a remembered attempt, or None."""
        path = self._path(key, attempt)
        try:
            # A file object, and a Path even more so, would cost as much as the rest.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(descriptor, os.fstat(descriptor).st_size)
            finally:
                os.close(descriptor)
            return decode_committed(data, key, path)
        except FileNotFoundError:
            return None
        except (OSError, VerificationError):
            # Unreadable or damaged: as good as not there, the home has it.
            return None

    def save(self, key: TaskKey, committed: Committed) -> None:
        """Remember an attempt. A folder that cannot be written only means that nothing is remembered."""
        path = Path(self._path(key, committed.manifest.attempt))
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(encode_head(committed.raw))
            Path(temporary).replace(path)

    def _path(self, key: TaskKey, attempt: int) -> str:
        return f"{self._folder}{key}@{attempt}"
