"""``Telling``: what the receipt and the log hear of a cache that serves, or does not."""

from __future__ import annotations

import errno
import logging
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from datalayer.stores.counting import Receipt
    from datalayer.stores.node_cache.folder import CacheFolder

NOT_CACHED = "not cached"
NO_ROOM = "no room"
CORRUPT = "corrupt"
DROPPED = "dropped as often as it is made"
WAITED = "another process fetches it, and gets nowhere"

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
BROKEN = FULL | {errno.EIO, errno.EROFS}
_REASONS = {
    errno.ENOSPC: "cache folder full",
    errno.EDQUOT: "cache folder full",
    errno.EROFS: "cache folder not writable",
    errno.EACCES: "cache folder not writable",
    errno.EPERM: "cache folder not writable",
    errno.EIO: "cache folder broken",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
}
_NEXT_STEPS = {
    errno.ENOSPC: "Give its disk more room, or the cache a smaller hot.budget",
    errno.EDQUOT: "Give this user more room, or the cache a smaller hot.budget",
    errno.EROFS: "Name a folder that this user may write to as hot.url",
    errno.EACCES: "Name a folder that this user may write to as hot.url",
    errno.EPERM: "Name a folder that this user may write to as hot.url",
    errno.EMFILE: "Let the process open more (ulimit -n)",
    errno.ENFILE: "Let the machine open more (sysctl fs.file-max)",
}


class Telling:
    """Counts in the receipt, and warns once for each reason.

    Args:
        receipt: The receipt.
        tier: What the tier of copies is called in it.
        folder: The cache.
    """

    def __init__(self, receipt: Receipt, tier: str, folder: CacheFolder) -> None:
        self._receipt = receipt
        self._tier = tier
        self._folder = folder
        self._warned: set[str] = set()
        # Called for each piece that is read.
        self.hit: Callable[[int], None] = partial(receipt.hit, tier)
        """Counts bytes that came from a copy."""

    def miss(self, reason: str) -> None:
        """Count a read that went to the cold store."""
        self._receipt.miss(self._tier, reason)

    def corrupt(self, location: object, found: object) -> None:
        """Warn of a copy that is not what was committed."""
        self._warn(
            CORRUPT, f"the copy of {location} in {self._folder.root} is damaged: {found}. It is dropped and made anew"
        )

    def stuck(self, location: object) -> None:
        """Warn of a process that holds others up."""
        self._warn(WAITED, f"{location}: {WAITED}. It is read from the cold tier, and not kept")

    def failed(self, error: OSError) -> str:
        """Warn of a cache folder that cannot be used, and return the reason for the receipt."""
        code = error.errno or 0
        reason = _REASONS.get(code, "cache folder not usable")
        step = _NEXT_STEPS.get(code, "See to the folder and its disk, or name another one as hot.url")
        self._warn(
            reason, f"{reason}: {self._folder.root} ({error.strerror or error}). Reads go to the cold tier. {step}"
        )
        return reason

    def _warn(self, reason: str, message: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            logging.getLogger("datalayer").warning("%s", message)
