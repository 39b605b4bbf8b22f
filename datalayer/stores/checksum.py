"""CRC-32C, the checksum of file contents: S3's own, and hardware does it at many gigabytes a second."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK = 4 << 20
"""Bytes that have a checksum of their own in a manifest, so that a part of a large file can be verified without the rest."""

_PREFIX = "crc32c:"
_DIGITS = 8
# The polynomial, and x to the power of 0, both with the bits reflected as the checksum has them.
_POLYNOMIAL = 0x82F63B78
_ONE = 1 << 31


class Crc32c:
    """A running CRC-32C (Castagnoli, RFC 3720 appendix B.4), of the whole and of each :data:`BLOCK` bytes of it."""

    __slots__ = ("_blocks", "_extend", "length")

    def __init__(self) -> None:
        import google_crc32c

        self._extend = google_crc32c.extend
        self._blocks: list[int] = []
        self.length = 0
        """Bytes seen."""

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        view, at = memoryview(data), 0
        while at < len(view):
            room = BLOCK - self.length % BLOCK
            if room == BLOCK:
                self._blocks.append(0)
            part = data if room >= len(data) and not at else bytes(view[at : at + room])
            self._blocks[-1] = self._extend(self._blocks[-1], part)
            self.length += len(part)
            at += len(part)

    def text(self) -> str:
        """Return the checksum as manifests have it: ``crc32c:`` and eight hex digits."""
        value, left = 0, self.length
        for block in self._blocks:
            value = joined(value, block, min(BLOCK, left))
            left -= BLOCK
        return f"{_PREFIX}{value:08x}"

    def blocks(self) -> str | None:
        """Return the checksums of the blocks as manifests have them, eight hex digits each; None where one block is all."""
        return "".join(f"{value:08x}" for value in self._blocks) if len(self._blocks) > 1 else None


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes."""
    import google_crc32c

    return int(google_crc32c.value(data))


def joined(first: int, second: int, length: int) -> int:
    """Return the CRC-32C of bytes of which ``first`` is that of the beginning, and ``second`` that of the last ``length`` ones."""
    return _times(_shift(length), first) ^ second if first else second


@cache
def _power(exponent: int) -> int:
    """Return x to the power of 2 to the power of ``exponent``, modulo the polynomial."""
    if not exponent:
        return _ONE >> 1
    half = _power(exponent - 1)
    return _times(half, half)


@lru_cache(maxsize=64)
def _shift(length: int) -> int:
    """Return x to the power of the bits of ``length`` bytes: what a checksum is multiplied by when so many bytes follow."""
    result, exponent = _ONE, 3
    while length:
        if length & 1:
            result = _times(_power(exponent), result)
        length >>= 1
        exponent += 1
    return result


def _times(first: int, second: int) -> int:
    """Return the product of two polynomials modulo the checksum's."""
    product, bit = 0, _ONE
    while first:
        if first & bit:
            product ^= second
            first ^= bit
        second = second >> 1 ^ _POLYNOMIAL if second & 1 else second >> 1
        bit >>= 1
    return product


def checksum_of(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Return the checksum and the length of bytes that come in chunks."""
    crc = Crc32c()
    for chunk in chunks:
        crc.update(chunk)
    return crc.text(), crc.length


def parse_checksum(text: str | None) -> int | None:
    """Return the number that a manifest's checksum spells; None where there is none, or one of a kind not known here."""
    if text is None or not text.startswith(_PREFIX):
        return None
    try:
        return int(text.removeprefix(_PREFIX), 16)
    except ValueError:
        return None


def parse_blocks(text: str, length: int) -> tuple[int, ...] | None:
    """Return the checksums of a file's blocks; None where the text does not fit a file of ``length`` bytes."""
    count = -(-length // BLOCK)
    try:
        found = tuple(int(text[at : at + _DIGITS], 16) for at in range(0, len(text), _DIGITS))
    except ValueError:
        return None
    return found if len(text) == count * _DIGITS else None
