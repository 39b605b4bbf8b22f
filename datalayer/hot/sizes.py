"""How sizes are spelled in what the hot tier says: in the units that ``hot.budget`` takes."""

from __future__ import annotations

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
# What is as much or more would be rounded to 1,000 of its unit.
_NEXT = 999.95


def size_text(size: int) -> str:
    """Return a size for people, to four digits and in powers of 1,000: ``10 GB``, ``12.35 MB``."""
    amount = float(size)
    for unit in _UNITS:
        if amount < _NEXT or unit == _UNITS[-1]:
            break
        amount /= 1000
    return f"{amount:.4g} {unit}"
