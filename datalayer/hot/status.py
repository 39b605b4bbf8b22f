"""How much of what is hot."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import StoreError
from datalayer.hot.ledger import OutputRef
from datalayer.resolve.bulk import side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datalayer.hot.ledger import Lease, Notes
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.stores.hot import HotStore

_PARALLEL = 16


class OutputStatus(NamedTuple):
    """One output."""

    team: str
    address: str
    """``/team/dag/task/run@attempt/output``."""
    files: int
    bytes: int
    hot: int
    """Bytes that are copies; 0 where the tier does not serve."""
    used: str | None
    """When it was warmed, or known to be read, last; None where it was not warmed here."""
    leases: tuple[Lease, ...]
    """Who has pinned it."""


class TeamStatus(NamedTuple):
    """The outputs of one team."""

    team: str
    outputs: int
    bytes: int
    hot: int
    pinned: int
    """Bytes of the copies that are pinned."""


class HotStatus(NamedTuple):
    """What is hot, of the outputs that were asked for; or of those that were warmed here or pinned."""

    outputs: list[OutputStatus]
    teams: list[TeamStatus]
    bytes: int
    hot: int
    pinned: int
    budget: int
    unavailable: str | None
    """Why the hot tier does not serve just now; it cannot be said then what it holds, and ``hot`` and ``pinned`` say nothing."""
    held: int | None
    """Bytes that all copies take, whoever made them; None where that cannot be found out."""
    capacity: int | None
    """Bytes that they may take: of the cache folder its budget, of Alluxio what its workers have."""


def look(store: HotStore, outputs: Iterable[ResolvedOutput], notes: Notes, budget: int) -> HotStatus:
    """Return the status of some outputs; files are looked at side by side, unless the store does not serve."""
    reason = store.out_of_service()
    now = datetime.now(UTC)
    known = {OutputRef.of(output): output for output in outputs}
    hot = dict.fromkeys(known, 0)
    files = (
        (ref, output.object_path(entry), entry.length) for ref, output in known.items() for entry in output.objects()
    )

    def held(file: tuple[OutputRef, str, int]) -> tuple[OutputRef, int]:
        ref, path, length = file
        return ref, store.resident(path, length)

    for ref, size in side_by_side(held, files, _PARALLEL) if reason is None else ():
        hot[ref] += size
    found = []
    for ref, output in known.items():
        noted = notes.outputs.get(ref)
        leases = tuple(sorted(noted.live(now), key=lambda lease: lease.holder)) if noted else ()
        used = noted.warmed.used if noted and noted.warmed else None
        whole = output.output
        found.append(OutputStatus(ref.key.team, str(ref), whole.files, whole.bytes, hot[ref], used, leases))
    found.sort(key=lambda one: one.address)
    teams = [_team(team, [one for one in found if one.team == team]) for team in sorted({one.team for one in found})]
    total = _team("", found)
    taken, capacity = _usage(store) if reason is None else (None, None)
    # Those of the files that were asked for after it had failed count as no copies.
    reason = reason or store.unavailable()
    return HotStatus(found, teams, total.bytes, total.hot, total.pinned, budget, reason, taken, capacity)


def _usage(store: HotStore) -> tuple[int, int] | tuple[None, None]:
    try:
        return store.usage() or (None, None)
    except StoreError:
        return None, None


def _team(team: str, outputs: list[OutputStatus]) -> TeamStatus:
    pinned = sum(one.hot for one in outputs if one.leases)
    return TeamStatus(team, len(outputs), sum(one.bytes for one in outputs), sum(one.hot for one in outputs), pinned)
