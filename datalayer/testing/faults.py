"""``FaultyStore``: a store whose n-th call goes wrong as scripted, before it is applied or after."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NoReturn, TypeVar

from datalayer.errors import StoreUnavailableError
from datalayer.stores.base import ObjectInfo, Store, StoreWriter
from datalayer.stores.wrapping import WrappingStore

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator

_T = TypeVar("_T")

READS = frozenset({"head", "get", "get_range", "open", "stream", "stream_range", "list", "children"})
WRITES = frozenset({"put", "put_exclusive", "compare_and_put", "writer", "write", "close", "copy", "delete"})
ALL = READS | WRITES


def stale_handle(location: object) -> StoreUnavailableError:
    """Return the error of a volume whose handles stay stale however often they are opened anew."""
    error = StoreUnavailableError(
        f"{location}: the file handle is stale, also when opened anew", location=str(location)
    )
    error.__cause__ = OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return error


def kill_this_process() -> NoReturn:
    """End this process as SIGKILL does: nothing is flushed, no ``finally`` runs."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL does not return")


@dataclass
class Fault:
    """What goes wrong, and when. Calls are counted from 1, over all the verbs of the fault together."""

    verbs: frozenset[str] = ALL
    """Method names of ``Store``; ``write`` and ``close`` are those of its writers."""
    at: int = 1
    """The first call that it strikes."""
    times: int = 1
    """How many calls it strikes; -1 for all from the first on."""
    path: str = ""
    """Only calls with this text in their path."""
    delay: float = 0.0
    """Seconds to wait before the call."""
    before: Callable[[], object] | BaseException | None = None
    """Raised, or called, instead of applying the call if it raises: nothing happened."""
    after: Callable[[], object] | BaseException | None = None
    """Raised, or called, when the call is applied: its answer is lost if it raises."""
    seen: int = field(default=0, repr=False)
    """How many calls it has counted."""

    def strikes(self, verb: str, path: str) -> bool:
        """Count a call, and say whether it is struck."""
        if verb not in self.verbs or self.path not in path:
            return False
        self.seen += 1
        return self.seen >= self.at and (self.times < 0 or self.seen < self.at + self.times)


class FaultyStore(WrappingStore):
    """A store with scripted faults, and a log of its calls.

    Args:
        inner: The store that does the work.
        faults: Of several that strike one call, the first acts.
    """

    def __init__(self, inner: Store, *faults: Fault) -> None:
        super().__init__(inner)
        self.faults = list(faults)
        self.calls: list[tuple[str, str]] = []
        """Verb and path of every call so far."""
        self._lock = threading.Lock()

    def head(self, path: str) -> ObjectInfo:
        return self.call("head", path, lambda: self.inner.head(path))

    def get(self, path: str) -> tuple[bytes, ObjectInfo]:
        return self.call("get", path, lambda: self.inner.get(path))

    def get_range(self, path: str, start: int, length: int) -> bytes:
        return self.call("get_range", path, lambda: self.inner.get_range(path, start, length))

    def open(self, path: str) -> BinaryIO:
        return self.call("open", path, lambda: self.inner.open(path))

    def stream(self, path: str, *, chunk_size: int = 8 << 20) -> Iterator[bytes]:
        return self.call("stream", path, lambda: self.inner.stream(path, chunk_size=chunk_size))

    def stream_range(self, path: str, start: int, end: int, *, piece: int = 8 << 20) -> Iterator[bytes]:
        return self.call("stream_range", path, lambda: self.inner.stream_range(path, start, end, piece=piece))

    def put(self, path: str, data: bytes) -> ObjectInfo:
        return self.call("put", path, lambda: self.inner.put(path, data))

    def put_exclusive(self, path: str, data: bytes) -> ObjectInfo:
        return self.call("put_exclusive", path, lambda: self.inner.put_exclusive(path, data))

    def compare_and_put(self, path: str, data: bytes, version: str) -> ObjectInfo:
        return self.call("compare_and_put", path, lambda: self.inner.compare_and_put(path, data, version))

    def writer(self, path: str) -> StoreWriter:
        return self.call("writer", path, lambda: _FaultyWriter(self, path, self.inner.writer(path)))

    def copy(self, source: str, target: str) -> ObjectInfo:
        return self.call("copy", target, lambda: self.inner.copy(source, target))

    def delete(self, paths: Iterable[str]) -> None:
        wanted = [*paths]
        self.call("delete", " ".join(wanted), lambda: self.inner.delete(wanted))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self.call("list", prefix, lambda: self.inner.list(prefix))

    def children(self, prefix: str) -> tuple[builtins.list[str], builtins.list[ObjectInfo]]:
        return self.call("children", prefix, lambda: self.inner.children(prefix))

    def call(self, verb: str, path: str, apply: Callable[[], _T]) -> _T:
        """Apply a call, with the fault that strikes it."""
        with self._lock:
            self.calls.append((verb, path))
            # Each fault counts the call, so all are asked.
            struck = [fault for fault in self.faults if fault.strikes(verb, path)]
        if not struck:
            return apply()
        fault = struck[0]
        time.sleep(fault.delay)
        _act(fault.before)
        result = apply()
        _act(fault.after)
        return result


class _FaultyWriter(StoreWriter):
    def __init__(self, store: FaultyStore, path: str, inner: StoreWriter) -> None:
        self._store = store
        self._path = path
        self._inner = inner

    def write(self, data: bytes | bytearray | memoryview) -> int:
        return self._store.call("write", self._path, lambda: self._inner.write(data))

    def close(self) -> ObjectInfo:
        return self._store.call("close", self._path, self._inner.close)

    def discard(self) -> None:
        self._inner.discard()


def _act(what: Callable[[], object] | BaseException | None) -> None:
    if isinstance(what, BaseException):
        raise what
    if what is not None:
        what()
