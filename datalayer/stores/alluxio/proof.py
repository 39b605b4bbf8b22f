"""``Proof``: that Alluxio serves just now, for engines that go there by themselves, that its mount is the right one, and its copies no old ones."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from datalayer.errors import ConfigError, TransientStoreError
from datalayer.stores.alluxio.failures import ServiceError

if TYPE_CHECKING:
    from datalayer.addresses.location import Location
    from datalayer.stores.alluxio.address import AlluxioAddress
    from datalayer.stores.alluxio.availability import Availability
    from datalayer.stores.alluxio.rest import AlluxioRest

_log = logging.getLogger("datalayer")

_REMEMBERED_SECONDS = 3.0
_FOLDERS_DEEP = 8
# Engines take a path at once, but a job may be given many thousand of a folder, one after the other.
_COMPARED_SECONDS = 30.0
# Of a folder with 5,000 files on loopback: 1 s the first time.
_COMPARING_SECONDS = 20.0


class Proof:
    """Tries Alluxio from end to end, and remembers for a few seconds that all was well.

    Args:
        address: Where Alluxio is.
        rest: Asks it.
        availability: Told of failures.
        beneath: The cold store's root, on which the hot folder has to be mounted.
    """

    def __init__(
        self, address: AlluxioAddress, rest: AlluxioRest, availability: Availability, beneath: Location
    ) -> None:
        self._address = address
        self._rest = rest
        self._availability = availability
        self._beneath = beneath
        self._until = 0.0
        self._reason: str | None = None
        self._compared: dict[str, float] = {}

    def lacking(self, path: str) -> str | None:
        """Return why engines had better not be sent to Alluxio for a committed path.

        None where a file came through, a master answers, and Alluxio has looked whether what it holds of the path is still what S3 has:
        engines verify nothing, and a root that was emptied and used again has other bytes under the same paths.

        Raises:
            ConfigError: As for :meth:`look_again`.
        """
        return self._out_of_service(path) or self._outdated(path)

    def _out_of_service(self, path: str) -> str | None:
        if time.monotonic() < self._until:
            return self._reason
        file = self._availability.good
        try:
            file = file or self._some_file(path)
            if file is None:
                return self.look_again(path)
            if file:
                self._rest.read_one_byte(file)
        except (ServiceError, TransientStoreError) as failure:
            self._availability.failed(file or path, str(failure))
            return failure.reason if isinstance(failure, ServiceError) else "unavailable"
        self._until, before = time.monotonic() + _REMEMBERED_SECONDS, self._reason
        try:
            self._rest.reach_master()
            self._reason = None
        except ServiceError as failure:
            # Whoever reads through the proxy has no need of it.
            self._reason = "master out of reach"
            if before is None:
                _log.warning("%s: %s; engines are sent to %s", self._address.url, failure, self._beneath)
        return self._reason

    def _outdated(self, path: str) -> str | None:
        now = time.monotonic()
        compared = {one: until for one, until in self._compared.items() if now < until}
        if any(path == one or path.startswith(f"{one}/") for one in compared):
            return None
        try:
            self._check_mount(path)
            if not self._rest.compare(path, _COMPARING_SECONDS):
                return "not there"
        except TransientStoreError as failure:
            _log.warning("%s; %s is read from %s", failure, path, self._beneath)
            return "not compared"
        self._compared = {**compared, path: now + _COMPARED_SECONDS}
        return None

    def try_again(self, path: str) -> None:
        """Find out whether the bytes of a committed file come through, or those of a file in a committed folder.

        Raises:
            ServiceError: They do not.
            StoreError: Alluxio does not answer, or refuses.
        """
        file = self._some_file(path)
        if file:
            self._rest.read_one_byte(file)

    def look_again(self, path: str) -> str:
        """Have Alluxio look for a committed path that it does not know, and return why this reader is sent elsewhere.

        Raises:
            ConfigError: It cannot know it: its folder is mounted elsewhere, or not at all.
        """
        try:
            if self._rest.status(path, sync=True) is None:
                self._check_mount(path)
            _log.warning(
                "%s did not know %s, which is committed; it is read from %s. Alluxio has looked again",
                self._address.url,
                path,
                self._beneath,
            )
        except TransientStoreError as error:
            self._availability.failed(path, str(error))
        return "not there"

    def _some_file(self, path: str) -> str | None:
        """Return a file with a byte in it that lies at a committed path, or below; "" where all are empty; None where Alluxio knows none."""
        status = self._rest.status(path)
        for _ in range(_FOLDERS_DEEP):
            if status is None or not status.folder:
                break
            found = self._rest.files(path)
            # Of one byte Alluxio fetches the whole block, so the smallest file does.
            full = min(
                (one for one in found if one.length and not one.folder), key=lambda one: one.length, default=None
            )
            status = full or next((one for one in found if one.folder), None) or next(iter(found), None)
            path = status.path.removeprefix(self._address.path("")).strip("/") if status else path
        if status is None:
            return None
        return path if status.length and not status.folder else ""

    def _check_mount(self, path: str) -> None:
        folder = self._rest.status("")
        shown = folder.ufs_path.rpartition("://")[2].strip("/") if folder else ""
        if folder is not None and shown == f"{self._beneath.authority}/{self._beneath.path}".strip("/"):
            return  # It is gone from S3 itself, and the cold store will say so.
        found = f"shows {folder.ufs_path or 'nothing of S3'}" if folder else "is not there"
        raise ConfigError(
            f"hot.url: {self._address.url} {found}, so {path} cannot be read there. Mount it on tiers.cold.url, {self._beneath}"
        )
