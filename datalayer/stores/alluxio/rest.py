"""``AlluxioRest``: what Alluxio is told and asked through its proxy's REST side, and quick looks at whether it serves."""

from __future__ import annotations

import http.client
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from datalayer.errors import ConfigError, StoreError, StoreTimeoutError, StoreUnavailableError
from datalayer.stores.alluxio.answers import FileStatus, MasterInfo, ProxyInfo, RestError, Usage
from datalayer.stores.alluxio.connections import CONNECT_SECONDS, authorization
from datalayer.stores.alluxio.failures import ServiceError
from datalayer.stores.alluxio.proxy import denied, no_proxy
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datalayer.stores.alluxio.address import AlluxioAddress
    from datalayer.stores.alluxio.connections import Connections

_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NOT_SERVED = (
    "alluxio.proxy.s3.v2.version.enabled=false is missing among the proxy's properties: without it, its REST side answers everything with "
    "an empty 200 and does nothing"
)


class _Missing(Exception):  # noqa: N818  # an answer, no error
    """There is no such path."""


_T = TypeVar("_T")


class AlluxioRest:
    """The REST side of Alluxio's proxy. Every request is tried once.

    All methods raise ``StoreUnavailableError`` or ``StoreTimeoutError`` where Alluxio does not answer or cannot do it just now,
    ``PermissionDeniedError`` where it refuses, and ``ConfigError`` where what answers has no such interface.

    Args:
        address: Where Alluxio is.
        connections: To its proxy.
        timeout: Seconds that the proxy may let its client wait.
    """

    def __init__(self, address: AlluxioAddress, connections: Connections, timeout: float) -> None:
        self._address = address
        self._connections = connections
        self._timeout = timeout
        self._served = False

    def status(self, path: str, *, sync: bool = False) -> FileStatus | None:
        """Return what Alluxio says of a path; None where it knows none.

        Args:
            path: The path, below the hot folder.
            sync: Whether it looks at S3 first: what it had forgotten or remembered wrongly is right afterwards.
        """
        body = {"commonOptions": {"syncIntervalMs": 0}} if sync else {}
        try:
            return self._decode(self._verb(path, "get-status", body), FileStatus)
        except _Missing:
            return None

    def files(self, path: str) -> list[FileStatus]:
        """Return what lies in a committed folder, one level of it; nothing where Alluxio knows no such folder."""
        try:
            return self._decode(self._verb(path, "list-status", {}), list[FileStatus])
        except _Missing:
            return []

    def compare(self, path: str, seconds: float) -> bool:
        """Have Alluxio look at S3 for a file, or for all below a folder: copies of what is another file there now are dropped.

        Args:
            path: The path, below the hot folder.
            seconds: How long to wait: S3 lists a large folder for longer than a reader may wait for an answer.

        Returns:
            Whether it knows the path then.
        """
        body = {"recursive": True, "loadMetadataOnly": True, "commonOptions": {"syncIntervalMs": 0}}
        try:
            self._verb(path, "list-status", body, seconds)
        except _Missing:
            return False
        return True

    def free(self, path: str) -> None:
        """Drop the copies of a file, or of all below a folder. The pins on them end."""
        self._try(path, "free", {"recursive": True, "forced": True})

    def set_pinned(self, path: str, *, pinned: bool) -> bool:
        """Pin a file or take the pin back; return whether Alluxio knows the file."""
        return self._try(path, "set-attribute", {"pinned": pinned})

    def usage(self) -> Usage | None:
        """Return how full the workers are; None where the proxy does not say which master to ask, or that is out of reach."""
        said = self._decode(self._request("GET", self._address.info_target), ProxyInfo).configuration
        host = said.get("alluxio.master.web.hostname") or said.get("alluxio.master.hostname")
        port = said.get("alluxio.master.web.port")
        if not host or not isinstance(port, int):
            return None
        connection = http.client.HTTPConnection(str(host), port, timeout=self._timeout)
        try:
            connection.request("GET", "/api/v1/master/info")
            capacity = msgspec.json.decode(connection.getresponse().read(), type=MasterInfo).capacity
        except (OSError, http.client.HTTPException, msgspec.DecodeError):
            return None
        finally:
            connection.close()
        return Usage(capacity.used, capacity.total)

    def read_one_byte(self, path: str) -> None:
        """Find out whether the bytes of a committed file come through: the first of them is asked for.

        Args:
            path: The file. Where it has been deleted, Alluxio saying so will do.

        Raises:
            ServiceError: They do not.
        """
        headers = {"Range": "bytes=0-0", **authorization()}
        try:
            answer = self._ask("GET", self._address.object_target(path), None, headers)
        except StoreError as error:
            raise ServiceError(
                "timed out" if isinstance(error, StoreTimeoutError) else "unavailable", str(error)
            ) from error
        said = f"HTTP {answer.status}"
        if answer.status in _REFUSED:
            raise denied(self._address, said)
        if answer.status == HTTPStatus.NOT_FOUND and b"NoSuchKey" not in answer.body:
            raise no_proxy(self._address, said)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ServiceError("unavailable", said)

    def reach_master(self) -> None:
        """Find out whether a master accepts connections, which Spark needs.

        Raises:
            ServiceError: None does.
        """
        last: OSError | None = None
        for host, port in self._address.masters:
            try:
                socket.create_connection((host, port), timeout=min(CONNECT_SECONDS, self._timeout)).close()
            except OSError as error:
                last = error
            else:
                return
        if last is not None:
            raise ServiceError("unavailable", f"no master at {self._address.url.authority}: {last}") from last

    # Requests -------------------------------------------------------------------------------------------------------------------------

    def _try(self, path: str, verb: str, body: Mapping[str, object]) -> bool:
        # These are answered with nothing when all is well, too.
        if not self._served:
            self.status("")
        try:
            self._verb(path, verb, body)
        except _Missing:
            return False
        return True

    def _verb(self, path: str, verb: str, body: Mapping[str, object], seconds: float | None = None) -> bytes:
        return self._request("POST", self._address.verb_target(path, verb), msgspec.json.encode(body), seconds)

    def _request(self, method: str, target: str, body: bytes | None = None, seconds: float | None = None) -> bytes:
        answer = self._ask(method, target, body, {"Content-Type": "application/json"} if body else {}, seconds)
        if answer.status == HTTPStatus.OK:
            return answer.body
        said = f"HTTP {answer.status}"
        try:
            error = msgspec.json.decode(answer.body, type=RestError)
        except msgspec.DecodeError:
            error = RestError()
        if error.status_code == "NOT_FOUND":
            raise _Missing
        if answer.status in _REFUSED or error.status_code in {"PERMISSION_DENIED", "UNAUTHENTICATED"}:
            raise denied(self._address, f"{said} {error.message}".strip())
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise no_proxy(self._address, said)
        raise self._unavailable(f"it answered {said} {error.message}".strip())

    def _ask(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], seconds: float | None = None
    ) -> _Answer:
        try:
            with self._connections.asked(method, target, body, headers, seconds) as answer:
                return _Answer(answer.status, answer.read())
        except TimeoutError as error:
            limit = self._timeout if seconds is None else seconds
            raise StoreTimeoutError(
                f"{self._address.url}: the proxy at {self._address.proxy} did not answer within {limit:g} s",
                tier=Tier.HOT.value,
                location=str(self._address.url),
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unavailable(str(error) or type(error).__name__) from error

    def _decode(self, document: bytes, kind: type[_T]) -> _T:
        if not document:
            raise ConfigError(
                f"hot.proxy: {self._address.proxy} does not serve Alluxio's REST interface. Most likely {_NOT_SERVED}"
            )
        try:
            decoded = msgspec.json.decode(document, type=kind)
        except msgspec.DecodeError as error:
            raise no_proxy(self._address, str(error)) from error
        self._served = True
        return decoded

    def _unavailable(self, why: str) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self._address.url}: the proxy at {self._address.proxy} cannot serve: {why}. Check that Alluxio's master, worker and proxy run",
            tier=Tier.HOT.value,
            location=str(self._address.url),
        )


class _Answer(NamedTuple):
    status: int
    body: bytes
