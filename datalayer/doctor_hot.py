"""What ``doctor`` asks of the hot tier: that it shows the cold tier's bytes, keeps and drops copies, and has room for its budget."""

from __future__ import annotations

import secrets
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from datalayer.config import HotConfig
from datalayer.doctor import FAILED, OK, WARNING, Finding
from datalayer.errors import DataLayerError
from datalayer.hot.sizes import size_text
from datalayer.stores.base import Expected, Tier
from datalayer.stores.checksum import Crc32c, parse_blocks, parse_checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from datalayer.layer import DataLayer
    from datalayer.stores.hot import HotStore

_BYTES = (5 << 20) + 7  # More than one block, and not a whole number of anything.
_PATIENCE = 10.0
_PAUSE = 0.1
_HELD = timedelta(minutes=10)

_HOT = Tier.HOT.value
_BREAKS_READING = "Reads go to the cold tier: nothing fails, and nothing is faster than under s3-direct."
_BREAKS_DROPPING = "hot.budget cannot be kept, and a damaged copy stays."
_BREAKS_PINNING = "What a coming task will read may have made room for others by then."
_BREAKS_PATHS = "Programs that read through it would get other bytes than were committed."
_BREAKS_ALLUXIO = f"{_BREAKS_READING} Check hot.proxy, and that Alluxio's master, worker and proxy run."
_BREAKS_FOLDER = f"{_BREAKS_READING} Name a folder that this user may make and write to as hot.url."
_BREAKS_SMALL = "Larger files are not kept at all. Give hot.budget more."
_BREAKS_BUDGET = "Copies go before the budget is used up. Set hot.budget to what there is, or make room."


class _Probe(NamedTuple):
    store: HotStore
    path: str
    data: bytes
    expected: Expected


class _Wrong(Exception):  # noqa: N818  # it never leaves this module
    """A check's answer was not the right one."""


def hot_findings(layer: DataLayer, folder: str, progress: Callable[[str], None] | None) -> Iterator[Finding]:
    """Yield a finding for each check of a layer's hot tier.

    Args:
        layer: A layer whose design has a hot tier.
        folder: A folder of the cold tier, which is the caller's to clear.
        progress: Called with the check that begins.

    Raises:
        StoreError: The cold tier failed.
    """
    try:
        probe = _probe(layer.hot_store, f"{folder}/hot")
    except DataLayerError as error:
        yield Finding(
            FAILED,
            _HOT,
            "configured, on a cold tier that works",
            f"{type(error).__name__}: {error}",
            "Nothing can be read under this design.",
        )
        return
    yield from _probed(layer, probe, progress)


def _probed(layer: DataLayer, probe: _Probe, progress: Callable[[str], None] | None) -> Iterator[Finding]:
    settings = layer.config.hot or HotConfig()
    unreachable = _unreachable(layer)
    if unreachable is not None:
        yield Finding(FAILED, _HOT, "reachable", unreachable, _BREAKS_ALLUXIO if settings.alluxio else _BREAKS_FOLDER)
        return
    yield Finding(OK, _HOT, "reachable", "it answers")
    needed = _BYTES + layer.hot_store.overhead
    small = settings.budget_bytes < needed
    if small:
        detail = f"{size_text(settings.budget_bytes)}, less than the {size_text(needed)} that are read through it here: not all was tried"
        yield Finding(WARNING, _HOT, "budget", detail, _BREAKS_SMALL)
    if (yield from _checked(probe, progress, skipped=(_keeps, _path, _drops) if small else ())):
        if not small:
            yield from _budget(layer, settings)
        if settings.mount and layer.hot_store.local_path("") is None:
            detail = f"{Path(settings.mount)} does not show the hot tier"
            yield Finding(WARNING, _HOT, "mount", detail, "Programs get copies of their inputs instead of links.")


