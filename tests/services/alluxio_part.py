"""One of Alluxio's server processes: started, killed and started again on the same port, and gone with its owner."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from tests.services.process import bound_to_owner


class AlluxioPart:
    """A process of Alluxio, by name: master, worker, proxy or fuse.

    Args:
        name: What it is called in errors.
        command: Its command line, the same at every start.
        log: Where it writes to, start after start.
        ready: Asks whether it serves; an OSError or ValueError counts as "not yet".
        spawner: Starts it. The process dies with the thread that started it, so it cannot be just any.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, ready: Callable[[], bool], spawner: Executor
    ) -> None:
        self.name, self.log = name, log
        self._command, self._ready, self._spawner = bound_to_owner(command), ready, spawner
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            RuntimeError: it does not run.
        """
        if self._process is None or not self.running:
            raise RuntimeError(f"Alluxio's {self.name} does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether there is a process; it may not serve yet."""
        return self._process is not None and self._process.poll() is None

    @property
    def serves(self) -> bool:
        """Whether it answers now."""
        try:
            return self.running and self._ready()
        except (OSError, ValueError):
            return False

    def start(self) -> None:
        """Start the process where none runs, and do not wait until it serves."""
        if not self.running:
            self._process = self._spawner.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def kill(self) -> None:
        """End the process by SIGKILL, and return when it is gone. Nothing to do where none runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""
