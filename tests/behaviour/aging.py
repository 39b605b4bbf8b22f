"""Makes what lies in a store older, behind the store's back: nobody waits for a day to pass."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from datalayer import DataLayer
from datalayer.stores.base import Store
from datalayer.stores.memory import MemoryStore
from datalayer.stores.paths import TEMPORARY_PREFIX
from datalayer.stores.wrapping import WrappingStore
from tests.services.s3server import S3Server


class Aging:
    """Sets back the times of objects, on any kind of store."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def __call__(self, layer: DataLayer, prefix: str, hours: float) -> None:
        """Make every object below a folder look as if it was written that long ago."""
        store = _innermost(layer)
        for info in list(store.list(prefix)):
            then = info.modified - timedelta(hours=hours)
            if isinstance(store, MemoryStore):
                there = store._objects[info.path]
                store._objects[info.path] = there._replace(info=info._replace(modified=then))
            else:
                path = store.local_path(info.path)
                if path is None:  # versitygw keeps its objects as files.
                    path = Path(self._buckets(), store.filesystem_path(info.path))
                os.utime(path, (then.timestamp(), then.timestamp()))

    def uploads(self, layer: DataLayer, hours: float) -> None:
        """Make every unfinished upload look as if it was begun that long ago."""
        root = _innermost(layer).root
        if root.scheme == "file":
            found = list(Path("/", root.path).rglob(f"{TEMPORARY_PREFIX}*"))
        else:
            found = list(Path(self._buckets(), root.authority, ".sgwtmp/multipart").glob("*/*"))
        assert found
        for path in found:
            then = path.stat().st_mtime - 3600 * hours
            # A part that still comes in from the background makes it young again.
            quiet = 0
            while quiet < 5:
                quiet = quiet + 1 if path.stat().st_mtime == then else 0
                os.utime(path, (then, then))
                time.sleep(0.05)

    def _buckets(self) -> Path:
        server: S3Server = self._request.getfixturevalue("versitygw")
        assert server.folder is not None
        return server.folder


def _innermost(layer: DataLayer) -> Store:
    store = layer.data
    while isinstance(store, WrappingStore):
        store = store.inner
    return store
