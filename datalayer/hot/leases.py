"""Leases: who has pinned what until when, in the ledger and in the store.

Whatever is told to the store follows what the ledger says, and is told before a lease is removed from it: a process that ends in between
leaves a lease that ends by itself, or one that is removed again. Where two do this at once, whoever is last finds the other's lease.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from datalayer.errors import (
    ConfigError,
    DataLayerError,
    InvalidKeyError,
    NotFoundError,
    ResolutionError,
    StoreError,
    VerificationError,
)
from datalayer.hot.ledger import Lease, Ledger, Noted, Notes, OutputRef
from datalayer.hot.selecting import paths_of
from datalayer.resolve.bulk import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datalayer.addresses.keys import TaskKey
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.stores.hot import HotStore

LEASE = timedelta(hours=24)
"""How long a pin holds unless it is said otherwise."""

_LONGEST = timedelta(days=366)
_LONGEST_HOLDER = 2000
_PARALLEL = 8


class Leases:
    """The leases on the outputs of one home."""

    def __init__(self, ledger: Ledger, store: HotStore, output: Callable[[OutputRef], ResolvedOutput]) -> None:
        self._ledger = ledger
        self._store = store
        self._output = output

    def take(self, output: ResolvedOutput, holders: Sequence[str], ttl: timedelta) -> datetime:
        """Take a lease for each holder, in the place of one that it has, and pin the output. Return when it ends.

        Raises:
            ConfigError: The time to live is none.
            InvalidKeyError: A holder is no text.
            StoreError: The lease could not be noted; or the store could not pin, and then it is told again when the output is warmed.
        """
        check_ttl(ttl)
        for holder in holders:
            check_holder(holder)
        ref, until = OutputRef.of(output), datetime.now(UTC) + ttl
        for _ in side_by_side(lambda holder: self._ledger.lease(ref, holder, until), holders, _PARALLEL):
            pass
        self.renew(output, self._ledger.of(ref))
        return until

    def take_all(self, outputs: Sequence[ResolvedOutput], holder: str, ttl: timedelta) -> datetime:
        """Take a holder's lease on each of some outputs and pin them; or none of them: what was taken is undone where one cannot be pinned.

        Returns:
            When they end.

        Raises:
            DataLayerError: As for :meth:`take`. Leases that the holder had before end when they did.
        """
        check_ttl(ttl)
        check_holder(holder)
        before = [self._ledger.of(OutputRef.of(output)) for output in outputs]
        until, tried = datetime.min.replace(tzinfo=UTC), 0
        try:
            for output in outputs:
                tried += 1
                until = max(until, self.take(output, [holder], ttl))
        except DataLayerError:
            for output, noted in zip(outputs[:tried], before, strict=False):
                # Where that fails, too, the lease ends by itself.
                with contextlib.suppress(StoreError):
                    self._undo(output, noted, holder)
            raise
        return until

    def renew(self, output: ResolvedOutput, noted: Noted) -> None:
        """Pin an output in the store for as long as its leases say, if there are any."""
        live = noted.live(datetime.now(UTC))
        if live:
            self._store.pin(paths_of(output), max(lease.until for lease in live))

    def release(self, holder: str, key: TaskKey, only: OutputRef | None = None) -> list[OutputRef]:
        """Remove a holder's leases on a task's outputs, of every attempt or on one output alone. Return the outputs that it held.

        Raises:
            StoreError: The home store failed, or the hot tier did not take the pin back; the lease is still there.
        """
        found = self._ledger.read(key.path).outputs
        held = [
            (noted, [lease for lease in noted.leases if lease.holder == holder])
            for ref, noted in sorted(found.items())
            if ref.key == key and only in {None, ref}
        ]
        held = [(noted, leases) for noted, leases in held if leases]
        for noted, leases in held:
            self._remove(noted, leases)
        return [noted.ref for noted, _ in held]

    def expire(self, notes: Notes) -> tuple[Notes, list[tuple[OutputRef, Lease]]]:
        """Remove the leases that have ended; return what is left, and what was removed.

        Raises:
            StoreError: As for :meth:`release`.
        """
        now = datetime.now(UTC)
        left, removed = dict(notes.outputs), []
        for ref, noted in sorted(notes.outputs.items()):
            live = noted.live(now)
            ended = [lease for lease in noted.leases if lease not in live]
            if ended:
                self._remove(noted, ended)
                removed += [(ref, lease) for lease in ended]
                left[ref] = noted._replace(leases=live)
        return notes._replace(outputs=left), removed

    def _undo(self, output: ResolvedOutput, before: Noted, holder: str) -> None:
        now = datetime.now(UTC)
        old = [lease for lease in before.live(now) if lease.holder == holder]
        # One that was new has ended: should the store not listen, whoever comes next takes the pin back.
        self._ledger.lease(before.ref, holder, old[0].until if old else now)
        noted = self._ledger.of(before.ref)
        if old:
            self.renew(output, noted)
        else:
            self._remove(noted, [lease for lease in noted.leases if lease.holder == holder])

    def _remove(self, noted: Noted, leases: list[Lease]) -> None:
        try:
            output = self._output(noted.ref)
            paths = paths_of(output)
        except (ResolutionError, VerificationError, NotFoundError):
            # The attempt is gone, and its files with it: nothing is pinned.
            self._ledger.drop(noted.ref, leases)
            return
        live = noted.live(datetime.now(UTC))
        if not set(live) - set(leases):
            self._store.unpin(paths)
        self._ledger.drop(noted.ref, leases)
        # For the time that is left; and for whoever has taken a lease meanwhile.
        self.renew(output, self._ledger.of(noted.ref))


def check_ttl(ttl: timedelta) -> timedelta:
    """Return a time to live unchanged if a pin can have it.

    Raises:
        ConfigError: It cannot.
    """
    if not timedelta(0) < ttl <= _LONGEST:
        raise ConfigError(f"a pin for {ttl}: give a time to live of more than 0 and at most {_LONGEST.days} days")
    return ttl


def check_holder(holder: str) -> str:
    """Return a holder's name unchanged if it can be one.

    Raises:
        InvalidKeyError: It cannot.
    """
    if not isinstance(holder, str) or not holder.strip() or len(holder) > _LONGEST_HOLDER:
        raise InvalidKeyError(
            f"a pin's holder is {holder!r:.80}: give a text that says for whom it is, like a task's address or a name"
        )
    return holder
