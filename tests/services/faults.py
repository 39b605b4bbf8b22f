"""What a fault proxy sees of a request, and what it can do to one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Request:
    """One request as it passed. The counts grow while bytes flow."""

    index: int
    """Its number since the start or the last `reset`, from 0."""
    method: str
    target: str
    """Path and query as they were sent, still encoded."""
    headers: dict[str, str] = field(repr=False)
    """Names in lower case."""
    fault: Fault | None = None
    status: int | None = None
    """What the client was told; None where it was told nothing."""
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def path(self) -> str:
        """The decoded path: bucket and key, with a leading slash."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """The query's names and first values."""
        return {
            name: values[0] for name, values in parse_qs(urlsplit(self.target).query, keep_blank_values=True).items()
        }

    @property
    def kind(self) -> str:
        """The method, or LIST for a GET of a bucket (objects or uploads)."""
        whole_bucket = "/" not in self.path.strip("/")
        return "LIST" if self.method == "GET" and whole_bucket and "location" not in self.query else self.method


@dataclass(frozen=True)
class Answer:
    """An answer the proxy gives itself. Without a body it is the S3 error document of its code."""

    status: int = 503
    code: str = "SlowDown"
    body: bytes | None = None

    def document(self) -> bytes:
        """The body's bytes."""
        if self.body is not None:
            return self.body
        text = f"<Error><Code>{self.code}</Code><Message>scripted fault</Message><RequestId>0</RequestId></Error>"
        return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request. The fields act in the order in which they stand here."""

    before: Callable[[Request], None] | None = None
    """Called when the request has come, before anything is forwarded."""
    delay: float = 0.0
    """Seconds to wait before forwarding."""
    drop_request: bool = False
    """Close the connection; the server never hears of the request."""
    answer: Answer | None = None
    """Give this answer; the server never hears of the request."""
    after: Callable[[Request], None] | None = None
    """Called when the server has answered, before the client hears of it."""
    delay_answer: float = 0.0
    """Seconds to wait before the client gets the answer."""
    drop_answer: bool = False
    """Close the connection; the server has done its part, the client does not know."""
    replace_answer: Answer | None = None
    """Give this answer instead of the server's."""
    trickle: float = 0.0
    """Seconds to wait before each 256 KiB of the answer's body."""
    truncate: int | None = None
    """Pass on the answer's head and this many bytes of its body, then close the connection."""
