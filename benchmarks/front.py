"""The front before the server: a small program of its own that counts requests and bytes, and can be as slow as S3 is."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from spark_env.cache import made_once
from tests.services.process import HOST, ServerProcess

_SOURCE = Path(__file__).parent / "front" / "main.go"
_COUNTS = "/-counts"


@dataclass(frozen=True)
class Limits:
    """How an emulated origin is slower than this machine's loopback. Nothing is limited by default."""

    connection: float = 0.0
    """Bytes a second over one connection, each way."""
    total: float = 0.0
    """Bytes a second over all, each way."""
    first_byte: float = 0.0
    """Seconds that a GET or HEAD waits."""
    put: float = 0.0
    """Seconds that a PUT, POST or DELETE waits."""
    list: float = 0.0
    """Seconds that a LIST waits."""

    def __str__(self) -> str:
        rates = f"{self.connection / 1e6:g} MB/s a connection and {self.total / 1e6:g} MB/s in all, each way"
        waits = f"{self.first_byte * 1e3:g} ms to the first byte, {self.put * 1e3:g} ms for a PUT, {self.list * 1e3:g} ms for a LIST"
        return f"{rates}; {waits}"


STD = Limits(connection=85e6, total=250e6, first_byte=0.030, put=0.060, list=0.100)
"""S3 as one machine sees it."""


class Counts(msgspec.Struct, frozen=True):
    """What came through a front."""

    requests: dict[str, int]
    """By kind: GET, PUT, HEAD, LIST, POST, DELETE."""
    bytes_up: int
    bytes_down: int


class Front:
    """A running front."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.endpoint = f"http://{HOST}:{port}"

    def counts(self) -> Counts:
        """Return what came through since the start, or since it was last forgotten."""
        return self._ask("GET")

    def forget(self) -> None:
        """Count from nothing."""
        self._ask("POST")

    def _ask(self, method: str) -> Counts:
        with contextlib.closing(http.client.HTTPConnection(HOST, self._port, timeout=30)) as connection:
            connection.request(method, _COUNTS)
            return msgspec.json.decode(connection.getresponse().read(), type=Counts)


@contextlib.contextmanager
def running_front(upstream: str, limits: Limits | None = None) -> Iterator[Front]:
    """A front on a loopback port of its own before the server at ``upstream``.

    Raises:
        RuntimeError: There is no Go toolchain, or the program could not be built or started.
    """
    limits = limits or Limits()
    program = _program()
    rates = [f"-connection={limits.connection}", f"-total={limits.total}"]
    waits = [f"-first-byte={limits.first_byte}s", f"-put={limits.put}s", f"-list={limits.list}s"]

    def command(port: int) -> list[str | Path]:
        return [program, f"-address={HOST}:{port}", f"-upstream={upstream}", *rates, *waits]

    with ServerProcess(command, lambda port: bool(Front(port).counts())) as server:
        yield Front(server.port)


def _program() -> Path:
    def build(folder: Path) -> None:
        if shutil.which("go") is None:
            raise RuntimeError("go is missing: apt-get install golang-go")
        command = ["go", "build", "-o", str(folder / "front"), str(_SOURCE)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"go build {_SOURCE} failed with exit code {done.returncode}:\n{done.stderr}")

    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    return made_once(f"benchmarks/front-{digest}", build) / "front"
