"""``AlluxioStore``: copies in Alluxio, which reads the cold store's bucket through a mount of its own."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from datalayer.errors import ConfigError, StoreError, TransientStoreError, VerificationError
from datalayer.stores.alluxio.address import AlluxioAddress, literal
from datalayer.stores.alluxio.availability import Availability
from datalayer.stores.alluxio.failures import AbsentError, CopyError, DamagedError, ServiceError
from datalayer.stores.alluxio.fuse import FuseMount
from datalayer.stores.alluxio.proxy import ProxyReader
from datalayer.stores.alluxio.recent import RecentBlocks
from datalayer.stores.alluxio.rest import AlluxioRest, Usage
from datalayer.stores.alluxio.spans import EndedError, MismatchError, cut, only_at_the_end, spans, verified
from datalayer.stores.checksum import BLOCK
from datalayer.stores.hot import HotStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from datalayer.config import HotConfig
    from datalayer.stores.base import Expected, Store
    from datalayer.stores.counting import Receipt

_PARALLEL = 8
# Until a worker has heard that it is to drop a copy, and has dropped it.
_DROPPING_SECONDS = 2.0
_PROBED_SECONDS = 3.0
_FOLDERS_DEEP = 8

_log = logging.getLogger("datalayer")


class AlluxioStore(HotStore):
    """A folder of Alluxio that is mounted on the cold store's root.

    Bytes that come through Alluxio count as hits once they are verified. Whether they lay in its cache, or were fetched from S3 by it just then,
    a read does not tell: the S3 server's count of requests does, and :meth:`resident`.

    What Alluxio fails to serve is read from the cold store, from wherever in a file it failed; readers do not notice. A failure of the service
    has it left alone for some seconds; a failure of one copy has that copy dropped, so that Alluxio fetches it again.

    Args:
        cold: The store whose files are copied.
        receipt: Told of hits and misses.
        hot: The configuration.

    Raises:
        ConfigError: ``hot.url`` or ``hot.proxy`` names no place.
    """

    can_map = False

    def __init__(self, cold: Store, receipt: Receipt, hot: HotConfig) -> None:
        super().__init__(cold, receipt)
        self._address = AlluxioAddress.of(hot)
        self.url = str(self._address.url)
        """The folder, ``alluxio://master:19998/folder``."""
        self._proxy = ProxyReader(self._address, hot.timeout)
        self._rest = AlluxioRest(self._address, hot.timeout)
        self._fuse = FuseMount(Path(hot.mount), hot.timeout) if hot.mount else None
        self._recent = RecentBlocks()
        self._name = f"Alluxio at {self._address.proxy}"
        self._availability = Availability(self._name, str(cold.root), self._rest.read_one_byte)
        self._proven = 0.0
        self._said_unmounted = False

    # Reading --------------------------------------------------------------------------------------------------------------------------

    def pieces(self, path: str, expected: Expected, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of a committed file.

        Raises:
            ConfigError: What answers under ``hot.proxy`` is no proxy of Alluxio, or ``hot.url`` is not mounted on the cold store's root.
            NotFoundError: The cold store was asked, and has no such object.
            PermissionDeniedError: Alluxio refuses the request.
            VerificationError: The cold store was asked, and its bytes are not the ones that were committed. Or the copy of a file that can
                only be verified as a whole was not; it is dropped then, and the next reading is right.
        """
        if only_at_the_end(expected, start, end):
            return self._verified_at_the_end(path, expected)
        return (piece for piece, _ in self._sourced(path, expected, start, end))

    def _sourced(self, path: str, expected: Expected, start: int, end: int) -> Iterator[tuple[bytes, bool]]:
        """Yield the bytes, each piece with whether it came through Alluxio."""
        at = start
        for piece, hot in self._kept(path, expected, start, end):
            at += len(piece)
            yield piece, hot
        if at >= end:
            return
        reason = self._passed_over(path)
        if reason is None:
            try:
                for piece in self._delivered(path, expected, at, end, hot=True):
                    at += len(piece)
                    self.receipt.hit(self.tier.value, len(piece))
                    yield piece, True
            except (CopyError, EndedError, MismatchError) as failure:
                reason = self._failed(path, failure)
            else:
                self._availability.served(path)
                return
        self.receipt.miss(self.tier.value, reason)
        try:
            for piece in self._delivered(path, expected, at, end, hot=False):
                yield piece, False
        except (EndedError, MismatchError) as failure:
            raise VerificationError(
                f"{self.cold.location(path)}: {failure} are not the ones that were committed. Run the task again"
            ) from failure

    def _delivered(self, path: str, expected: Expected, start: int, end: int, *, hot: bool) -> Iterator[bytes]:
        wanted = spans(expected, start, end)
        first, last = wanted[0].start, wanted[-1].stop
        through = self._proxy.read(path, expected.length, first, last)
        for span, held in verified(through if hot else self.cold.stream_range(path, first, last, piece=BLOCK), wanted):
            if span.start < start or span.stop > end:
                self._recent.keep(path, span, held, hot=hot)
            yield from cut(span, held, start, end)

    def _kept(self, path: str, expected: Expected, start: int, end: int) -> Iterator[tuple[bytes, bool]]:
        first = spans(expected, start, min(end, start + 1))
        # Who wants all of a block is given it by Alluxio: it may be wanted there.
        if not first or (first[0].start >= start and first[0].stop <= end):
            return
        known = self._recent.get(path, first[0])
        if known is None:
            return
        held, hot = known
        for piece in cut(first[0], held, start, end):
            if hot:
                self.receipt.hit(self.tier.value, len(piece))
            yield piece, hot

    def _verified_at_the_end(self, path: str, expected: Expected) -> Iterator[bytes]:
        import google_crc32c

        checksum, hot = 0, False
        for piece, from_copy in self._sourced(path, expected, 0, expected.length):
            checksum = google_crc32c.extend(checksum, piece)
            hot = hot or from_copy
            yield piece
        if checksum == expected.checksum:
            return
        if hot:
            self.receipt.miss(self.tier.value, "corrupt")
            self._drop(path, "corrupt")
        advice = "Its copy is dropped; read it again" if hot else "Run the task again"
        raise VerificationError(
            f"{self.cold.location(path)}: the bytes that were read are not the ones that were committed. {advice}"
        )

    def _passed_over(self, path: str) -> str | None:
        if not literal(path):
            return "name not supported"
        return self._availability.reason(path)

    def _failed(self, path: str, failure: Exception) -> str:
        """Do what helps the next reader, and return why this one is sent to the cold store."""
        if isinstance(failure, ServiceError):
            self._availability.failed(path, str(failure))
            return failure.reason
        if isinstance(failure, AbsentError):
            return self._look_again(path)
        reason = (
            failure.reason
            if isinstance(failure, DamagedError)
            else "corrupt"
            if isinstance(failure, MismatchError)
            else "short"
        )
        self._drop(path, f"{reason}: {failure}")
        return reason

    def _drop(self, path: str, why: str) -> None:
        done = "It is dropped, so that Alluxio fetches it again"
        try:
            self._free(path)
            # Whoever changes objects under Alluxio's back leaves it with the old length.
            self._rest.status(path, sync=True)
            self._availability.avoid(path, "being replaced", _DROPPING_SECONDS)
        except (ConfigError, StoreError) as error:
            done = f"It could not be dropped: {error}"
        _log.warning(
            "%s: the copy of %s is not what was committed (%s); it is read from %s. %s",
            self._name,
            path,
            why,
            self.cold.root,
            done,
        )

    def _free(self, path: str) -> None:
        status = self._rest.status(path)
        if status is not None:
            self._rest.free(path)
            if status.pinned:
                self._rest.set_pinned(path, pinned=True)

    def _look_again(self, path: str) -> str:
        """Have Alluxio look for a committed file that it does not know.

        Raises:
            ConfigError: It cannot know it: its folder is mounted elsewhere, or not at all.
        """
        try:
            if self._rest.status(path, sync=True) is None:
                self._check_mount(path)
        except TransientStoreError as error:
            self._availability.failed(path, str(error))
        return "not there"

    def _check_mount(self, path: str) -> None:
        folder = self._rest.status("")
        root = self.cold.root
        beneath = folder.ufs_path.rpartition("://")[2].strip("/") if folder else ""
        if folder is None or beneath != f"{root.authority}/{root.path}".strip("/"):
            found = f"is {folder.ufs_path or 'not mounted'}" if folder else "is not there"
            raise ConfigError(
                f"hot.url: {self.url} {found} in {self._name}, and does not show {path}. Mount it on tiers.cold.url, {root}"
            )

    # Health ---------------------------------------------------------------------------------------------------------------------------

    def unavailable(self) -> str | None:
        reason = self._availability.reason()
        return f"{self._name} did not serve a moment ago; it is tried again from time to time" if reason else None

    def usage(self) -> Usage | None:
        """Return how full all workers are, with whatever; None where that cannot be found out.

        Raises:
            StoreError: The proxy does not answer, or refuses.
        """
        return self._rest.usage()

    def _not_proven(self, path: str) -> str | None:
        """Return why engines that go to Alluxio by themselves had better not; None where a file came through just now, and a master answers."""
        reason = self._passed_over(path)
        if reason is not None or time.monotonic() < self._proven:
            return reason
        try:
            self._rest.reach_master()
            file = self._availability.good or self._some_file(path)
            if file is None:
                return self._look_again(path)
            self._rest.read_one_byte(file)
        except (ServiceError, TransientStoreError) as failure:
            reason = failure.reason if isinstance(failure, ServiceError) else "unavailable"
            self._availability.failed(path, str(failure))
            return reason
        self._proven = time.monotonic() + _PROBED_SECONDS
        return None

    def _some_file(self, path: str) -> str | None:
        """Return a file that lies at a committed path, or below it; None where Alluxio knows none."""
        status = self._rest.status(path)
        for _ in range(_FOLDERS_DEEP):
            if status is None or not status.folder:
                break
            found = self._rest.files(path)
            status = next((one for one in found if one.length and not one.folder), None) or next(iter(found), None)
            path = status.path.removeprefix(self._address.path("")).strip("/") if status else path
        return path if status is not None else None

    # Other ways -----------------------------------------------------------------------------------------------------------------------

    def spark_uri(self, path: str) -> str:
        """Return the ``alluxio://`` URI of a path, or the cold store's where Alluxio does not serve: then there is a miss in the receipt."""
        reason = self._not_proven(path)
        if reason is None:
            return str(self._address.url.join(path))
        self.receipt.miss(self.tier.value, reason)
        return self.cold.spark_uri(path)

    def local_path(self, path: str) -> Path | None:
        """Return where FUSE shows a path, if it is mounted and Alluxio serves."""
        if self._fuse is None or not literal(path):
            return None
        if self._fuse.answers():
            return None if self._not_proven(path) else self._fuse.folder / path
        if not self._said_unmounted:
            self._said_unmounted = True
            _log.warning(
                "hot.mount: %s is not mounted by FUSE, or does not answer; files have no path on this machine",
                self._fuse.folder,
            )
        return None

    def whole(self, path: str, expected: Expected) -> None:  # noqa: ARG002  # what FUSE shows is verified by nobody
        return None

    # Verbs ----------------------------------------------------------------------------------------------------------------------------

    def resident(self, path: str, length: int) -> int:
        if self._passed_over(path):
            return 0
        try:
            status = self._rest.status(path)
        except TransientStoreError:
            return 0
        return min(status.resident, length) if status else 0

    def evict(self, paths: Iterable[str]) -> None:
        """Drop the copies of files, or of all below a folder. Pins on files stay; those on what lies below a folder end.

        Alluxio's workers follow within a second or two.

        Raises:
            StoreError: Alluxio does not answer, or refuses.
        """
        self._each(paths, self._evict)

    def pin(self, paths: Iterable[str], until: datetime) -> None:  # noqa: ARG002  # Alluxio's pins do not end by themselves
        """Keep the copies of files, also those that are yet to be made, until they are unpinned: who pins has to note until when.

        Raises:
            StoreError: Alluxio does not answer, or refuses.
        """
        self._each(paths, self._pin)

    def unpin(self, paths: Iterable[str]) -> None:
        """Take pins back.

        Raises:
            StoreError: Alluxio does not answer, or refuses.
        """
        self._each(paths, lambda path: self._rest.set_pinned(path, pinned=False))

    def _evict(self, path: str) -> None:
        self._recent.forget(path)
        self._free(path)

    def _pin(self, path: str) -> None:
        # What nobody has read yet, Alluxio may have to be shown.
        if not self._rest.set_pinned(path, pinned=True) and self._rest.status(path, sync=True) is not None:
            self._rest.set_pinned(path, pinned=True)

    def _each(self, paths: Iterable[str], tell: Callable[[str], object]) -> None:
        literal_ones = [path for path in paths if literal(path)]
        if len(literal_ones) == 1:
            tell(literal_ones[0])
            return
        with ThreadPoolExecutor(_PARALLEL, "datalayer-alluxio") as pool:
            told = [pool.submit(tell, path) for path in literal_ones]
            try:
                for one in told:
                    one.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
