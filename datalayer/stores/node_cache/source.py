"""``Source``: a committed file as the cold store gives it, in pages, each block compared with what was committed before it is handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import VerificationError
from datalayer.stores.checksum import crc32c
from datalayer.stores.node_cache.about import PAGE, PAGES_PER_BLOCK, About
from datalayer.stores.node_cache.places import join_sums

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from datalayer.stores.base import Expected, Store


class Group(NamedTuple):
    """Pages that follow each other, and belong to one block."""

    first: int
    pages: list[bytes]
    sums: list[int]

    @property
    def end(self) -> int:
        """The page after the last."""
        return self.first + len(self.pages)


class Source:
    """A committed file on the cold store."""

    def __init__(self, store: Store, path: str, expected: Expected) -> None:
        self._store = store
        self._path = path
        self.expected = expected
        self.about = About("", path, expected.length, expected.checksum)

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

    def block_sum(self, block: int) -> int | None:
        """Return the checksum that a block was committed with; None where it is not known."""
        blocks = self.expected.blocks
        return None if blocks is None else blocks[block]

    def _pages(self, first: int, end: int) -> Iterator[bytes]:
        stop = min(end * PAGE, self.about.length)
        return self._store.stream_range(self._path, first * PAGE, stop, piece=PAGE)

    def _checked(self, first: int, pages: list[bytes]) -> Group:
        group = Group(first, pages, [crc32c(page) for page in pages])
        if self._is_right(group):
            return group
        # What was damaged on the way is whole the next time.
        pages = list(self._pages(first, group.end))
        group = Group(first, pages, [crc32c(page) for page in pages])
        if self._is_right(group):
            return group
        begin = first * PAGE
        raise VerificationError(
            f"{self._store.location(self._path)}: the bytes from {begin} to {begin + sum(map(len, pages))} are not the ones that were "
            "committed. Run the task again"
        )

    def _is_right(self, group: Group) -> bool:
        block, rest = divmod(group.first, PAGES_PER_BLOCK)
        whole = not rest and (len(group.pages) == PAGES_PER_BLOCK or group.end == self.about.pages)
        checksum = self.block_sum(block) if whole else None
        return checksum is None or join_sums(self.about, group.first, group.sums) == checksum
