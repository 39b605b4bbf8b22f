"""A server process of a test: on a free loopback port, ready when it is handed out, gone when the test run is."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def steady_ports(count: int) -> list[int]:
    """Loopback ports that were free a moment ago, and that the kernel gives to nobody who does not ask for them by number.

    A server that is killed and started again finds them free. (Not so where the kernel has been told to give away all.)
    """
    kernels_first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    end = kernels_first if kernels_first > 12_000 else 60_000
    ports: list[int] = []
    with contextlib.ExitStack() as probes:
        while len(ports) < count:
            port = random.randrange(10_000, end)
            probe = probes.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                ports.append(port)
    return ports


def bound_to_owner(command: Sequence[str | Path]) -> list[str]:
    """A command line whose process dies with the thread that starts it, also when that is killed.

    The first program becomes the second: the process id stays.
    """
    return ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]


class ServerProcess:
    """Context manager around one server process.

    Args:
        command: Gives the command line for a port.
        ready: Asks the server on a port whether it serves; any OSError counts as "not yet".
        seconds: How long the server may take to get ready.
        log: A file for what it prints; by default one that has no name.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str | Path]],
        ready: Callable[[int], bool],
        *,
        seconds: float = 60,
        log: Path | None = None,
    ) -> None:
        self._command, self._ready, self._seconds = command, ready, seconds
        # Closed in __exit__: the server writes to it until then.
        self._log = log.open("w+b") if log else tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def log(self) -> str:
        """What the server has printed so far."""
        # The server writes at the offset of the same open file: read without moving it.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        # Another run on this machine may take the port between our look and the server's bind: then the server ends.
        for _ in range(5):
            self.port = free_port()
            command = bound_to_owner(self._command(self.port))
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
            )
            if self._wait(self._process):
                return self
            self._stop()
        log = self.log()
        self._log.close()
        raise RuntimeError(f"the server did not get ready: {command}\n{log}")

    def _wait(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + self._seconds
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if self._ready(self.port) and process.poll() is None:
                    return True
            except OSError:
                pass
            time.sleep(0.02)
        return False

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._log.close()
