"""``Source``: a committed file as the cold store gives it, in pages, each block compared with what was committed before it is handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from google_crc32c import value as crc32c

from datalayer.errors import VerificationError
from datalayer.stores.node_cache.about import PAGE, PAGES_PER_BLOCK, About, WrongBlockError
from datalayer.stores.node_cache.places import join_sums

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from datalayer.addresses.location import Location
    from datalayer.stores.base import Expected, Store
    from datalayer.stores.node_cache.entry import Entry


class Group(NamedTuple):
    """Pages that follow each other, and belong to one block."""

    first: int
    pages: list[bytes]
    sums: list[int]

    @property
    def end(self) -> int:
        """The page after the last."""
        return self.first + len(self.pages)

    def before(self, end: int) -> Group:
        """Return the pages of it before ``end``."""
        return (
            self
            if self.end <= end
            else Group(self.first, self.pages[: end - self.first], self.sums[: end - self.first])
        )


class Source:
    """A committed file on the cold store."""

    def __init__(self, store: Store, path: str, expected: Expected) -> None:
        self._store = store
        self._path = path
        self.expected = expected
        self._right: set[int] = set()
        self.about = About("", path, expected.length, expected.checksum)

    @property
    def location(self) -> Location:
        """Where it lies."""
        return self._store.location(self._path)

    def groups(self, first: int, end: int) -> Generator[Group, None, None]:
        """Yield the pages from ``first`` to before ``end``, from one stream.

        Raises:
            NotFoundError: There is no such object.
            VerificationError: It is not the file that was committed.
        """
        held: list[bytes] = []
        for page, data in enumerate(self._pages(first, end), first):
            held.append(data)
            if (page + 1) % PAGES_PER_BLOCK == 0 or page + 1 == end:
                yield self._checked(page + 1 - len(held), held)
                held = []

    def check_group(self, entry: Entry, group: Group) -> None:
        """Compare a block of which a group is a part with what was committed, if the copy has its other pages.

        Raises:
            WrongBlockError: It is another one.
        """
        block = group.first // PAGES_PER_BLOCK
        first, count = self._pages_of(block)
        if self.expected.blocks is not None and len(group.pages) < count:
            sums = entry.sums(first, count)
            sums[group.first - first : group.end - first] = group.sums
            self._compare(block, sums)

    def check_block(self, entry: Entry, block: int) -> None:
        """Compare a block of the copy with what was committed, once, if the copy has all of it.

        Raises:
            WrongBlockError: It is another one.
        """
        if self.expected.blocks is not None and block not in self._right:
            self._compare(block, entry.sums(*self._pages_of(block)))

    def wrong(self, begin: int, end: int, step: str) -> VerificationError:
        """Return the error of bytes that are not the committed ones."""
        return VerificationError(
            f"{self.location}: the bytes from {begin} to {end} are not the ones that were committed. {step}"
        )

    def _compare(self, block: int, sums: list[int | None]) -> None:
        known = [value for value in sums if value is not None]
        if len(known) < len(sums):
            return
        if not self._is_right(block, known):
            raise WrongBlockError(block)
        self._right.add(block)

    def _is_right(self, block: int, sums: list[int]) -> bool:
        blocks = self.expected.blocks
        return blocks is None or join_sums(self.about, block * PAGES_PER_BLOCK, sums) == blocks[block]

    def _pages_of(self, block: int) -> tuple[int, int]:
        first = block * PAGES_PER_BLOCK
        return first, min(PAGES_PER_BLOCK, self.about.pages - first)

    def _pages(self, first: int, end: int) -> Iterator[bytes]:
        stop = min(end * PAGE, self.about.length)
        return self._store.stream_range(self._path, first * PAGE, stop, piece=PAGE)

    def _checked(self, first: int, pages: list[bytes]) -> Group:
        group = Group(first, pages, [crc32c(page) for page in pages])
        block = first // PAGES_PER_BLOCK
        if self._pages_of(block) != (first, len(pages)) or self._is_right(block, group.sums):
            return group
        # What was damaged on the way is whole the next time.
        pages = list(self._pages(first, group.end))
        group = Group(first, pages, [crc32c(page) for page in pages])
        if self._is_right(block, group.sums):
            return group
        raise self.wrong(first * PAGE, min(group.end * PAGE, self.about.length), "Run the task again")
