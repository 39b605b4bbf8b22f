"""CRC-32C, the checksum of file contents: S3's own, and hardware does it at many gigabytes a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK = 4 << 20
"""Bytes that have a checksum of their own in a manifest, so that a part of a large file can be verified without the rest."""

_PREFIX = "crc32c:"
_DIGITS = 8


class Crc32c:
    """A running CRC-32C (Castagnoli, RFC 3720 appendix B.4), of the whole and of each :data:`BLOCK` bytes of it."""

    __slots__ = ("_blocks", "_extend", "_value", "length")

    def __init__(self) -> None:
        import google_crc32c

        self._extend = google_crc32c.extend
        self._value = 0
        self._blocks: list[int] = []
        self.length = 0
        """Bytes seen."""

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        self._value = self._extend(self._value, data)
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
        return f"{_PREFIX}{self._value:08x}"

    def blocks(self) -> str | None:
        """Return the checksums of the blocks as manifests have them, eight hex digits each; None where one block is all."""
        return "".join(f"{value:08x}" for value in self._blocks) if len(self._blocks) > 1 else None


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes."""
    import google_crc32c

    return int(google_crc32c.value(data))


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
