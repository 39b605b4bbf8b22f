"""A reverse proxy in front of an S3 server that counts requests and misbehaves on demand.

::

    with FaultProxy(server.endpoint) as proxy:
        proxy.script(Fault(drop_answer=True), kind="PUT", path="head.json")  # applied, the client hears nothing
        proxy.script(Fault(answer=Answer(503)), skip=4, times=2)  # requests number 4 and 5
        ...  # point a client at proxy.endpoint
        assert proxy.count("LIST") == 0

It forwards the Host header as it came, so signatures stay valid, and paths and bodies byte for byte. Loopback only.
"""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address, ip_network
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from tests.services.faults import Answer, Fault, Request

__all__ = ["Answer", "Fault", "FaultProxy", "Request"]

_CHUNK = 1 << 18
# Loopback, and the range that is set aside for benchmarks, in which the cluster of the tests has its bridge.
_OWN = (ip_network("127.0.0.0/8"), ip_network("198.18.0.0/15"))
# A body up to this size is in the proxy before any fault acts: what a killed client had sent is then whole.
_WHOLE = 1 << 20
# These concern one connection only, or are answered by the proxy itself (Expect).
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "expect"}
)


class _Body(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass
class _Rule:
    fault: Fault
    matches: Callable[[Request], bool]
    skip: int
    times: int


class FaultProxy:
    """Context manager: a proxy in front of `upstream` (``http://host:port``), on a port of its own at the same address.

    The address is one that nobody outside can reach: loopback, or the cluster's own bridge.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        if parts.hostname is None or parts.port is None or not _is_own(parts.hostname):
            raise ValueError(f"{upstream}: not a server on a loopback port, or on a bridge of ours")
        self._server = _Server((parts.hostname, parts.port), self)
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._log: list[Request] = []
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fault proxy")

    @property
    def endpoint(self) -> str:
        """URL of the proxy."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def requests(self) -> list[Request]:
        """All requests since the start or the last `reset`, in order of arrival."""
        with self._lock:
            return list(self._log)

    @property
    def counts(self) -> Counter[str]:
        """Requests by kind: GET, PUT, HEAD, LIST, POST, DELETE."""
        return Counter(request.kind for request in self.requests)

    def count(self, kind: str | None = None, path: str = "") -> int:
        """How many requests there were, of one kind, with `path` somewhere in their path."""
        return sum(kind in (None, request.kind) and path in request.path for request in self.requests)

    @property
    def bytes_up(self) -> int:
        """Bytes of request bodies."""
        return sum(request.bytes_up for request in self.requests)

    @property
    def bytes_down(self) -> int:
        """Bytes of answers' bodies."""
        return sum(request.bytes_down for request in self.requests)

    def script(
        self,
        fault: Fault,
        *,
        kind: str | None = None,
        path: str = "",
        where: Callable[[Request], bool] | None = None,
        skip: int = 0,
        times: int = 1,
    ) -> None:
        """Let a fault happen to requests to come.

        Args:
            fault: What happens. Of several rules that match a request, the one scripted first acts.
            kind: Only requests of this kind.
            path: Only requests with this text in their decoded path.
            where: Only requests of which this is true.
            skip: Let this many matching requests pass unharmed first.
            times: How many matching requests are struck; -1 for all.
        """

        def matches(request: Request) -> bool:
            return kind in (None, request.kind) and path in request.path and (where is None or where(request))

        with self._lock:
            self._rules.append(_Rule(fault, matches, skip, times))

    def reset(self) -> None:
        """Forget all rules and counts."""
        with self._lock:
            self._rules.clear()
            self._log.clear()

    def arrived(self, method: str, target: str, headers: dict[str, str]) -> Request:
        """Log a request and decide its fault."""
        with self._lock:
            request = Request(len(self._log), method, target, headers)
            self._log.append(request)
            for rule in self._rules:
                if not rule.times or not rule.matches(request):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                rule.times -= 1
                request.fault = rule.fault
                break
            return request

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()  # joins the threads of all connections
        self._thread.join()


def _is_own(host: str) -> bool:
    return host == "localhost" or any(ip_address(host) in network for network in _OWN)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, upstream: tuple[str, int], proxy: FaultProxy) -> None:
        super().__init__((upstream[0], 0), _Handler)
        self.upstream, self.proxy, self.stopping = upstream, proxy, threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def opened(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)

    def hang_up(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Hangup(Exception):  # noqa: N818 - no error: the scripted end of a connection
    """The connection to the client ends here."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, with one connection to the server beside it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        self.close_connection = True
        self._upstream = HTTPConnection(*self.server.upstream, timeout=120)
        try:
            with self.server.opened(self.connection):
                super().handle()
        # The client hung up (or was killed), the server did, or a fault says so.
        except (OSError, HTTPException, _Hangup):
            pass
        finally:
            self._upstream.close()

    def __getattr__(self, name: str) -> Callable[[], None]:
        # BaseHTTPRequestHandler looks for do_GET, do_PUT and so on: all are one here.
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Print nothing: the log is `FaultProxy.requests`."""

    def _pass_on(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = self.server.proxy.arrived(self.command, self.path, headers)
        fault = request.fault or Fault()
        body = self._body(headers)
        first = body.read(_WHOLE + 1) if body else b""
        request.bytes_up = len(first)
        if fault.before:
            fault.before(request)
        self._wait(fault.delay)
        if fault.drop_request:
            raise _Hangup
        if fault.answer:
            while body and (more := body.read(_CHUNK)):
                request.bytes_up += len(more)
            self._answer(request, fault.answer)
            return
        self._forward(request, first, body)
        answer = self._upstream.getresponse()
        try:
            if fault.after:
                if answer.length != 0:
                    answer.peek(1)  # the server has written its answer, not only its head
                fault.after(request)
            self._wait(fault.delay_answer)
            if fault.drop_answer:
                raise _Hangup
            if fault.replace_answer:
                answer.read()
                self._answer(request, fault.replace_answer)
            else:
                self._pass_back(request, answer, fault)
        finally:
            if not answer.isclosed():
                self._upstream.close()
            answer.close()

    def _body(self, headers: dict[str, str]) -> _Body | None:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return _Chunked(self.rfile)
        length = int(headers.get("content-length", 0))
        return _Sized(self.rfile, length) if length else None

    def _forward(self, request: Request, first: bytes, body: _Body | None) -> None:
        upstream = self._upstream
        if upstream.sock and select.select([upstream.sock], [], [], 0)[0]:
            upstream.close()  # the server has hung up since the last request
        upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        chunked = isinstance(body, _Chunked)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                upstream.putheader(name, value)
        if chunked:
            upstream.putheader("Transfer-Encoding", "chunked")
        upstream.endheaders()
        part = first
        while part:
            try:
                upstream.send(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            except ConnectionError:  # it refused the request before the end of the body: its answer says why
                self.close_connection = True
                return
            part = body.read(_CHUNK) if body else b""
            request.bytes_up += len(part)
        if chunked:
            upstream.send(b"0\r\n\r\n")

    def _pass_back(self, request: Request, answer: HTTPResponse, fault: Fault) -> None:
        request.status = answer.status
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        bodiless = request.method == "HEAD" or answer.status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
        # http.client has undone the server's chunks; without a length they are needed again.
        chunked = not bodiless and answer.getheader("Content-Length") is None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        left = fault.truncate
        while part := answer.read(_CHUNK if left is None else min(_CHUNK, left)):
            self._wait(fault.trickle)
            request.bytes_down += len(part)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            if left is not None:
                left -= len(part)
        # Scripted, or the server broke off: the client must not wait for the rest.
        if fault.truncate is not None or answer.length:
            raise _Hangup
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = self.close_connection or self.server.stopping.is_set()

    def _answer(self, request: Request, answer: Answer) -> None:
        body = answer.document()
        request.status = answer.status
        self.send_response_only(answer.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if request.method != "HEAD":
            request.bytes_down += len(body)
            self.wfile.write(body)

    def _wait(self, seconds: float) -> None:
        if seconds and self.server.stopping.wait(seconds):
            raise _Hangup


class _Sized:
    """A request body of known length."""

    def __init__(self, source: _Body, length: int) -> None:
        self._source, self._left = source, length

    def read(self, size: int, /) -> bytes:
        part = self._source.read(min(size, self._left)) if self._left else b""
        if self._left and not part:
            raise _Hangup  # the client died in the middle: the server must not see this as a whole body
        self._left -= len(part)
        return part


class _Chunked:
    """A request body in chunks; `read` undoes them."""

    def __init__(self, source: _Line) -> None:
        self._source, self._buffer, self._ended = source, b"", False

    def read(self, size: int, /) -> bytes:
        while len(self._buffer) < size and not self._ended:
            length = int(self._source.readline(1024).split(b";")[0] or b"-1", 16)
            if length < 0:
                raise _Hangup
            self._buffer += self._source.read(length)
            self._ended = not length
            while self._source.readline(65536) not in {b"\r\n", b"\n", b""}:
                pass  # the end of the chunk, or trailers
        part, self._buffer = self._buffer[:size], self._buffer[size:]
        return part


class _Line(_Body, Protocol):
    def readline(self, limit: int, /) -> bytes: ...