def _checked(
    probe: _Probe, progress: Callable[[str], None] | None, skipped: tuple[Callable[[_Probe], str | None], ...]
) -> Generator[Finding, None, bool]:
    """Yield what the checks of a tier that answers find; return whether it shows the right bytes, so that there is more to look at."""
    checks: tuple[tuple[str, Callable[[_Probe], str | None], str], ...] = (
        ("same bytes as the cold tier", _same, _BREAKS_READING),
        ("keeps copies", _keeps, _BREAKS_READING),
        ("files on this machine", _path, _BREAKS_PATHS),
        ("pins", _pins, _BREAKS_PINNING),
        ("drops copies", _drops, _BREAKS_DROPPING),
    )
    for name, check, breaks in checks:
        if check in skipped:
            continue
        if progress:
            progress(f"{_HOT}: {name}")
        try:
            detail = check(probe)
        except _Wrong as wrong:
            yield Finding(FAILED, _HOT, name, str(wrong), breaks)
        except (DataLayerError, OSError) as error:
            yield Finding(FAILED, _HOT, name, f"{type(error).__name__}: {error}", breaks)
            if check is _same:
                return False
        else:
            if detail is not None:
                yield Finding(OK, _HOT, name, detail)
    return True


def _unreachable(layer: DataLayer) -> str | None:
    try:
        return layer.hot_store.out_of_service()
    except DataLayerError as error:
        return f"{type(error).__name__}: {error}"


def _probe(store: HotStore, path: str) -> _Probe:
    data = secrets.token_bytes(_BYTES)
    store.cold.put(path, data)
    crc = Crc32c()
    crc.update(data)
    return _Probe(
        store, path, data, Expected(_BYTES, parse_checksum(crc.text()), parse_blocks(crc.blocks() or "", _BYTES))
    )


def _same(probe: _Probe) -> str:
    for _ in range(2):
        found = b"".join(probe.store.pieces(probe.path, probe.expected, 0, _BYTES))
        if found != probe.data:
            raise _Wrong("what was read through it is not what was written to the cold tier")
    if probe.store.unavailable() is not None:
        raise _Wrong(f"it does not serve: {probe.store.unavailable()}")
    return f"{size_text(_BYTES)}, read through it twice"


def _keeps(probe: _Probe) -> str:
    if not _becomes(lambda: probe.store.resident(probe.path, _BYTES) == _BYTES):
        held = probe.store.resident(probe.path, _BYTES)
        receipt = probe.store.receipt.by_tier().get(_HOT)
        reasons = ", ".join(receipt.misses) if receipt else ""
        raise _Wrong(
            f"of {_BYTES} bytes that were read through it, {held} are copies (passed on: {reasons or 'nothing'})"
        )
    return "what was read is a copy"


def _path(probe: _Probe) -> str | None:
    place = probe.store.local_path(probe.path)
    if place is None:
        return None
    if place.read_bytes() != probe.data:
        raise _Wrong(f"{place} is not what was written to the cold tier")
    return f"the same bytes under {place}"


def _pins(probe: _Probe) -> str:
    probe.store.pin([probe.path], datetime.now(UTC) + _HELD)
    probe.store.unpin([probe.path])
    return "taken and taken back"


def _drops(probe: _Probe) -> str:
    probe.store.evict([probe.path])
    if not _becomes(lambda: probe.store.resident(probe.path, _BYTES) == 0):
        raise _Wrong("a copy that was dropped is still there")
    return "a copy that is dropped is gone"


def _budget(layer: DataLayer, settings: HotConfig) -> Iterator[Finding]:
    budget, room = settings.budget_bytes, None
    try:
        if settings.alluxio:
            from datalayer.stores.alluxio import AlluxioStore

            if isinstance(layer.hot_store, AlluxioStore) and (usage := layer.hot_store.usage()):
                room = usage.capacity
        else:
            from datalayer.stores.node_cache import NodeCache

            if isinstance(layer.hot_store, NodeCache):
                room = shutil.disk_usage(layer.hot_store.folder).free + layer.hot_store.usage().held
    except (DataLayerError, OSError) as error:
        yield Finding(WARNING, _HOT, "budget", f"{type(error).__name__}: {error}", _BREAKS_BUDGET)
        return
    if room is not None:
        enough = room >= budget
        detail = f"{size_text(budget)}; there is room for {size_text(room)}"
        yield Finding(OK if enough else WARNING, _HOT, "budget", detail, "" if enough else _BREAKS_BUDGET)


def _becomes(wanted: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE
    while not (so := wanted()) and time.monotonic() < end:
        time.sleep(_PAUSE)
    return so
