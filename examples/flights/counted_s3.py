"""The demo's S3 server, a process of its own: moto, with every request and every byte counted before it gets there.

It listens on a free port of the loopback interface, prints that port, and ends when its standard input does: so it is gone whatever becomes
of the process that started it. ``GET /demo/counts`` answers with the counts so far, and is not counted itself.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
COUNTS = "/demo/counts"


class Counted:
    """WSGI middleware that counts requests, and the bytes of their bodies and answers."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self._lock = threading.Lock()
        self._counts = {"requests": 0, "bytes_down": 0, "bytes_up": 0, "data_down": 0}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"] == COUNTS:
            with self._lock:
                body = json.dumps(self._counts).encode()
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
            return [body]
        self._add("requests", 1)
        environ["wsgi.input"] = _Read(environ["wsgi.input"], self)
        answer = self._application(environ, start_response)
        if environ["REQUEST_METHOD"] == "HEAD":
            return answer
        return self._passed_on(answer, _is_data(environ["PATH_INFO"]))

    def add_up(self, size: int) -> None:
        """Count bytes of a request's body."""
        self._add("bytes_up", size)

    def _passed_on(self, answer: Iterable[bytes], is_data: bool) -> Iterator[bytes]:
        try:
            for part in answer:
                self._add("bytes_down", len(part))
                if is_data:
                    self._add("data_down", len(part))
                yield part
        finally:
            close = getattr(answer, "close", None)
            if close:
                close()

    def _add(self, name: str, size: int) -> None:
        with self._lock:
            self._counts[name] += size


def _is_data(path: str) -> bool:
    """Whether a path is that of a committed file: ``…/attempts/<number>/<output>/<file>``."""
    rest = path.partition("/attempts/")[2].split("/")
    return len(rest) > 2 and rest[1] != "index"


class _Read:
    """A request's body that tells how much of it was read."""

    def __init__(self, body: BinaryIO, counted: Counted) -> None:
        self._body = body
        self._counted = counted

    def read(self, *size: int) -> bytes:
        return self._told(self._body.read(*size))

    def readline(self, *size: int) -> bytes:
        return self._told(self._body.readline(*size))

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def _told(self, data: bytes) -> bytes:
        self._counted.add_up(len(data))
        return data


def main() -> None:
    """Serve until standard input ends."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = Counted(DomainDispatcherApplication(create_backend_app))
    server = make_server(HOST, 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.buffer.read()
    # At once: connections that clients keep open would hold up an orderly end.
    os._exit(0)


if __name__ == "__main__":
    main()
