"""Which bytes can be verified together, and the pieces that an answer brings, verified before anybody gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from datalayer.stores.checksum import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datalayer.stores.base import Expected

WHOLE = 64 << 20
"""Up to here a file of which only the whole checksum is known is held in memory until it is verified."""


class Span(NamedTuple):
    """Bytes of a file that have a checksum of their own, or none at all."""

    start: int
    stop: int
    checksum: int | None


def spans(expected: Expected, start: int, end: int) -> list[Span]:
    """Return the spans to read for the bytes from ``start`` up to ``end``, in order and without gaps; the outer ones may reach beyond."""
    if start >= end:
        return []
    if expected.blocks is not None:
        numbers = range(start // BLOCK, -(-end // BLOCK))
        return [Span(at * BLOCK, min((at + 1) * BLOCK, expected.length), expected.blocks[at]) for at in numbers]
    whole = (start, end) == (0, expected.length) and expected.length <= WHOLE
    return [Span(start, end, expected.checksum if whole else None)]


def only_at_the_end(expected: Expected, start: int, end: int) -> bool:
    """Whether a reading is verified as a whole only: its file has no checksums of blocks, and is too large to be held."""
    whole = (start, end) == (0, expected.length) and expected.length > WHOLE
    return whole and expected.blocks is None and expected.checksum is not None


class UnverifiedError(Exception):
    """Bytes are not the ones that were committed.

    Args:
        reason: A word that stays the same from one time to the next, as receipts count them.
        detail: What was seen this time.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def verified(pieces: Iterator[bytes], wanted: list[Span]) -> Iterator[tuple[Span, list[bytes]]]:
    """Yield each span with its bytes. One without a checksum is yielded as it comes, in parts.

    Raises:
        UnverifiedError: A span is not what was committed, or the pieces end before the last span does.
    """
    import google_crc32c

    rest = b""
    for span in wanted:
        held: list[bytes] = []
        checksum, at = 0, span.start
        while at < span.stop:
            piece = rest or next(pieces, b"")
            if not piece:
                raise UnverifiedError("short", f"it ends at byte {at}, before byte {span.stop}")
            room = span.stop - at
            piece, rest = (piece, b"") if len(piece) <= room else (piece[:room], piece[room:])
            at += len(piece)
            if span.checksum is None:
                yield Span(at - len(piece), at, None), [piece]
            else:
                checksum = google_crc32c.extend(checksum, piece)
                held.append(piece)
        if span.checksum is not None:
            if checksum != span.checksum:
                raise UnverifiedError(
                    "corrupt", f"bytes {span.start} to {span.stop} are not the ones that were committed"
                )
            yield span, held


def cut(span: Span, pieces: list[bytes], start: int, end: int) -> Iterator[bytes]:
    """Yield what of a span's bytes lies from ``start`` up to ``end``."""
    at = span.start
    for piece in pieces:
        stop = at + len(piece)
        if start <= at and stop <= end:
            yield piece
        elif at < end and start < stop:
            yield piece[max(start - at, 0) : end - at]
        at = stop
