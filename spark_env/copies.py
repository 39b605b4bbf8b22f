"""Copies that Spark reads by itself: those on this machine are held while it does, and a copy that fails it is told from lost data."""

from __future__ import annotations

import contextlib
import re
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from datalayer.errors import DataLayerError, StoreUnavailableError, TransientStoreError
from datalayer.resolve.bulk import side_by_side
from datalayer.stores.base import Tier
from spark_env.alluxio import SCHEME, is_local
from spark_env.failures import is_missing_file, reason, spark_errors, spark_failure, words
from spark_env.statistics import count, moved

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import SparkSession

    from datalayer.commit.manifest import Entry
    from datalayer.layer import DataLayer
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.stores.hot import HotStore

MAX_HELD = 256
"""So many files of an output are held on this machine for Spark; each takes a descriptor. Of more it reads S3."""

_PARALLEL = 8
_READING = re.compile(r"while reading file ((?:alluxio|file):.+?)\.\s+SQLSTATE")
# Of Alluxio's failures, those of its service. Others are about one file.
_OUTAGE = re.compile(r"alluxio\.exception\.status\.(?:Unavailable|DeadlineExceeded)Exception: ?([^\n]*)")
_LONGEST_CAUSE = 200


class LocalCopies(NamedTuple):
    """Whole, verified copies on this machine, which stay."""

    folder: str
    """As a URI."""
    files: list[str]
    """As URIs, in the entries' order."""


# One Spark runs in a process, whichever layers it reads for. So it is with what it reads, and how.
_known: list[weakref.ref[HotStore]] = []
_held: dict[Path, contextlib.ExitStack] = {}


def remember(store: HotStore) -> None:
    """Have failures of Spark's reads from a store of copies explained."""
    _known[:] = [weakref.ref(store), *(one for one in _known if one() not in {None, store})]


def local_copies(session: SparkSession, output: ResolvedOutput, entries: Sequence[Entry]) -> LocalCopies | None:
    """Return where Spark finds an output's files on this machine, where they are kept as copies: made now if need be, and held.

    They are not dropped to make room before :func:`release` is called, or this process ends.

    Returns:
        None where Spark's executors are elsewhere, copies are not files of this machine, or not all of them can be had.
    """
    if output.tier is not Tier.HOT or not is_local(session.sparkContext.master or "") or len(entries) > MAX_HELD:
        return None
    found = list(side_by_side(lambda entry: _hold(output, entry.name), list(entries), _PARALLEL))
    paths = [path for path in found if path is not None]
    if len(paths) < len(entries):
        return None
    folder = str(paths[0]).removesuffix(f"/{entries[0].name}")
    return LocalCopies(f"file://{folder}", [f"file://{path}" for path in paths])


def release() -> None:
    """Let copies make room for others again: nothing reads them any more."""
    while _held:
        _, stack = _held.popitem()
        stack.close()


def explained(error: BaseException) -> TransientStoreError | None:
    """Return what happened where Spark failed because a copy did, or the server that holds it; None where it failed for another reason.

    The receipt notes it. A copy that could not be read is dropped.
    """
    failure = spark_failure(error)
    if failure is None:
        return None
    text = words(failure)
    named = [unquote(uri) for uri in _READING.findall(text)]
    outage = _OUTAGE.search(text)
    if outage is not None:
        return _unavailable(text, outage[1])
    for store, prefix in _stores():
        uri = next((uri for uri in named if uri.startswith(prefix)), None)
        if uri is not None:
            return _unreadable(store, uri, uri.removeprefix(prefix), failure)
    return None


@contextlib.contextmanager
def watching(session: SparkSession, layer: DataLayer) -> Iterator[None]:
    """Watch what Spark reads for a layer while the block runs.

    Where a copy is to blame for an exception that ends it, another one says so. What Spark moved is in the receipt then, and the copies that
    were held for it are not any more.
    """
    before = moved(session)
    try:
        yield
    except Exception as error:  # py4j's errors and ours alike; what is not known is raised on
        told = None if isinstance(error, TransientStoreError) else explained(error)
        if told is None:
            raise
        raise told from error
    finally:
        release()
        # The JVM may be gone by now.
        with contextlib.suppress(*spark_errors(), OSError):
            count(layer, before, moved(session))


def _hold(output: ResolvedOutput, name: str) -> Path | None:
    stack = contextlib.ExitStack()
    store, path = output.store_path(name)
    where = stack.enter_context(store.hold(path))
    if where is None or where in _held:
        stack.close()
    else:
        _held[where] = stack
    return where


def _stores() -> list[tuple[HotStore, str]]:
    """Return the stores, the one that was remembered last first, with what the URIs of their copies begin with."""
    alive = [store for one in _known if (store := one()) is not None]
    urls = [(store, getattr(store, "url", None) or f"file://{store.local_path('')}") for store in alive]
    return [(store, f"{url}/") for store, url in urls]


def _unavailable(text: str, cause: str) -> TransientStoreError | None:
    services = [(store, prefix) for store, prefix in _stores() if prefix.startswith(f"{SCHEME}:")]
    if not services:
        return None
    store, prefix = next((one for one in services if one[1] in text), services[0])
    store.receipt.miss(Tier.HOT.value, "unavailable")
    return StoreUnavailableError(
        f"Alluxio did not serve Spark, which read {prefix.rstrip('/')} ({cause[:_LONGEST_CAUSE].strip()}). "
        f"Run it again: as long as Alluxio does not serve, {store.cold.root} is read instead",
        tier=Tier.HOT.value,
        location=prefix,
    )


def _unreadable(store: HotStore, uri: str, path: str, failure: BaseException) -> TransientStoreError:
    store.receipt.miss(Tier.HOT.value, "dropped" if is_missing_file(failure) else "corrupt")
    try:
        store.evict([path])
    except DataLayerError as error:
        task = path.partition("/attempts/")[0]
        done = f"It could not be dropped: {error}. Drop it with 'datalayer hot evict {task}', and run this again"
    else:
        done = f"It is dropped. Run this again: it is fetched anew from {store.cold.root}"
    return TransientStoreError(
        f"Spark could not read {uri}, the copy of a committed file, which is damaged or was taken away ({reason(failure)[:_LONGEST_CAUSE]}). "
        f"{done}",
        tier=Tier.HOT.value,
        location=uri,
    )
