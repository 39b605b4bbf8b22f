"""What a store promises of parts of an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from datalayer.errors import NotFoundError, VerificationError

if TYPE_CHECKING:
    from datalayer.stores.base import Store

MIB = 1 << 20
# More than one request of any store, and no whole number of anything.
LARGE = b"".join(number.to_bytes(4, "big") * (MIB // 4) for number in range(20)) + b"end"


class RangeTests:
    """The part of ``StoreTests`` that is about ranges."""

    def test_a_range_is_exact(self, store: Store) -> None:
        store.put("a", b"0123456789")
        assert store.get_range("a", 0, 10) == b"0123456789"
        assert store.get_range("a", 3, 4) == b"3456"
        assert store.get_range("a", 9, 1) == b"9"
        assert store.get_range("a", 4, 0) == b""

    @pytest.mark.parametrize(("start", "length"), [(0, 11), (9, 2), (10, 1), (50, 5)])
    def test_a_range_past_the_end_is_an_error(self, store: Store, start: int, length: int) -> None:
        store.put("a", b"0123456789")
        with pytest.raises(VerificationError):
            store.get_range("a", start, length)
        with pytest.raises(VerificationError):
            list(store.stream_range("a", start, start + length))

    @pytest.mark.parametrize(
        ("start", "end", "piece"),
        [
            (0, len(LARGE), 256 << 10),
            (0, len(LARGE), 3 * MIB),
            (5 * MIB + 1, 17 * MIB + 3, MIB),
            (19 * MIB, len(LARGE), 8 * MIB),
            (7, 8, 4),
            (0, 0, 4),
            (len(LARGE), len(LARGE), 4),
        ],
    )
    def test_a_streamed_range_comes_in_pieces_of_one_size(self, store: Store, start: int, end: int, piece: int) -> None:
        with store.writer("a") as writer:
            writer.write(LARGE)
        pieces = list(store.stream_range("a", start, end, piece=piece))
        assert b"".join(pieces) == LARGE[start:end]
        assert all(isinstance(one, bytes) for one in pieces)
        assert {len(one) for one in pieces[:-1]} <= {piece}
        assert len(pieces) == -(-(end - start) // piece)

    def test_a_streamed_range_may_be_left_early(self, store: Store) -> None:
        with store.writer("a") as writer:
            writer.write(LARGE)
        for _ in range(3):
            assert next(iter(store.stream_range("a", MIB, len(LARGE), piece=MIB))) == LARGE[MIB : 2 * MIB]
        with pytest.raises(NotFoundError):
            list(store.stream_range("none", 0, 1))
