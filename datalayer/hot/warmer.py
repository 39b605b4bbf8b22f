"""``Warmer``: outputs made hot within the budget, and dropped again, with what the ledger has to know of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import ResolutionError, StoreUnavailableError, VerificationError
from datalayer.hot.budget import Budget, Held, held
from datalayer.hot.copying import make_copies
from datalayer.hot.ledger import Ledger, Notes, OutputRef
from datalayer.hot.selecting import LeftOut, paths_of, select
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datalayer.hot.copying import Made
    from datalayer.hot.leases import Leases
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.stores.hot import HotStore

PARALLEL = 8
"""How many files, or parts of large ones, are warmed at once unless it is said otherwise."""


class Selection(NamedTuple):
    """What of an output is wanted."""

    files: Sequence[str] | None = None
    """Names of files, or folders of them; None for all."""
    columns: Sequence[str] | None = None
    """Columns of Parquet files; None for whole files."""


class Warmed(NamedTuple):
    """What became of warming."""

    files: int
    bytes: int
    """Of those files, or of the columns of them."""
    fetched: int
    """Bytes of copies that were made. They can be more than were asked for: copies are made in blocks."""
    hot: int
    """Bytes that were copies before."""
    evicted: tuple[str, ...]
    """The outputs that had to make room, coldest first."""
    left_out: tuple[LeftOut, ...]


class Warmer:
    """Makes copies of outputs, and drops them.

    Args:
        store: Where the copies are.
        ledger: Where it is noted.
        leases: Who has pinned what.
        budget: How much may be hot.
        find: Returns the output that a note is about.
    """

    def __init__(
        self,
        store: HotStore,
        ledger: Ledger,
        leases: Leases,
        budget: Budget,
        find: Callable[[OutputRef], ResolvedOutput],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._leases = leases
        self._budget = budget
        self._find = find

    def warm(
        self,
        outputs: list[ResolvedOutput],
        notes: Notes,
        selection: Selection | None = None,
        *,
        parallel: int = PARALLEL,
        progress: Callable[[int, int], None] | None = None,
    ) -> Warmed:
        """Make copies of what is selected of some outputs; see ``HotTier.warm``, which says what it raises.

        Args:
            outputs: All of the kind that copies are made of.
            notes: What is noted now.
            selection: By default everything.
            parallel: How many files, or parts of large ones, are read at once.
            progress: Called with the bytes that are done and those in all.
        """
        self._check_available()
        files, columns = selection or Selection()
        wanted = [one for output in outputs for one in select(self._store, output, files, columns, parallel)]
        for output in outputs:
            ref = OutputRef.of(output)
            sizes = [one.bytes for one in wanted if one.ref == ref]
            self._budget.check(ref, Held(len(sizes), sum(sizes)))
        room = self._budget.make_room(wanted, notes, datetime.now(UTC))
        for ref in room.evict:
            self._drop_noted(ref)
        refs = list(dict.fromkeys(one.ref for one in room.warm))
        for ref in refs:
            # Before the bytes: what a process that ends in between has made is known, too.
            copies = [(one.expected.length, max(one.before, one.bytes)) for one in room.warm if one.ref == ref]
            self._ledger.warmed(ref, *held(ref, copies, notes))
        for output in outputs:
            if OutputRef.of(output) in notes.outputs:
                # The hot tier of another machine knows nothing of a pin before somebody warms there.
                self._leases.renew(output, notes.outputs[OutputRef.of(output)])
        made = make_copies(self._store, room.warm, self._dropped, parallel, progress)
        for ref in refs:
            own = [one for one in made if one.wanted.ref == ref]
            if any(one.after or not one.dropped for one in own):
                copies = [(one.wanted.expected.length, one.after) for one in own]
                self._ledger.warmed(ref, *held(ref, copies, notes))
        return _result(made, tuple(map(str, room.evict)), room.left_out)

    def drop(self, output: ResolvedOutput) -> None:
        """Drop an output's copies, and forget that there were any."""
        self._store.evict(paths_of(output))
        self._ledger.forget([OutputRef.of(output)])

    def _dropped(self, ref: OutputRef) -> bool:
        return self._ledger.of(ref).warmed is None

    def _drop_noted(self, ref: OutputRef) -> None:
        try:
            self.drop(self._find(ref))
        except (ResolutionError, VerificationError):
            self._ledger.forget([ref])  # The attempt is gone, and its bytes with it.

    def _check_available(self) -> None:
        reason = self._store.unavailable()
        if reason is not None:
            raise StoreUnavailableError(
                f"the hot tier does not serve: {reason}. Nothing was warmed; readers get the cold tier's bytes",
                tier=Tier.HOT.value,
                location=str(self._store.location()),
            )


def _result(made: list[Made], evicted: tuple[str, ...], left_out: list[LeftOut]) -> Warmed:
    kept = [one for one in made if not one.dropped]
    asked = sum(one.wanted.bytes for one in kept)
    fetched = sum(max(0, one.after - one.wanted.before) for one in kept)
    hot = sum(max(0, one.wanted.bytes - max(0, one.after - one.wanted.before)) for one in kept)
    reason = "it had to make room for what others warm at the same time; pin it to keep it"
    dropped = [LeftOut(str(one.wanted.ref), one.wanted.name, one.wanted.bytes, reason) for one in made if one.dropped]
    return Warmed(len(kept), asked, fetched, hot, evicted, (*left_out, *dropped))
