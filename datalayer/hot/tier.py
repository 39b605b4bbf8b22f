"""``HotTier``: the hot tier's verbs, as ``layer.hot``."""

from __future__ import annotations

import contextlib
import logging
import shlex
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from datalayer.addresses.keys import TaskKey
from datalayer.errors import (
    PinnedError,
    ResolutionError,
    StoreError,
    StoreUnavailableError,
    VerificationError,
)
from datalayer.hot.budget import Budget, Held
from datalayer.hot.leases import LEASE, Leases, check_holder
from datalayer.hot.ledger import Ledger, Notes, OutputRef, place_of, prefix_of
from datalayer.hot.plan import key_of
from datalayer.hot.selecting import LeftOut, What, copied_here, is_copied, outputs_of
from datalayer.hot.status import HotStatus, look
from datalayer.hot.warmer import PARALLEL, Selection, Warmed, Warmer
from datalayer.resolve.bulk import side_by_side
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from datalayer.config import HotConfig
    from datalayer.hot.ledger import Lease
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.resolve.resolver import Resolver
    from datalayer.stores.base import Store
    from datalayer.stores.hot import HotStore

_NAMED = 5

_log = logging.getLogger("datalayer")


class HotTier:
    """Warms, pins and evicts copies of committed outputs. Safe to share between threads.

    Every verb also takes back the pins whose time is over, so that a process that crashed leaves none for longer than its lease.

    Args:
        home: Where the ledger lies.
        store: The copies.
        resolver: Finds outputs.
        settings: The configuration.
    """

    def __init__(self, home: Store, store: HotStore, resolver: Resolver, settings: HotConfig) -> None:
        self._store = store
        self._resolver = resolver
        self._budget = Budget(settings.budget_bytes, store.overhead)
        self._ledger = Ledger(home, place_of(settings.url, shared=settings.alluxio))
        self._leases = Leases(self._ledger, store, self._output)
        self._warmer = Warmer(store, self._ledger, self._leases, self._budget, self._output)

    def warm(
        self,
        what: What,
        *,
        files: str | Sequence[str] | None = None,
        columns: str | Sequence[str] | None = None,
        parallel: int = PARALLEL,
        progress: Callable[[int, int], None] | None = None,
    ) -> Warmed:
        """Make copies of an output before it is read. What is a copy already is not fetched again.

        Where the budget is used up, the outputs go that were warmed here, are not pinned, and have not been used for longest. Where that is
        not enough, what fits is warmed, and the result says what was left out; so it does of what another warm at the same time had make room.

        Args:
            what: A task, for all outputs of its committed attempt; one output of it; or what they were resolved to.
            files: Only these files, or those in these folders of the output.
            columns: Only these columns of Parquet files, and the files' footers.
            parallel: How many files, or parts of large ones, are read at once.
            progress: Called with the bytes that are done and those in all; from several threads, one at a time.

        Raises:
            NotFoundError: There is no such file or column, or a committed file is gone.
            NotPublishedError: Nothing is committed there.
            NotSupportedError: The output is a reference, or a file is no Parquet file and has no columns.
            StoreFullError: An output is larger than the budget. Nothing was fetched.
            StoreUnavailableError: The hot tier does not serve, or does not hold what it was warmed with. Readers get the cold tier's bytes.
            VerificationError: A file is not the one that was committed.
        """
        outputs, others = self._outputs(what)
        selection = Selection(_texts(files), _texts(columns))
        made = self._warmer.warm(outputs, self._current(), selection, parallel=parallel, progress=progress)
        return made._replace(left_out=(*others, *made.left_out))

    def pin(self, what: What, holder: str, ttl: timedelta = LEASE) -> datetime:
        """Keep the copies of an output, those that are yet to be made too, from making room for others. Return when the pin ends.

        Args:
            what: As for :meth:`warm`.
            holder: For whom. A holder has one lease on an output: pinning again renews it.
            ttl: The pin ends then, if nobody takes it back before.

        Raises:
            NotSupportedError: The output is a reference.
            StoreFullError: An output is larger than the budget.
            StoreUnavailableError: The hot tier does not serve. Nothing was pinned that was not before.
        """
        outputs, _ = self._outputs(what)
        for output in outputs:
            self._budget.check(OutputRef.of(output), Held(output.output.files, output.output.bytes))
        reason = self._store.out_of_service()
        if reason is not None:
            raise StoreUnavailableError(
                f"the hot tier does not serve: {reason}. Nothing was pinned. See 'datalayer doctor'",
                tier=Tier.HOT.value,
                location=str(self._store.location()),
            )
        self._current()
        return self._leases.take_all(outputs, holder, ttl)

    def unpin(self, what: What, holder: str) -> tuple[str, ...]:
        """Take a holder's pins back; return the outputs it had pinned. When the last holder's is gone, the copies may make room for others.

        Args:
            what: As for :meth:`warm`. Of a task, every attempt's outputs are meant.
            holder: Whose.

        Raises:
            StoreUnavailableError: The hot tier does not serve. The pin ends when its time is over.
        """
        self._current()
        check_holder(holder)
        return tuple(str(ref) for key, only in self._refs(what) for ref in self._leases.release(holder, key, only))

    def evict(self, what: What, *, force: bool = False) -> tuple[str, ...]:
        """Drop the copies of an output; return the outputs. Who reads one meanwhile reads on undisturbed.

        Args:
            what: As for :meth:`warm`.
            force: Also those that somebody has pinned. The pins stay: copies that are made again are kept.

        Raises:
            PinnedError: Somebody has pinned one. Nothing was dropped.
        """
        notes = self._current()
        outputs, _ = self._outputs(what)
        now = datetime.now(UTC)
        for output in outputs if not force else ():
            ref = OutputRef.of(output)
            live = notes.outputs[ref].live(now) if ref in notes.outputs else ()
            if live:
                live = tuple(sorted(live, key=lambda lease: lease.holder))
                holders = ", ".join(f"{one.holder} until {one.until:%Y-%m-%d %H:%MZ}" for one in live[:_NAMED])
                more = f" and {len(live) - _NAMED} more" if len(live) > _NAMED else ""
                unpin = f"datalayer hot unpin {shlex.quote(str(ref))} --holder {_quoted(live[0].holder)}"
                raise PinnedError(
                    f"{ref} is pinned by {holders}{more}: nothing was evicted. Unpin it for each holder ({unpin}), or evict it with --force "
                    "(force=True)",
                    tier=Tier.HOT.value,
                )
        for output in outputs:
            self._warmer.drop(output)
        return tuple(str(OutputRef.of(output)) for output in outputs)

    def status(self, what: What | None = None, *, team: str | None = None) -> HotStatus:
        """Return how much is hot, by output, by team and in all.

        Args:
            what: These outputs. Without it, those that were warmed here or are pinned.
            team: Only this team's of them.
        """
        try:
            notes = self._current(prefix_of(team) if team is not None else "")
        except StoreError:
            # Whether it holds anything cannot be said; what was noted can.
            notes = self._ledger.read(prefix_of(team) if team is not None else "")
        outputs = self._known(notes) if what is None else self._outputs(what)[0]
        return look(self._store, outputs, notes, self._budget.size)

    def expire(self, prefix: str = "") -> list[tuple[str, Lease]]:
        """Take back the pins whose time is over; return each output with the lease that was on it.

        Args:
            prefix: Only below this address, or the beginning of one.

        Raises:
            StoreError: The hot tier could not be told. Whoever comes next tries again.
        """
        notes = self._ledger.read(prefix)
        _, removed = self._leases.expire(notes)
        self._ledger.clear(notes)
        return [(str(ref), lease) for ref, lease in removed]

    # A workflow's reads ---------------------------------------------------------------------------------------------------------------

    def committed(
        self, key: TaskKey | str, readers: Iterable[TaskKey | str] = (), *, attempt: int | None = None
    ) -> None:
        """Warm what a task has committed, and pin it for those that will read it. What goes wrong is in the receipt and the log, no error.

        Args:
            key: The task.
            readers: The tasks that will read it; see :class:`~datalayer.hot.plan.ReadPlan`. Each has its own lease, which ends by itself.
            attempt: The attempt; by default the current one.

        Raises:
            InvalidKeyError: One is no key.
        """
        task, holders = key_of(key), [str(key_of(reader)) for reader in readers]
        with self._told("not warmed", f"{task} was not warmed after its commit"):
            for output in self._resolver.resolve(task, attempt=attempt).values():
                if is_copied(output):
                    self._warm_for(output, holders)

    def finished(self, reader: TaskKey | str, inputs: Iterable[TaskKey | str]) -> None:
        """Release what was pinned for a task that has read its inputs. What goes wrong is in the receipt and the log: leases end by themselves.

        Args:
            reader: The task.
            inputs: The tasks whose outputs it has read.

        Raises:
            InvalidKeyError: One is no key.
        """
        holder = str(key_of(reader))

        def release(key: TaskKey) -> None:
            with self._told("pin not taken back", f"the pin of {key} for {holder} was not taken back"):
                for ref in self._leases.release(holder, key):
                    noted = self._ledger.of(ref)
                    if noted.warmed:
                        self._ledger.used(noted.warmed)

        for _ in side_by_side(release, [key_of(one) for one in inputs], PARALLEL):
            pass

    # Parts ----------------------------------------------------------------------------------------------------------------------------

    def _current(self, prefix: str = "") -> Notes:
        return self._leases.expire(self._ledger.read(prefix))[0]

    def _outputs(self, what: What) -> tuple[list[ResolvedOutput], list[LeftOut]]:
        return copied_here(outputs_of(what, self._resolver.resolve))

    def _refs(self, what: What) -> list[tuple[TaskKey, OutputRef | None]]:
        if isinstance(what, TaskKey):
            return [(what, None)]
        return [(ref.key, ref) for ref in map(OutputRef.of, outputs_of(what, self._resolver.resolve))]

    def _known(self, notes: Notes) -> Iterable[ResolvedOutput]:
        def find(ref: OutputRef) -> ResolvedOutput | None:
            try:
                return self._output(ref)
            except (ResolutionError, VerificationError):
                return None  # The attempt is gone; so are its bytes.

        return filter(None, side_by_side(find, notes.outputs, PARALLEL))

    def _output(self, ref: OutputRef) -> ResolvedOutput:
        return self._resolver.resolve(ref.key, attempt=ref.attempt)[ref.output]

    def _warm_for(self, output: ResolvedOutput, holders: list[str]) -> None:
        ref = OutputRef.of(output)
        with self._told("not warmed", f"{ref} was not warmed after its commit"):
            self._budget.check(ref, Held(output.output.files, output.output.bytes))
            if holders:
                self._leases.take(output, holders, LEASE)
            for one in self._warmer.warm([output], self._current()).left_out:
                told = f"{ref}, file {one.file!r}, was not warmed after its commit"
                self._missed("not warmed: no room in the budget", told, one.reason)

    @contextlib.contextmanager
    def _told(self, words: str, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  # whatever it is, the task has committed
            self._missed(f"{words}: {type(error).__name__}", what, error)

    def _missed(self, words: str, what: str, why: object) -> None:
        # Receipts count: the same thing has the same words each time. The log has the rest.
        self._store.receipt.miss(Tier.HOT.value, words)
        _log.warning("%s: %s", what, why)


def _quoted(text: str) -> str:
    """Return a text in quotes for a shell, also where it needs none."""
    quoted = shlex.quote(text)
    return quoted if quoted.startswith("'") else f"'{quoted}'"


def _texts(given: str | Sequence[str] | None) -> list[str] | None:
    return [given] if isinstance(given, str) else None if given is None else list(given)
