"""``doctor``: asks each configured store for what the library relies on, and says what would break without it.

Everything happens in a folder of its own below each root, which is removed afterwards.
"""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import (
    AlreadyExistsError,
    ConfigError,
    DataLayerError,
    NotFoundError,
    PreconditionFailedError,
    StoreError,
    VerificationError,
)
from datalayer.stores.base import Tier
from datalayer.testing.races import run_races

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datalayer.layer import DataLayer
    from datalayer.stores.base import Store

OK = "ok"
WARNING = "warning"
FAILED = "failed"

_RACES = 30
_RACERS = 16
_LISTED = 50
_LARGE_BYTES = 9 << 20
_MAX_SKEW = timedelta(minutes=1)


class Finding(NamedTuple):
    """What one check found."""

    status: str
    """``ok``, ``warning`` or ``failed``."""
    tier: str
    check: str
    detail: str
    breaks: str = ""
    """What does not work, or not safely, because of it."""


class _Check(NamedTuple):
    name: str
    run: Callable[[Store, str], str]
    """Returns what was found, or raises."""
    breaks: str


class _Wrong(Exception):  # noqa: N818  # it never leaves this module
    """A check's answer was not the right one."""


def doctor(layer: DataLayer, *, progress: Callable[[str], None] | None = None) -> Iterator[Finding]:
    """Yield a finding for each check of each configured store, and of how they belong together.

    Args:
        layer: The layer whose stores are checked.
        progress: Called with the check that begins.
    """
    for tier in (Tier.SHARED, Tier.COLD):
        try:
            store = layer.store(tier)
        except ConfigError:
            continue
        yield from _store(store, progress)
    if Tier.HOT in layer.design.reads:
        yield from _hot(layer, progress)
    yield from _home(layer)


def _store(store: Store, progress: Callable[[str], None] | None) -> Iterator[Finding]:
    # `~` is in no encoded name, so nobody takes the folder for a team.
    folder = f"doctor~{secrets.token_hex(8)}"
    tier = store.tier.value
    try:
        for check in _CHECKS:
            if check.run is _compare_and_put and not store.can_compare_and_put:
                continue
            if check.run is _durable and store.local_path("") is None:
                continue
            if progress:
                progress(f"{tier}: {check.name}")
            try:
                yield Finding(OK, tier, check.name, check.run(store, f"{folder}/{check.run.__name__}"))
            except _Wrong as wrong:
                yield Finding(FAILED, tier, check.name, str(wrong), check.breaks)
            except (DataLayerError, OSError) as error:
                yield Finding(FAILED, tier, check.name, f"{type(error).__name__}: {error}", check.breaks)
                if check.run is _reachable:
                    return
        yield _clock(store, f"{folder}/clock")
    finally:
        _clear(store, folder)


def _hot(layer: DataLayer, progress: Callable[[str], None] | None) -> Iterator[Finding]:
    from datalayer.doctor_hot import hot_findings

    cold = layer.store(layer.design.data)
    folder = f"doctor~{secrets.token_hex(8)}"
    try:
        yield from hot_findings(layer, folder, progress)
    finally:
        _clear(cold, folder)


def _reachable(store: Store, path: str) -> str:
    data = secrets.token_bytes(1000)
    store.put(path, data)
    found, info = store.get(path)
    _expect(found == data and info.size == len(data), "what was read is not what was written")
    store.delete([path])
    try:
        store.head(path)
    except NotFoundError:
        return f"{store.root} takes, returns and deletes an object"
    raise _Wrong("an object that was deleted is still there")


def _exclusive(store: Store, path: str) -> str:
    store.put_exclusive(path, b"1")
    try:
        store.put_exclusive(path, b"2")
    except AlreadyExistsError:
        _expect(store.get(path)[0] == b"1", "an exclusive put that was refused has changed the object")
        return "a second exclusive put is refused"
    raise _Wrong("a second exclusive put of the same object succeeded")


def _compare_and_put(store: Store, path: str) -> str:
    old = store.put(path, b"1").version
    store.compare_and_put(path, b"2", old)
    try:
        store.compare_and_put(path, b"3", old)
    except PreconditionFailedError:
        return "a put that names another version is refused"
    raise _Wrong("a put that names another version succeeded")


def _races(store: Store, path: str) -> str:
    races = run_races(store, _RACES, _RACERS, folder=path)
    _expect(races.fair, f"{len(races.wrong)} of {races.count} races went wrong: {'; '.join(races.wrong[:3])}")
    return f"{races.count} races of {_RACERS} writers, one winner each"


def _ranges(store: Store, path: str) -> str:
    data = secrets.token_bytes(300_000)
    store.put(path, data)
    _expect(store.get_range(path, 100_001, 1000) == data[100_001:101_001], "a range read returned other bytes")
    with store.open(path) as file:
        file.seek(-10, os.SEEK_END)
        _expect(file.read() == data[-10:], "the end of the file read otherwise")
    try:
        store.get_range(path, len(data) - 5, 10)
    except VerificationError:
        return "ranges are exact, and one beyond the end is an error"
    raise _Wrong("a range beyond the end was answered as if it were whole")


def _listing(store: Store, path: str) -> str:
    wanted = {f"{path}/{number % 3}/{number}" for number in range(_LISTED)}
    for name in wanted:
        store.put(name, b"1")
    _expect({info.path for info in store.list(path)} == wanted, "a listing misses objects that were just written")
    _expect(store.children(path)[0] == ["0", "1", "2"], "a listing of one level has other folders")
    store.delete(wanted)
    _expect(not list(store.list(path)), "a listing shows objects that were just deleted")
    return f"{_LISTED} objects are listed as soon as they are written, and no longer once they are deleted"


