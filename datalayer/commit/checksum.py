"""CRC-32C, the checksum of file contents: S3's own, and hardware does it at many gigabytes a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Crc32c:
    """A running CRC-32C (Castagnoli, RFC 3720 appendix B.4)."""

    __slots__ = ("_extend", "_value", "length")

    def __init__(self) -> None:
        import google_crc32c

        self._extend = google_crc32c.extend
        self._value = 0
        self.length = 0
        """Bytes seen."""

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        self._value = self._extend(self._value, data)
        self.length += len(data)

    def text(self) -> str:
        """Return the checksum as manifests have it: ``crc32c:`` and eight hex digits."""
        return f"crc32c:{self._value:08x}"


def checksum_of(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Return the checksum and the length of bytes that come in chunks."""
    crc = Crc32c()
    for chunk in chunks:
        crc.update(chunk)
    return crc.text(), crc.length
