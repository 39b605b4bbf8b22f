"""The byte budget: what has to go so that what is wanted can come, and what has to stay away."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import StoreFullError
from datalayer.hot.selecting import LeftOut
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from datetime import datetime

    from datalayer.hot.ledger import Notes, OutputRef
    from datalayer.hot.selecting import Wanted


class Room(NamedTuple):
    """A way to keep to the budget."""

    evict: list[OutputRef]
    """What has to go first, coldest first."""
    warm: list[Wanted]
    left_out: list[LeftOut]


def check_size(ref: OutputRef, size: int, budget: int) -> None:
    """Make sure that something can be hot at all.

    Raises:
        StoreFullError: It is larger than the budget.
    """
    if size > budget:
        raise StoreFullError(
            f"{ref}: {size} bytes are more than hot.budget, which is {budget}. Warm some of its files or columns, or raise the budget",
            tier=Tier.HOT.value,
        )


def make_room(wanted: list[Wanted], notes: Notes, budget: int, now: datetime) -> Room:
    """Return what to evict, what to warm and what to leave out.

    What others have read into the hot tier does not count: it goes by itself when room is needed.

    Args:
        wanted: Of the outputs to be warmed, in the order in which they matter.
        notes: What was warmed here, and what is pinned.
        budget: Bytes.
        now: Leases end by it.
    """
    own = {one.ref for one in wanted}
    sizes = {ref: noted.warmed.bytes for ref, noted in notes.outputs.items() if noted.warmed}
    used = {ref: noted.warmed.used for ref, noted in notes.outputs.items() if noted.warmed}
    loose = sorted((ref for ref in sizes if ref not in own and not notes.outputs[ref].live(now)), key=used.__getitem__)
    room = budget - sum(size for ref, size in sizes.items() if ref not in own)
    room -= sum(
        held(ref, [(one.expected.length, one.before) for one in wanted if one.ref == ref], notes) for ref in own
    )
    found = Room([], [], [])
    for one in wanted:
        cost = one.bytes - min(one.bytes, one.before)
        if cost <= max(0, room + sum(sizes[ref] for ref in loose)):
            while cost > max(0, room):
                found.evict.append(loose.pop(0))
                room += sizes[found.evict[-1]]
            room -= cost
            found.warm.append(one)
        else:
            reason = f"{max(room, 0)} bytes of hot.budget are left, and the rest is pinned or being warmed"
            found.left_out.append(LeftOut(str(one.ref), one.name, one.bytes, reason))
    return found


def held(ref: OutputRef, files: list[tuple[int, int]], notes: Notes) -> int:
    """Return how many bytes of an output are copies: of some files it is known, of the others an earlier note says it.

    Args:
        ref: The output.
        files: The length, and the bytes that are copies, of files of it.
        notes: Earlier notes.
    """
    noted = notes.outputs.get(ref)
    before = noted.warmed.bytes if noted and noted.warmed else 0
    return sum(copies for _, copies in files) + max(0, before - sum(length for length, _ in files))
