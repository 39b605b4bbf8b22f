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

_SOURCES = Path(__file__).parent / "front"
_COUNTS = "/-counts"


@dataclass(frozen=True)
class Limits:
    """How an emulated origin is slower than this machine's loopback. Nothing is limited by default.

    Delays are drawn from sequences that ``seed`` and the round's number begin, one for each kind of request: the n-th GET of a round waits as long in
    every run, and for every contender; in the next round it waits another time.
    """

    connection: float = 0.0
    """Bytes a second over one connection, each way."""
    total: float = 0.0
    """Bytes a second over all, each way."""
    first_byte: float = 0.0
    """Seconds that a GET or HEAD waits, in the median."""
    first_byte_p99: float = 0.0
    """Seconds that one of a hundred waits longer; the delays are lognormal. 0: all wait the same."""
    put: float = 0.0
    """Seconds that a PUT, POST or DELETE waits, in the median."""
    put_p99: float = 0.0
    list: float = 0.0
    """Seconds that a LIST waits, in the median."""
    list_p99: float = 0.0
    gets: int = 0
    """GET, HEAD and LIST requests that one prefix takes in each second; more are answered with 503 SlowDown."""
    puts: int = 0
    """The same of PUT, POST and DELETE."""
    prefix_depth: int = 0
    """How many first parts of a key make a prefix of its own, as S3 makes them under load. 0: the bucket is one, as a new one is."""
    stalls: float = 0.0
    """The share of GETs and HEADs that wait ``stall`` longer: those that meet a part of the service that is in trouble."""
    stall: float = 0.0
    """Seconds."""
    storm_every: float = 0.0
    """Seconds from one storm to the next; the first comes after half of that."""
    storm: float = 0.0
    """Seconds of a storm, in which every request is answered with 503."""
    seed: int = 0

    def __str__(self) -> str:
        rates = [
            f"{rate / 1e6:g} MB/s {where}"
            for rate, where in ((self.connection, "a connection"), (self.total, "in all"))
            if rate
        ]
        waits = [
            f"{_wait(median, p99)} {what}"
            for median, p99, what in (
                (self.first_byte, self.first_byte_p99, "to the first byte"),
                (self.put, self.put_p99, "for a PUT"),
                (self.list, self.list_p99, "for a LIST"),
            )
            if median
        ]
        parts = [f"{' and '.join(rates)}, each way"] if rates else []
        parts += [", ".join(waits)] if waits else []
        if self.gets or self.puts:
            parts.append(f"503 after {self.gets:,} GETs or {self.puts:,} PUTs in a second and prefix")
        if self.stalls:
            parts.append(f"{self.stalls:.1%} of the GETs stall for {self.stall:g} s")
        if self.storm:
            parts.append(f"every {self.storm_every:g} s all requests are answered with 503 for {self.storm:g} s")
        return "; ".join([*parts, f"seed {self.seed}"]) if parts else "not slowed"


def _wait(median: float, p99: float) -> str:
    return f"{median * 1e3:g} ms" + (f" (p99 {p99 * 1e3:g} ms)" if p99 > median else "")


RAW = Limits()
"""The server as it is on this machine's loopback."""

STD = Limits(
    connection=85e6,
    total=250e6,
    first_byte=0.030,
    first_byte_p99=0.200,
    put=0.060,
    put_p99=0.150,
    list=0.100,
    list_p99=0.250,
    gets=5500,
    puts=3500,
)
"""S3 as one machine sees it."""


class Counts(msgspec.Struct, frozen=True):
    """What came through a front."""

    requests: dict[str, int]
    """By kind: GET, PUT, HEAD, LIST, POST, DELETE; those that were refused or abandoned included."""
    bytes_up: int
    bytes_down: int
    refused: int = 0
    """Requests that were answered with 503."""
    abandoned: int = 0
    """Requests whose client went away before the first byte, as the slower one of a hedged pair does."""


class Front:
    """A running front."""

    def __init__(self, port: int, host: str = HOST) -> None:
        self._port, self._host = port, host
        self.endpoint = f"http://{host}:{port}"

    def counts(self) -> Counts:
        """Return what came through since the start, or since it was last forgotten."""
        return self._ask("GET")

    def forget(self, number: int = 0) -> None:
        """Count from nothing, and begin the sequences of delays anew: those of a round, by its number."""
        self._ask("POST", f"?round={number}")

    def _ask(self, method: str, query: str = "") -> Counts:
        with contextlib.closing(http.client.HTTPConnection(self._host, self._port, timeout=30)) as connection:
            connection.request(method, _COUNTS + query)
            return msgspec.json.decode(connection.getresponse().read(), type=Counts)


@contextlib.contextmanager
def running_front(upstream: str, limits: Limits | None = None, host: str = HOST) -> Iterator[Front]:
    """A front on a port of its own, by default loopback's, before the server at ``upstream``.

    Raises:
        RuntimeError: There is no Go toolchain, or the program could not be built or started.
    """
    file = program()
    told = msgspec.json.encode(limits or RAW).decode()

    def command(port: int) -> list[str | Path]:
        return [file, f"-address={host}:{port}", f"-upstream={upstream}", f"-limits={told}"]

    with ServerProcess(command, lambda port: bool(Front(port, host).counts())) as server:
        yield Front(server.port, host)


def program() -> Path:
    """Return the front's program, built the first time.

    Raises:
        RuntimeError: There is no Go toolchain, or the build failed.
    """
    return built("front", _SOURCES)


def built(name: str, sources: Path) -> Path:
    """Return the program that a folder of Go sources makes, built the first time.

    Raises:
        RuntimeError: There is no Go toolchain, or the build failed.
    """

    def build(folder: Path) -> None:
        if shutil.which("go") is None:
            raise RuntimeError("go is missing: apt-get install golang-go")
        what = ["."] if (sources / "go.mod").exists() else [path.name for path in files if path.suffix == ".go"]
        command = ["go", "build", "-trimpath", "-buildvcs=false", "-o", str(folder / name), *what]
        done = subprocess.run(
            command, cwd=sources, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"go build {sources} failed with exit code {done.returncode}:\n{done.stderr}")

    files = sorted(path for path in sources.iterdir() if path.suffix in {".go", ".mod", ".sum"})
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    return made_once(f"benchmarks/{name}-{digest}", build) / name
