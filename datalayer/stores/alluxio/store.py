"""``AlluxioStore``: copies in Alluxio, which reads the cold store's bucket through a mount of its own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from datalayer.errors import TransientStoreError, VerificationError
from datalayer.stores.alluxio.address import AlluxioAddress, literal
from datalayer.stores.alluxio.answers import Usage
from datalayer.stores.alluxio.availability import Availability
from datalayer.stores.alluxio.connections import Connections
from datalayer.stores.alluxio.failures import AbsentError, CopyError, ServiceError
from datalayer.stores.alluxio.fuse import FuseMount
from datalayer.stores.alluxio.proof import Proof
from datalayer.stores.alluxio.proxy import ProxyReader
from datalayer.stores.alluxio.recent import RecentBlocks
from datalayer.stores.alluxio.rest import AlluxioRest
from datalayer.stores.alluxio.spans import UnverifiedError, cut, only_at_the_end, spans, verified
from datalayer.stores.alluxio.verbs import CopyVerbs
from datalayer.stores.checksum import BLOCK
from datalayer.stores.hot import HotStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from datalayer.config import HotConfig
    from datalayer.stores.base import Expected, Store
    from datalayer.stores.counting import Receipt

# Until a worker has heard that it is to drop a copy, and has dropped it. It serves the damaged one meanwhile.
_DROPPING_SECONDS = 2.0

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
    verifies = True

    def __init__(self, cold: Store, receipt: Receipt, hot: HotConfig) -> None:
        super().__init__(cold, receipt)
        self._address = AlluxioAddress.of(hot)
        self.url = str(self._address.url)
        """The folder, ``alluxio://master:19998/folder``."""
        connections = Connections(self._address, hot.timeout)
        self._proxy = ProxyReader(self._address, connections, hot.timeout)
        self._rest = AlluxioRest(self._address, connections, hot.timeout)
        self._fuse = FuseMount(Path(hot.mount), hot.timeout) if hot.mount else None
        self._recent = RecentBlocks()
        self._name = f"Alluxio at {self._address.proxy}"
        self._verbs = CopyVerbs(self._rest, self._recent, self._name, str(cold.root))
        self._availability = Availability(self._name, str(cold.root), self._try_again, self._unreadable)
        self._proof = Proof(self._address, self._rest, self._availability, cold.root)
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
            except (CopyError, UnverifiedError) as failure:
                reason = self._failed(path, failure)
            else:
                self._availability.served(path)
                return
        self.receipt.miss(self.tier.value, reason)
        try:
            for piece in self._delivered(path, expected, at, end, hot=False):
                yield piece, False
        except UnverifiedError as failure:
            raise VerificationError(f"{self.cold.location(path)}: {failure}. Run the task again") from failure

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

    def _failed(self, path: str, failure: CopyError | UnverifiedError) -> str:
        """Do what helps the next reader, and return why this one is sent to the cold store."""
        if isinstance(failure, AbsentError):
            return self._proof.look_again(path)
        if not isinstance(failure, ServiceError) or self._availability.failed(
            path, str(failure), answered=failure.answered
        ):
            self._drop(path, str(failure))
        return failure.reason

    def _try_again(self, path: str) -> None:
        self._proof.try_again(path)

    def _unreadable(self, path: str) -> None:
        self._drop(path, "unreadable, while others can be read")

    def _drop(self, path: str, why: str) -> None:
        if self._verbs.drop_damaged(path, why):
            self._availability.avoid(path, "being replaced", _DROPPING_SECONDS)

    # Health ---------------------------------------------------------------------------------------------------------------------------

    def unavailable(self) -> str | None:
        reason = self._availability.reason()
        return f"{self._name} did not serve a moment ago; it is tried again from time to time" if reason else None

    def out_of_service(self) -> str | None:
        reason = self.unavailable()
        if reason is None:
            try:
                self._rest.status("")
            except TransientStoreError as error:
                return str(error)
        return reason

    def usage(self) -> Usage | None:
        """Return how full all workers are, with whatever; None where that cannot be found out.

        Raises:
            StoreError: The proxy does not answer, or refuses.
        """
        return self._rest.usage()

    # Other ways -----------------------------------------------------------------------------------------------------------------------

    def spark_uri(self, path: str) -> str:
        """Return the ``alluxio://`` URI of a path, or the cold store's where Alluxio does not serve: then there is a miss in the receipt."""
        reason = self._passed_over(path) or self._proof.lacking(path)
        if reason is None:
            return str(self._address.url.join(path))
        self.receipt.miss(self.tier.value, reason)
        return self.cold.spark_uri(path)

    def local_path(self, path: str) -> Path | None:
        """Return where FUSE shows a path, if it is mounted and Alluxio serves."""
        # Seen with 2.9.6: its FUSE knows no characters beyond the first plane of Unicode.
        if self._fuse is None or not literal(path) or any(character > "\uffff" for character in path):
            return None
        if self._fuse.answers():
            return None if self._passed_over(path) or self._proof.lacking(path) else self._fuse.folder / path
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
        return 0 if self._passed_over(path) else min(self._verbs.resident(path), length)

    def evict(self, paths: Iterable[str]) -> None:
        """Drop the copies of files, or of all below a folder. Pins on files stay; those on what lies below a folder end.

        Alluxio's workers follow within a second or two. Seen with 2.9.6: now and then one does not, with a block that it has dropped once before
        (by a race in its AsyncBlockRemover, which then takes the block for one that is being removed until the worker is started again).

        Raises:
            StoreError: Alluxio does not answer, or refuses.
        """
        self._verbs.evict(paths)

    def pin(self, paths: Iterable[str], until: datetime) -> None:  # noqa: ARG002  # Alluxio's pins do not end by themselves
        """Keep the copies of files, also those that are yet to be made, until they are unpinned: who pins has to note until when.

        Raises:
            StoreError: Alluxio does not answer, or refuses.
        """
        self._verbs.pin(paths)

    def unpin(self, paths: Iterable[str]) -> None:
        """Take pins back.

        Raises:
            StoreError: Alluxio does not answer, or refuses.
        """
        self._verbs.unpin(paths)
