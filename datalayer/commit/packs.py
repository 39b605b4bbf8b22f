"""``Packs``: small files of an output, laid one after another into a few large objects as they are written.

A pack lies at ``_packs/<token>-<number>`` in the output's folder. The token is the writer's own, so that several writers of one attempt do not
meet. The manifest lists the packs with their checksums, and says of each small file which pack holds it, and where: see docs/commit-protocol.md.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from datalayer.commit.manifest import PACKS, Entry
from datalayer.errors import PublishError
from datalayer.stores.base import ObjectInfo, StoreWriter
from datalayer.stores.checksum import Crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datalayer.stores.base import Store

PACK_BYTES = 64 << 20
"""A pack is closed once it has so many bytes: enough that requests cost nothing, and few enough that a cache takes one in at once."""

SMALL_BYTES = 1 << 20
"""Up to here a file is packed. A longer one gains nothing by it, and is an object of its own."""


class Packs:
    """The packs of one output of one writer. Safe to share between threads.

    Args:
        store: Where they are written.
        folder: The output's folder.
        landed: Told of each pack that is closed and whole, with the files in it.
    """

    def __init__(self, store: Store, folder: str, landed: Callable[[Entry, list[Entry]], None]) -> None:
        self._store = store
        self._folder = folder
        self._landed = landed
        self._token = secrets.token_hex(4)
        self._process = os.getpid()
        self._number = 0
        self._lock = threading.Lock()
        self._writer: StoreWriter | None = None
        self._crc = Crc32c()
        self._pending: dict[str, Entry] = {}
        self._lost: BaseException | None = None

    def add(self, name: str, data: bytes) -> None:
        """Append a file. It has landed when its pack is closed.

        Raises:
            PublishError: A pack could not be written: what was added to it is lost, and so is the attempt.
            StoreError: This one could not be written.
        """
        self._refuse_after_fork()
        crc = Crc32c()
        crc.update(data)
        with self._lock, self._losing():
            if self._writer is None:
                self._crc = Crc32c()
                self._writer = self._store.writer(f"{self._folder}/{self._name}")
            self._pending[name] = Entry(name, crc.length, crc.text(), object=self._name, offset=self._crc.length)
            self._writer.write(data)
            self._crc.update(data)
            if self._crc.length >= PACK_BYTES:
                self._close()

    def forget(self, name: str) -> None:
        """Drop a file that was added before: another one of its name has been written otherwise."""
        with self._lock:
            self._pending.pop(name, None)

    def flush(self) -> None:
        """Close the pack that is being written, so that everything added has landed. Raises as :meth:`add` does."""
        self._refuse_after_fork()
        with self._lock, self._losing():
            if self._writer is not None:
                self._close()

    def discard(self) -> None:
        """Drop the pack that is being written, and what was added to it. In a forked child it is the parent's, and stays."""
        if self._process != os.getpid():
            return
        with self._lock:
            writer, self._writer = self._writer, None
            self._pending = {}
            if writer is not None:
                self._lost = self._lost or PublishError("the pack was dropped")
                writer.discard()

    def _refuse_after_fork(self) -> None:
        # Before the lock, which may have been held at the fork. Parent and child would write one pack under one name.
        if self._process != os.getpid():
            raise PublishError(
                "this process was forked from one that writes a packed output: write it in one process, or leave packed out"
            )

    @property
    def _name(self) -> str:
        return f"{PACKS}/{self._token}-{self._number:05}"

    def _close(self) -> None:
        writer = self._writer
        if writer is None:
            return
        info = writer.close()
        if info.size != self._crc.length:
            raise PublishError(f"{self._crc.length} bytes of {self._name!r} were written and {info.size} landed")
        files = list(self._pending.values())
        pack = Entry(self._name, self._crc.length, self._crc.text(), self._crc.blocks())
        self._writer, self._pending = None, {}
        self._number += 1
        self._landed(pack, files)

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        """Note an error that leaves the pack incomplete: nothing may be committed without what was in it."""
        if self._lost is not None:
            raise PublishError(
                f"a pack of this output was not written ({self._lost}), and with it files that were put before. Publish again"
            ) from self._lost
        try:
            yield
        except BaseException as error:  # also an interrupt may have left half a file in the pack
            self._lost = error
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.discard()
            raise


class PackedWriter(StoreWriter):
    """The writer of one file whose length is not known yet: small ones go to a pack, long ones to an object of their own."""

    def __init__(self, packs: Packs, name: str, alone: Callable[[], StoreWriter]) -> None:
        self._packs = packs
        self._name = name
        self._open_alone = alone
        self._buffer = bytearray()
        self._alone: StoreWriter | None = None
        self.packed = False
        """Whether the file went to a pack, once it is closed."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        if self._alone is not None:
            return self._alone.write(data)
        self._buffer += data
        if len(self._buffer) > SMALL_BYTES:
            self._alone = self._open_alone()
            self._alone.write(bytes(self._buffer))
            self._buffer = bytearray()
        return len(data)

    def close(self) -> ObjectInfo:
        if self._alone is not None:
            return self._alone.close()
        if not self.packed:
            self._packs.add(self._name, bytes(self._buffer))
            self.packed = True
        return ObjectInfo(self._name, len(self._buffer), "", datetime.now(UTC))

    def discard(self) -> None:
        self._buffer = bytearray()
        if self._alone is not None:
            self._alone.discard()