def _names(store: Store, path: str) -> str:
    for name in ("year=2013/part 0%2F+#?&.csv", "é-日本.csv", "a..b/~x!.csv"):
        store.put(f"{path}/{name}", name.encode())
        listed = (
            [info.path for info in store.list(f"{path}/{name.split('/')[0]}")] if "/" in name else [f"{path}/{name}"]
        )
        _expect(
            store.get(f"{path}/{name}")[0] == name.encode() and listed == [f"{path}/{name}"],
            f"the file name {name!r} comes back as another one",
        )
    return "file names with spaces, =, %, + and other scripts are kept as they are"


def _large(store: Store, path: str) -> str:
    chunk = secrets.token_bytes(1 << 20)
    with store.writer(path) as writer:
        for _ in range(_LARGE_BYTES // len(chunk)):
            writer.write(chunk)
    _expect(store.head(path).size == _LARGE_BYTES, "a large object landed with another size")
    dropped = store.writer(f"{path}-dropped")
    dropped.write(chunk * 6)
    dropped.discard()
    try:
        store.head(f"{path}-dropped")
    except NotFoundError:
        return f"{_LARGE_BYTES >> 20} MiB written in pieces become visible whole, and dropped ones never"
    raise _Wrong("a writer that was dropped left a visible object")


def _durable(store: Store, path: str) -> str:
    folder = store.local_path(path)
    if folder is None:
        raise _Wrong("the store is not mounted")
    folder.mkdir(parents=True)
    try:
        file = folder / "a"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, b"1")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(file, folder / "b")
        try:
            os.link(file, folder / "b")
        except FileExistsError:
            pass
        else:
            raise _Wrong("link(2) replaced a file that was there")
        file.rename(folder / "c")
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        _expect(sorted(found.name for found in folder.iterdir()) == ["b", "c"], "link and rename left other names")
    finally:
        for left in list(folder.iterdir()):
            left.unlink()
        folder.rmdir()
    return "link, rename, and fsync of files and folders work"


_CHECKS = (
    _Check("reachable and writable", _reachable, "Nothing works on this tier."),
    _Check(
        "exclusive put",
        _exclusive,
        "Two attempts could take the same number and overwrite each other's files.",
    ),
    _Check(
        "compare-and-put",
        _compare_and_put,
        "A commit could replace a newer one: a job that was given up could overwrite its successor's output.",
    ),
    _Check(
        "one winner under concurrency",
        _races,
        "When two attempts claim or commit in the same moment, both may believe they won, and one output is lost without an error. "
        "Do not use this store as home where retries can overlap.",
    ),
    _Check("range reads", _ranges, "Parquet files would be read wrongly, or truncated files taken for whole ones."),
    _Check(
        "listing",
        _listing,
        "What Spark or a container wrote is committed by one listing: files could be missing from an output.",
    ),
    _Check("file names", _names, "Partitioned outputs (year=2013/…) and files with such names could not be read back."),
    _Check("large files", _large, "Large outputs could be visible half-written."),
    _Check(
        "link, rename and fsync",
        _durable,
        "Commits on this volume would not be exclusive, or could be lost when a machine fails.",
    ),
)


def _clock(store: Store, path: str) -> Finding:
    check = "clock"
    try:
        before = datetime.now(UTC)
        store.put(path, b"")
        after = datetime.now(UTC)
        theirs = store.head(path).modified
    except StoreError as error:
        return Finding(FAILED, store.tier.value, check, str(error), "Its clock could not be read.")
    # Stores count whole seconds at times.
    skew = max(before - theirs - timedelta(seconds=1), theirs - after - timedelta(seconds=1), timedelta(0))
    if skew <= _MAX_SKEW:
        return Finding(
            OK,
            store.tier.value,
            check,
            f"within {max(skew, timedelta(seconds=1)).total_seconds():.0f} s of this machine's",
        )
    breaks = "Commits and sweeps do not use this machine's clock, but S3 refuses requests that are signed 15 minutes off. Set the clock by NTP."
    return Finding(WARNING, store.tier.value, check, f"{skew.total_seconds():.0f} s apart from this machine's", breaks)


def _home(layer: DataLayer) -> Iterator[Finding]:
    tier = layer.home_tier.value
    check = "home"
    where = f"manifests live on {tier}, {layer.home.root}"
    if layer.home.local_path("") is not None:
        breaks = (
            "Every machine that starts, runs or waits for a task must mount this volume at the same place. "
            "On a cluster configure an S3 tier: it becomes the home."
        )
        yield Finding(WARNING, tier, check, f"{where}: a volume", breaks)
    elif layer.home.root.scheme == "memory":
        yield Finding(WARNING, tier, check, f"{where}: memory", "Everything ends with this process.")
    else:
        yield Finding(OK, tier, check, where)


def _clear(store: Store, folder: str) -> None:
    try:
        store.reap_uploads(folder, timedelta(seconds=-1))
        store.delete(info.path for info in list(store.list(folder)))
    except StoreError:
        # It is the finding already that the store fails.
        return


def _expect(right: bool, otherwise: str) -> None:
    if not right:
        raise _Wrong(otherwise)
