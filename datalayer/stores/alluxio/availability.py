"""``Availability``: whether Alluxio serves, so that readers do not each find out by waiting.

Whoever meets a failure of the service tells it here. Then Alluxio is left alone, and readers go to the cold tier at once, until a byte of a file
has come through again: that is tried in the background, so that nobody waits for an Alluxio that is down. It is tried at once, since a busy
service may only have been slow; then after a while, and ever more seldom. One that fails again soon after is left alone for a while first.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import ConfigError, PermissionDeniedError, StoreError
from datalayer.stores.alluxio.failures import CopyError

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_SECONDS = 2.0
_LONGEST_SECONDS = 30.0
_ALONE_SECONDS = 60.0

_log = logging.getLogger("datalayer")


class _Avoided(NamedTuple):
    until: float
    reason: str
    seconds: float


class Availability:
    """What is known of a service's health. Safe to use from many threads, and after a fork.

    Args:
        name: The service, for the log.
        instead: What is read instead of it, for the log.
        probe: Tries to read a file; raises where that fails.
        alone: Told of a file that cannot be read while others can.
    """

    def __init__(self, name: str, instead: str, probe: Callable[[str], None], alone: Callable[[str], None]) -> None:
        self._name = name
        self._instead = instead
        self._probe = probe
        self._alone = alone
        self._lock = threading.Lock()
        self._down = False
        self._path = ""
        self._good: str | None = None
        self._wait = 0.0
        self._next = 0.0
        self._back = -_LONGEST_SECONDS
        self._prober: threading.Thread | None = None
        self._avoided: dict[str, _Avoided] = {}

    @property
    def good(self) -> str | None:
        """A file that has been read through the service lately."""
        return self._good

    def reason(self, path: str | None = None) -> str | None:
        """Return why the service, or this file of it, is not asked just now; None where it is to be tried."""
        if not self._down:
            return self._avoiding(path) if self._avoided and path is not None else None
        with self._lock:
            if self._down and time.monotonic() >= self._next:
                self._start_trying()
            return "unavailable" if self._down else None

    def failed(self, path: str, why: str, *, answered: bool = False) -> bool:
        """Note that the service failed a reader of a file. The first one of an outage is logged.

        Args:
            path: The file.
            why: For the log.
            answered: Whether the service is there, and answered that it failed.

        Returns:
            Whether it is the file's own trouble: others could be read after it had failed before.
        """
        with self._lock:
            if self._down:
                return False
            now = time.monotonic()
            if answered and path == self._path and now - self._back < _ALONE_SECONDS:
                self._path = ""
                return True
            self._wait = self._longer() if now - self._back < _LONGEST_SECONDS else 0.0
            self._down, self._path, self._next = True, path, now + self._wait
        _log.warning(
            "%s does not serve (%s): %s and what else is asked for meanwhile is read from %s. It is tried again from time to time",
            self._name,
            why,
            path,
            self._instead,
        )
        self.reason()
        return False

    def served(self, path: str) -> None:
        """Note a file that came through well."""
        self._good = path

    def avoid(self, path: str, reason: str, seconds: float) -> None:
        """Leave the service out for one file, for a while; ever longer if that is asked for again soon after."""
        with self._lock:
            now = time.monotonic()
            self._avoided = {one: known for one, known in self._avoided.items() if known.until > now - _ALONE_SECONDS}
            before = self._avoided.get(path)
            if before is not None:
                seconds = min(max(seconds, 4 * before.seconds), _ALONE_SECONDS)
            self._avoided[path] = _Avoided(now + seconds, reason, seconds)

    def _avoiding(self, path: str) -> str | None:
        known = self._avoided.get(path)
        return known.reason if known is not None and time.monotonic() < known.until else None

    def _longer(self) -> float:
        return min(max(2 * self._wait, _FIRST_SECONDS), _LONGEST_SECONDS)

    def _start_trying(self) -> None:
        if self._prober is None or not self._prober.is_alive():
            # A daemon: it holds nothing, and no process should wait for it at its end.
            self._prober = threading.Thread(target=self._try_again, name="datalayer-alluxio-probe", daemon=True)
            self._prober.start()

    def _try_again(self) -> None:
        path, good = self._path, self._good
        alone = False
        try:
            try:
                self._probe(path)
            except CopyError:
                # It may be this file's own trouble.
                if good is None or good == path:
                    raise
                self._probe(good)
                alone = True
        except (ConfigError, PermissionDeniedError):
            # No outage: the next reader meets it, and raises it.
            self._down = False
            return
        except (CopyError, StoreError):
            with self._lock:
                self._wait = self._longer()
                self._next = time.monotonic() + self._wait
            return
        if alone:
            self._alone(path)
            self.avoid(path, "unavailable", _ALONE_SECONDS)
        with self._lock:
            self._down, self._back = False, time.monotonic()
        _log.info("%s serves again%s", self._name, f", but for {path}" if alone else "")
