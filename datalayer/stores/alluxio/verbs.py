"""``CopyVerbs``: what Alluxio is told about the copies of files."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from datalayer.errors import ConfigError, StoreError, TransientStoreError
from datalayer.stores.alluxio.address import literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from datalayer.stores.alluxio.recent import RecentBlocks
    from datalayer.stores.alluxio.rest import AlluxioRest

_PARALLEL = 8

_log = logging.getLogger("datalayer")


class CopyVerbs:
    """Drops and pins copies, and says how much of a file is one.

    Args:
        rest: Tells Alluxio.
        recent: What is remembered here of copies; dropped with them.
        name: The service, for the log.
        instead: What is read instead of it, for the log.
    """

    def __init__(self, rest: AlluxioRest, recent: RecentBlocks, name: str, instead: str) -> None:
        self._rest = rest
        self._recent = recent
        self._name = name
        self._instead = instead

    def resident(self, path: str) -> int:
        """Return how many bytes of a file Alluxio holds; 0 where it does not say."""
        try:
            status = self._rest.status(path)
        except TransientStoreError:
            return 0
        return status.resident if status else 0

    def evict(self, paths: Iterable[str]) -> None:
        """Drop copies. Pins on files stay; those on what lies below a folder end."""
        _each(paths, self._evict)

    def pin(self, paths: Iterable[str]) -> None:
        """Pin files."""
        _each(paths, self._pin)

    def unpin(self, paths: Iterable[str]) -> None:
        """Take pins back."""
        _each(paths, lambda path: self._rest.set_pinned(path, pinned=False))

    def drop_damaged(self, path: str, why: str) -> bool:
        """Have Alluxio fetch a file anew, and log why; return whether it could be told."""
        done = "It is dropped, so that Alluxio fetches it again"
        dropped = True
        try:
            self._evict(path)
            # Whoever changes objects under Alluxio's back leaves it with the old length.
            self._rest.status(path, sync=True)
        except (ConfigError, StoreError) as error:
            done = f"It could not be dropped: {error}"
            dropped = False
        _log.warning(
            "%s: the copy of %s is of no use (%s); it is read from %s. %s", self._name, path, why, self._instead, done
        )
        return dropped

    def _evict(self, path: str) -> None:
        self._recent.forget(path)
        status = self._rest.status(path)
        if status is not None:
            self._rest.free(path)
            if status.pinned:
                self._rest.set_pinned(path, pinned=True)

    def _pin(self, path: str) -> None:
        # What nobody has read yet, Alluxio may have to be shown.
        if not self._rest.set_pinned(path, pinned=True) and self._rest.status(path, sync=True) is not None:
            self._rest.set_pinned(path, pinned=True)


def _each(paths: Iterable[str], tell: Callable[[str], object]) -> None:
    known = [path for path in paths if literal(path)]
    if len(known) == 1:
        tell(known[0])
        return
    with ThreadPoolExecutor(_PARALLEL, "datalayer-alluxio") as pool:
        told = [pool.submit(tell, path) for path in known]
        try:
            for one in told:
                one.result()
        except BaseException:  # also an interrupt ends the threads
            pool.shutdown(wait=False, cancel_futures=True)
            raise
