"""``CommitLog``: where a task's commits are recorded, and the one step that makes an attempt visible.

Two forms, after what the home store can do:

- :class:`HeadObject`, with compare-and-put (S3): the head is one object. The first commit is an exclusive put, a later one replaces exactly
  the version it read. Before it does, it keeps a copy of the old head for readers that are pinned to it.
- :class:`CommitFolder`, without (a volume): ``commits/<attempt>.json`` is created exclusively, and the highest number is the head.

In both a lower attempt cannot replace a higher one, and an attempt can be *fenced*: after that its commit is refused, so that whoever fenced
it may remove its files.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from datalayer.addresses import layout
from datalayer.commit import wire
from datalayer.commit.manifest import Head, Manifest, digest_of, encode_head, fence_head
from datalayer.errors import (
    AlreadyExistsError,
    CommitConflictError,
    CommitStateUnknownError,
    NotFoundError,
    PreconditionFailedError,
    TransientStoreError,
    VerificationError,
)

if TYPE_CHECKING:
    from datalayer.addresses.keys import TaskKey
    from datalayer.stores.base import Store

_NULL = b"null"
_MAX_HEAD_BYTES = 64 << 20
# A commit goes round again when another one came between, or an answer was lost. Each round means that somebody else made progress, or that the
# store's own retries ran out.
_MAX_ROUNDS = 64
_MAX_LOST_ANSWERS = 3
_PAUSE_AFTER_LOST_ANSWER = 0.1
_BY_ANOTHER = "another process committed something else under its number"


class Committed(NamedTuple):
    """A committed attempt as it was read."""

    manifest: Manifest
    raw: bytes
    """The manifest's exact bytes."""

    @property
    def digest(self) -> str:
        """Pins these bytes. Taken when asked for: a resolve that compares it with nothing is a tenth faster without."""
        return digest_of(self.raw)


class _Read(NamedTuple):
    envelope: bytes
    version: str
    fenced: frozenset[int]
    committed: Committed | None


class CommitLog(ABC):
    """The commits of one task on its home store."""

    def __init__(self, store: Store, key: TaskKey) -> None:
        self._store = store
        self._key = key

    @abstractmethod
    def head(self) -> Committed | None:
        """Return the committed attempt that readers see now, or None. One request on a store with compare-and-put.

        Raises:
            VerificationError: What is there is no valid manifest of this key.
            ProtocolVersionError: It was written by a newer major version.
        """

    @abstractmethod
    def attempt(self, number: int) -> Committed | None:
        """Return one committed attempt, whether or not it is still the head, or None where it did not commit or is gone."""

    @abstractmethod
    def commit(self, number: int, manifest: bytes) -> None:
        """Make an attempt the head. Committing the same bytes again does nothing more.

        Raises:
            CommitConflictError: A higher attempt committed, this one was fenced, or another process committed other content under its number.
            CommitStateUnknownError: The store did not answer, and it cannot be known whether the commit was applied.
        """

    @abstractmethod
    def fence(self, number: int) -> bool:
        """Make sure that an attempt never commits from now on.

        Returns:
            False if it has committed already, and is therefore left as it is.
        """

    @abstractmethod
    def is_fenced(self, number: int) -> bool:
        """Whether an attempt was given up, so that it never commits. One request."""

    def _read(self, path: str) -> _Read | None:
        try:
            data, info = self._store.get(path)
        except NotFoundError:
            return None
        where = str(self._store.location(path))
        if len(data) > _MAX_HEAD_BYTES:
            raise VerificationError(f"{where} holds {len(data)} bytes, which is no manifest", key=str(self._key))
        head = wire.decode(data, Head, f"the manifest at {where}")
        raw = bytes(head.manifest)
        committed = None
        if raw != _NULL:
            manifest = wire.decode(raw, Manifest, f"the manifest at {where}")
            manifest.check(self._key, where)
            committed = Committed(manifest, raw)
        return _Read(data, info.version, frozenset(head.fenced), committed)

    def _conflict(self, number: int, reason: str) -> CommitConflictError:
        message = f"attempt {number} of {self._key} must not commit: {reason}. Its files stay invisible; run the task again for a new attempt"
        return CommitConflictError(message, key=str(self._key), attempt=number)


