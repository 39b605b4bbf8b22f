"""The byte budget: what has to go so that what is wanted can come, and what has to stay away."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import StoreFullError
from datalayer.hot.selecting import LeftOut
from datalayer.hot.sizes import size_text
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from datalayer.hot.ledger import Notes, OutputRef
    from datalayer.hot.selecting import Wanted


class Held(NamedTuple):
    """Copies of an output."""

    files: int
    bytes: int


class Room(NamedTuple):
    """A way to keep to the budget."""

    evict: list[OutputRef]
    """What has to go first, coldest first."""
    warm: list[Wanted]
    left_out: list[LeftOut]


class Budget(NamedTuple):
    """How much may be hot of what is warmed."""

    size: int
    """Bytes."""
    overhead: int
    """Bytes that a file's copy takes besides the file's own."""

    def cost(self, held: Held) -> int:
        """Return how many bytes of the budget copies take."""
        return held.bytes + held.files * self.overhead

    def check(self, ref: OutputRef, wanted: Held) -> None:
        """Make sure that something can be hot at all.

        Raises:
            StoreFullError: It is larger than the budget.
        """
        cost = self.cost(wanted)
        if cost > self.size:
            beside = _beside(wanted.files) if self.overhead else ""
            raise StoreFullError(
                f"{ref}: {cost} bytes{beside} are more than hot.budget, which is {self.size}. Warm some of its files or columns, or "
                "raise the budget",
                tier=Tier.HOT.value,
            )

    def make_room(self, wanted: list[Wanted], notes: Notes, now: datetime) -> Room:
        """Return what to evict, what to warm and what to leave out.

        What others have read into the hot tier does not count: it goes by itself when room is needed.

        Args:
            wanted: Of the outputs to be warmed, in the order in which they matter.
            notes: What was warmed here, and what is pinned.
            now: Leases end by it.
        """
        own = {one.ref for one in wanted}
        warmed = {ref: noted.warmed for ref, noted in notes.outputs.items() if noted.warmed and ref not in own}
        sizes = {ref: self.cost(Held(note.files, note.bytes)) for ref, note in warmed.items()}
        loose = sorted((ref for ref in warmed if not notes.outputs[ref].live(now)), key=lambda ref: warmed[ref].used)
        room = self.size - sum(sizes.values())
        for ref in own:
            copies = [(one.expected.length, one.before) for one in wanted if one.ref == ref]
            room -= self.cost(held(ref, copies, notes))
        found = Room([], [], [])
        for one in wanted:
            cost = self.cost(Held(one.before == 0, one.bytes - min(one.bytes, one.before)))
            if cost <= max(0, room + sum(sizes[ref] for ref in loose)):
                while cost > max(0, room):
                    found.evict.append(loose.pop(0))
                    room += sizes[found.evict[-1]]
                room -= cost
                found.warm.append(one)
            else:
                reason = f"{size_text(max(room, 0))} of hot.budget are left, and the rest is pinned or being warmed"
                found.left_out.append(LeftOut(str(one.ref), one.name, one.bytes, reason))
        return found


def _beside(files: int) -> str:
    return f" (with what {'a copy takes beside its' if files == 1 else f'{files} copies take beside their'} bytes)"


def held(ref: OutputRef, files: Iterable[tuple[int, int]], notes: Notes) -> Held:
    """Return what is held of an output: of some files it is known, of the others an earlier note says it.

    Args:
        ref: The output.
        files: The length, and the bytes that are copies, of files of it.
        notes: Earlier notes.
    """
    known = list(files)
    noted = notes.outputs.get(ref)
    count, size = (noted.warmed.files, noted.warmed.bytes) if noted and noted.warmed else (0, 0)
    others = Held(max(0, count - len(known)), max(0, size - sum(length for length, _ in known)))
    return Held(
        sum(copies > 0 for _, copies in known) + others.files, sum(copies for _, copies in known) + others.bytes
    )
