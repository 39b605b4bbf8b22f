"""Making copies: many files, and the parts of large ones, side by side. What is read is dropped at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import StoreUnavailableError
from datalayer.resolve.bulk import side_by_side
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datalayer.hot.ledger import OutputRef
    from datalayer.hot.selecting import Wanted
    from datalayer.stores.hot import HotStore

# Alluxio keeps a part of a file when it was read from the part's beginning to its end, and this is how long its parts are.
_PART = 64 << 20
# It may do so a moment after it has answered.
_PATIENCE = 10.0
_PAUSE = 0.1


class Made(NamedTuple):
    """What became of one file."""

    wanted: Wanted
    after: int
    """Bytes of the file that are copies now."""
    dropped: bool = False
    """Whether it had to make room for somebody else's outputs before it was looked at."""


class _Part(NamedTuple):
    wanted: Wanted
    start: int
    end: int


def make_copies(
    store: HotStore,
    wanted: list[Wanted],
    dropped: Callable[[OutputRef], bool],
    parallel: int,
    progress: Callable[[int, int], None] | None,
) -> list[Made]:
    """Have the store make copies, and return how many bytes of each file are copies now.

    Args:
        store: The store.
        wanted: What.
        dropped: Tells whether somebody has dropped the copies of an output since it was noted as warmed.
        parallel: How many parts are read at once.
        progress: Called with the bytes that are done and those in all; from several threads, one at a time.

    Raises:
        NotFoundError: A committed file is gone from the cold tier.
        StoreUnavailableError: The hot tier does not hold what it was to hold.
        VerificationError: A file is not the one that was committed.
    """
    total = sum(one.bytes for one in wanted)
    done = 0
    lock = threading.Lock()

    def advance(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            if progress:
                progress(done, total)

    missing = [one for one in wanted if one.hot < one.bytes]
    advance(sum(one.bytes for one in wanted if one.hot >= one.bytes))

    def read(part: _Part) -> None:
        for piece in store.pieces(part.wanted.path, part.wanted.expected, part.start, part.end):
            store.receipt.count(Tier.HOT.value, "warm", calls=0, read=len(piece))
            advance(len(piece))
        store.receipt.count(Tier.HOT.value, "warm")

    before = _misses(store)
    for _ in side_by_side(read, _parts(missing), parallel):
        pass
    return [Made(one, one.before) for one in wanted if one.hot >= one.bytes] + _made(
        store, missing, dropped, parallel, before
    )


def _parts(wanted: list[Wanted]) -> Iterator[_Part]:
    for one in wanted:
        for start, end in one.spans:
            at = start
            while at < end:
                stop = min(end, at - at % _PART + _PART)
                yield _Part(one, at, stop)
                at = stop


def _made(
    store: HotStore,
    wanted: list[Wanted],
    dropped: Callable[[OutputRef], bool],
    parallel: int,
    before: dict[str, int],
) -> list[Made]:
    found: dict[str, Made] = {}
    patience = time.monotonic() + _PATIENCE
    pending = wanted
    while True:
        for one, after in side_by_side(
            lambda one: (one, store.resident(one.path, one.expected.length)), pending, parallel
        ):
            found[one.path] = Made(one, after)
        pending = [one for one in pending if found[one.path].after < _enough(one)]
        gone = {ref for ref in dict.fromkeys(one.ref for one in pending) if dropped(ref)}
        found |= {one.path: found[one.path]._replace(dropped=True) for one in pending if one.ref in gone}
        pending = [one for one in pending if one.ref not in gone]
        if not pending:
            return list(found.values())
        if time.monotonic() > patience or store.unavailable():
            break
        time.sleep(_PAUSE)
    short = sum(_enough(one) - found[one.path].after for one in pending)
    reasons = [reason for reason, count in _misses(store).items() if count > before.get(reason, 0)]
    reasons += [reason for reason in [store.unavailable()] if reason]
    raise StoreUnavailableError(
        f"{pending[0].ref}, file {pending[0].name!r}{f' and {len(pending) - 1} more' if len(pending) > 1 else ''}: the hot tier does not "
        f"hold {short} of the bytes it was warmed with ({'; '.join(dict.fromkeys(reasons)) or 'it does not say why'}). Readers get them from "
        "the cold tier; warm it again when the hot tier is well",
        tier=Tier.HOT.value,
        location=str(store.location(pending[0].path)),
    )


def _enough(wanted: Wanted) -> int:
    if wanted.bytes == wanted.expected.length:
        return wanted.bytes
    # A part of a file is not told from its other parts, and some tiers speak in whole percents.
    return max(0, wanted.bytes - -(-wanted.expected.length // 100))


def _misses(store: HotStore) -> dict[str, int]:
    receipt = store.receipt.by_tier().get(Tier.HOT.value)
    return receipt.misses if receipt else {}
