"""Sizes and names as people read them, in logs and on terminals."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: file names are made by others."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def bytes_text(size: int) -> str:
    """Return a size for people: ``12.3 MiB``."""
    amount = float(size)
    for unit in _UNITS:
        if amount < 1000 or unit == _UNITS[-1]:
            return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("the last unit takes every size")


def files_text(count: int) -> str:
    """Return a number of files for people: ``1 file``, ``12 files``."""
    return "1 file" if count == 1 else f"{count} files"
