"""Starting, asking and ending the demo's S3 server."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import StoreUnavailableError
from examples.flights.counted_s3 import COUNTS, HOST
from examples.flights.source import CHECKOUT

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

ACCESS_KEY = SECRET_KEY = "demo"  # noqa: S105 - moto takes any, and this one lives on loopback for a minute
REGION = "us-east-1"


class Counts(NamedTuple):
    """What passed the server, as it saw it."""

    requests: int
    bytes_down: int
    """Of answers' bodies."""
    bytes_up: int
    """Of requests' bodies."""
    data_down: int
    """Of ``bytes_down``, what is of committed files."""

    def since(self, before: Counts) -> Counts:
        """Return what was added since an earlier look."""
        return Counts(*(now - then for now, then in zip(self, before, strict=True)))


class S3Server:
    """Context manager: the server's process, ready when the block begins and gone when it ends, however it ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def endpoint(self) -> str:
        """The server's URL."""
        return f"http://{HOST}:{self._port}"

    def counts(self) -> Counts:
        """Return what passed the server since its start."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        try:
            connection.request("GET", COUNTS)
            return Counts(**json.loads(connection.getresponse().read()))
        finally:
            connection.close()

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        try:
            connection.request("PUT", f"/{name}", headers={"Authorization": _ANY_SIGNATURE})
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.HTTPStatus.OK:
                raise StoreUnavailableError(
                    f"the demo's S3 server made no bucket {name!r}: {answer.status} {answer.reason}"
                )
        finally:
            connection.close()

    def __enter__(self) -> Self:
        # In a session of its own, so that Ctrl-C does not end it before the tasks that use it. It ends when its standard input is closed.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "examples.flights.counted_s3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd=CHECKOUT,
        )
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line.strip().isdigit():
            self.__exit__(None, None, None)
            raise StoreUnavailableError("the demo's S3 server did not start; what it said stands above")
        self._port = int(line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
        finally:  # also at a second Ctrl-C
            self._process.kill()
            self._process.wait()
            self._process = None


_ANY_SIGNATURE = (
    f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130101/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=0"
)