class HeadObject(CommitLog):
    """Commits as one object that is compared and replaced."""

    def head(self) -> Committed | None:
        read = self._read(layout.head_path(self._key))
        return read.committed if read else None

    def attempt(self, number: int) -> Committed | None:
        head = self.head()
        if head and head.manifest.attempt == number:
            return head
        kept = self._read(self._kept_path(number))
        if kept is None or kept.committed is None or kept.committed.manifest.attempt != number:
            return None
        return kept.committed

    def commit(self, number: int, manifest: bytes) -> None:
        path = layout.head_path(self._key)
        expected: _Read | None = None
        lost = 0
        for _ in range(_MAX_ROUNDS):
            try:
                if expected is None:
                    self._store.put_exclusive(path, encode_head(manifest))
                else:
                    self._keep(expected)
                    still_fenced = (other for other in expected.fenced if other > number)
                    self._store.compare_and_put(path, encode_head(manifest, still_fenced), expected.version)
            except (AlreadyExistsError, PreconditionFailedError):
                expected = self._read(path)
            except TransientStoreError as error:
                # The put may have been applied, or may still be on its way. Putting the same again is safe: if it was ours, the next answer is a
                # refusal and the head names us.
                lost += 1
                if lost > _MAX_LOST_ANSWERS:
                    raise self._unknown(number) from error
                time.sleep(_PAUSE_AFTER_LOST_ANSWER * 2 ** (lost - 1))
                try:
                    expected = self._read(path)
                except TransientStoreError as again:
                    raise self._unknown(number) from again
            else:
                return
            if expected and self._decided(expected, number, manifest):
                return
        raise self._conflict(number, f"the head changed {_MAX_ROUNDS} times while it tried")

    def is_fenced(self, number: int) -> bool:
        read = self._read(layout.head_path(self._key))
        return read is not None and number in read.fenced

    def fence(self, number: int) -> bool:
        path = layout.head_path(self._key)
        for _ in range(_MAX_ROUNDS):
            read = self._read(path)
            try:
                if read is None:
                    self._store.put_exclusive(path, encode_head(None, [number]))
                    return True
                if read.committed and read.committed.manifest.attempt >= number:
                    return self.attempt(number) is None
                if number in read.fenced:
                    return True
                self._store.compare_and_put(path, fence_head(read.envelope, number, path), read.version)
            except (AlreadyExistsError, PreconditionFailedError):
                continue
            return True
        raise self._conflict(number, f"the head changed {_MAX_ROUNDS} times while it was being fenced")

    def _decided(self, read: _Read, number: int, manifest: bytes) -> bool:
        if read.committed:
            # By the bytes: a nonce is the claim's, and a claim may have been found again by a second process.
            if read.committed.raw == manifest:
                return True
            head = read.committed.manifest.attempt
            if head >= number:
                kept = self.attempt(number)
                if kept and kept.raw == manifest:
                    # Committed and superseded since: the answer of our own put was lost in between.
                    return True
                raise self._conflict(number, _BY_ANOTHER if head == number else f"attempt {head} has committed")
        if number in read.fenced:
            raise self._conflict(number, "it was given up as abandoned and fenced")
        return False

    def _keep(self, old: _Read) -> None:
        if old.committed is not None:
            path = self._kept_path(old.committed.manifest.attempt)
            with contextlib.suppress(AlreadyExistsError):
                self._store.put_exclusive(path, encode_head(old.committed.raw))

    def _kept_path(self, number: int) -> str:
        return f"{layout.attempt_path(self._key, number)}/{layout.HEAD}"

    def _unknown(self, number: int) -> CommitStateUnknownError:
        message = (
            f"the store did not say whether the commit of attempt {number} of {self._key} was applied. Nothing was removed: resolve the key to see, "
            "or run the task again"
        )
        return CommitStateUnknownError(message, key=str(self._key), attempt=number)


class CommitFolder(CommitLog):
    """Commits as files of their own, created exclusively; the highest attempt is the head."""

    def head(self) -> Committed | None:
        for number in self._numbers():
            read = self._read(layout.commit_path(self._key, number))
            if read and read.committed:
                return read.committed
        return None

    def attempt(self, number: int) -> Committed | None:
        read = self._read(layout.commit_path(self._key, number))
        return read.committed if read else None

    def commit(self, number: int, manifest: bytes) -> None:
        self._refuse_if_superseded(number)
        path = layout.commit_path(self._key, number)
        try:
            self._store.put_exclusive(path, encode_head(manifest))
        except AlreadyExistsError:
            read = self._read(path)
            if read is None or read.committed is None:
                raise self._conflict(number, "it was given up as abandoned and fenced") from None
            if read.committed.raw != manifest:
                raise self._conflict(number, _BY_ANOTHER) from None
        except TransientStoreError as error:
            if (read := self._read(path)) is None or read.committed is None or read.committed.raw != manifest:
                message = f"the volume failed while attempt {number} of {self._key} was committed: {error}. Resolve the key to see whether it was"
                raise CommitStateUnknownError(message, key=str(self._key), attempt=number) from error
        # Looked at again after the link: a lower attempt that linked after a higher one was never the head, and must not call itself committed.
        self._refuse_if_superseded(number)

    def is_fenced(self, number: int) -> bool:
        read = self._read(layout.commit_path(self._key, number))
        return read is not None and number in read.fenced

    def fence(self, number: int) -> bool:
        path = layout.commit_path(self._key, number)
        try:
            self._store.put_exclusive(path, encode_head(None, [number]))
        except AlreadyExistsError:
            read = self._read(path)
            return read is None or read.committed is None
        return True

    def _refuse_if_superseded(self, number: int) -> None:
        for other in self._numbers():
            if other <= number:
                return
            read = self._read(layout.commit_path(self._key, other))
            if read and read.committed:
                raise self._conflict(number, f"attempt {other} has committed")

    def _numbers(self) -> list[int]:
        _, files = self._store.children(layout.commits_path(self._key))
        names = (info.path.rpartition("/")[2].removesuffix(".json") for info in files)
        return sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True)


def open_log(store: Store, key: TaskKey) -> CommitLog:
    """Return the commit log of a task, in the form its home store has."""
    return HeadObject(store, key) if store.can_compare_and_put else CommitFolder(store, key)


def decode_committed(envelope: bytes, key: TaskKey, where: str) -> Committed:
    """Return the committed attempt in an envelope that was remembered elsewhere.

    Raises:
        VerificationError: It holds none of this key.
    """
    raw = bytes(wire.decode(envelope, Head, where).manifest)
    manifest = wire.decode(raw, Manifest, where)
    manifest.check(key, where)
    return Committed(manifest, raw)
