"""How people write a time on a command line."""

from __future__ import annotations

import re
from datetime import timedelta

from datalayer.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str, option: str) -> timedelta:
    """Return the time that a whole number and a unit spell: ``90m``, ``36h``, ``7d``.

    Raises:
        ConfigError: They spell none.
    """
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if not match:
        raise ConfigError(f"{option} {text!r}: write a whole number and a unit: 90m, 36h, 7d")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
