"""Copies that Spark reads by itself: those on this machine are held while it does, and a copy that fails it is told from lost data."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from datalayer.errors import DataLayerError, StoreUnavailableError, TransientStoreError
from datalayer.resolve.bulk import side_by_side
from datalayer.stores.base import Tier
from spark_env.alluxio import SCHEME, is_local
from spark_env.failures import is_missing_file, reason, spark_failure, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import SparkSession

    from datalayer.commit.manifest import Entry
    from datalayer.resolve.resolution import ResolvedOutput
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


class _Known(NamedTuple):
    store: HotStore
    prefix: str
    """What the URIs of its copies begin with."""


# One Spark runs in a process, whichever layers it reads for. So it is with what it reads, and how.
_known: dict[str, _Known] = {}
_held: dict[Path, contextlib.ExitStack] = {}


def remember(store: HotStore) -> None:
    """Have failures of Spark's reads from a store of copies explained."""
    url = getattr(store, "url", None)
    if url is None:
        folder = store.local_path("")
        url = f"file:{folder}" if folder else None
    if url is not None:
        _known[url] = _Known(store, f"{url}/")


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
    for store, prefix in _known.values():
        uri = next((uri for uri in named if uri.startswith(prefix)), None)
        if uri is not None:
            return _unreadable(store, uri, uri.removeprefix(prefix), failure)
    return None


@contextlib.contextmanager
def explaining() -> Iterator[None]:
    """Have an exception that ends the block explained, where a copy is to blame, and release copies at its end."""
    try:
        yield
    except Exception as error:
        told = None if isinstance(error, TransientStoreError) else explained(error)
        if told is None:
            raise
        raise told from error
    finally:
        release()


def _hold(output: ResolvedOutput, name: str) -> Path | None:
    stack = contextlib.ExitStack()
    store, path = output.store_path(name)
    where = stack.enter_context(store.hold(path))
    if where is None or where in _held:
        stack.close()
    else:
        _held[where] = stack
    return where


def _unavailable(text: str, cause: str) -> TransientStoreError | None:
    services = [known for known in _known.values() if known.prefix.startswith(f"{SCHEME}:")]
    if not services:
        return None
    store, prefix = next((one for one in services if one.prefix in text), services[-1])
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
