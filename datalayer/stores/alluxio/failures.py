"""Why a copy in Alluxio could not be read. These stay within this package: a reader gets the cold tier's bytes instead."""

from __future__ import annotations


class CopyError(Exception):
    """A copy could not be read.

    Args:
        reason: A few words that stay the same from one time to the next, as receipts count them.
        detail: What was seen this time.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason


class ServiceError(CopyError):
    """Alluxio does not serve, as far as one file tells.

    Args:
        reason: As for all of these.
        detail: Likewise.
        answered: Whether it answered that it failed, or broke off. One damaged copy can make it do so, too.
    """

    def __init__(self, reason: str, detail: str = "", *, answered: bool = False) -> None:
        super().__init__(reason, detail)
        self.answered = answered


class DamagedError(CopyError):
    """This copy is not what was committed."""


class AbsentError(CopyError):
    """Alluxio knows no such file."""
