"""``Connections``: requests to Alluxio's proxy, on connections that are kept for the next ones.

Python's own HTTP client, because it is the fastest here. Seen with 2.9.6 on loopback, warm, bytes verified: as many bytes a second as boto3 gets
unverified, for half the processor time that obstore takes. And a process that was forked may go on using it.
"""

from __future__ import annotations

import contextlib
import getpass
import http.client
import os
import select
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datalayer.stores.alluxio.address import AlluxioAddress

CONNECT_SECONDS = 0.5
_KEPT = 64
# Less than any server waits.
_KEPT_SECONDS = 5.0


class _Idle(NamedTuple):
    connection: http.client.HTTPConnection
    since: float


class Connections:
    """Connections to one proxy. Safe to use from many threads, and after a fork. Nothing is contacted yet.

    Args:
        address: Where the proxy is.
        timeout: Seconds that it may let its client wait: for a connection (half a second at most), for an answer, and for more of one.
    """

    def __init__(self, address: AlluxioAddress, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._idle: deque[_Idle] = deque()
        self._process = os.getpid()
        weakref.finalize(self, _close, self._idle)

    @contextlib.contextmanager
    def asked(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], seconds: float | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request, and hold the answer, of which only the head has been read. It is tried once.

        Args:
            method: In capitals.
            target: Path and query, quoted.
            body: What is sent along.
            headers: Of the request.
            seconds: How long to wait for an answer, if that is not the time for all requests.

        Raises:
            OSError: There is no answer; ``TimeoutError`` if none in time. So raises also reading its body.
            HTTPException: What came is no answer.
        """
        connection, kept = self._connection()
        limit = self._timeout if seconds is None else seconds
        try:
            try:
                answer = _send(connection, method, target, body, headers, limit)
            except (ConnectionError, http.client.HTTPException):
                # The server may have closed it just when we took it up again.
                if not kept:
                    raise
                connection.close()
                connection = self._connect()
                answer = _send(connection, method, target, body, headers, limit)
            with answer:
                yield answer
                whole = (answer.isclosed() or answer.length == 0) and not answer.will_close
        except BaseException:  # after an interrupt half an answer may lie in the connection
            connection.close()
            raise
        if whole and len(self._idle) < _KEPT:
            self._idle.append(_Idle(connection, time.monotonic()))
        else:
            connection.close()

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        if self._process != os.getpid():
            # They are the other process's, which uses them on.
            _close(self._idle)
            self._process = os.getpid()
        while True:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                return self._connect(), False
            # One with something to read has been closed, or says what nobody has asked.
            fresh = time.monotonic() - since < _KEPT_SECONDS
            if fresh and connection.sock and not select.select([connection.sock], [], [], 0)[0]:
                return connection, True
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        parts = self._address.proxy_parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=min(CONNECT_SECONDS, self._timeout))
        connection.connect()
        return connection


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | None,
    headers: Mapping[str, str],
    seconds: float,
) -> http.client.HTTPResponse:
    if connection.sock:
        connection.sock.settimeout(seconds)
    connection.request(method, target, body, dict(headers))
    return connection.getresponse()


def _close(idle: deque[_Idle]) -> None:
    while idle:
        idle.pop().connection.close()


def user() -> str:
    """Return the name under which Alluxio is asked."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "datalayer"  # A container's user need not have a name.


def authorization() -> dict[str, str]:
    """Return the header that tells the proxy's S3 side who asks. It looks at no signature, and at nothing else of this."""
    scope = f"{user()}/20130101/us-east-1/s3/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
