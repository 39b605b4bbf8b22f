"""PostgreSQL 15 for tests: Debian's programs, a cluster in a temp folder, reached by a socket in that folder and by nothing else."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.services.debian import installed

VERSION = "15"
PROGRAMS = Path(f"/usr/lib/postgresql/{VERSION}/bin")
USER = "postgres"
_SECONDS = 60
# Losing a test's database costs nothing: no write waits for the disk. Few connections take little memory.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "120",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "10s",
}


@dataclass(frozen=True)
class PostgresServer:
    """A running server; who may enter its folder is its superuser."""

    folder: Path
    """Where its socket lies."""
    pid: int

    def url(self, database: str, driver: str = "psycopg2") -> str:
        """The address of a database, for SQLAlchemy."""
        return f"postgresql+{driver}://{USER}@/{database}?host={self.folder}"

    def new_database(self, name: str, *, template: str = "template1") -> None:
        """Make a database, as a copy of another one that nobody is connected to."""
        self._run("createdb", "--template", template, name)

    def databases(self) -> list[str]:
        """The names of all databases."""
        return self.query("postgres", "SELECT datname FROM pg_database ORDER BY datname").split()

    def query(self, database: str, statement: str) -> str:
        """What a statement answers: a line for each row, its columns with a bar between them."""
        return self._run("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname", database, "-c", statement)

    def dump(self, database: str, target: Path) -> None:
        """Write a database to a file."""
        self._run("pg_dump", "--format", "custom", "--compress", "1", "--file", str(target), database)

    def restore(self, source: Path, name: str) -> None:
        """Make a database from a file that `dump` wrote."""
        self.new_database(name)
        self._run("pg_restore", "--exit-on-error", "--dbname", name, str(source))

    def _run(self, program: str, *arguments: str) -> str:
        command = [str(PROGRAMS / program), *arguments]
        environment = {**os.environ, "PGHOST": str(self.folder), "PGUSER": USER}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} failed with exit code {done.returncode}: {done.stderr}")
        return done.stdout


def postgres_programs() -> Path:
    """The folder with the server's programs, installed with Debian's package where we may.

    Raises:
        RuntimeError: They are missing and cannot be installed.
    """
    installed({str(PROGRAMS / "postgres"): f"postgresql-{VERSION}"})
    return PROGRAMS


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server with an empty cluster. It ends with the thread that started it, also when that is killed."""
    programs = postgres_programs()
    # The path of a socket has at most 107 bytes: not below a test's own folder, whose name may be long.
    with tempfile.TemporaryDirectory(prefix="postgres-") as temp:
        folder = Path(temp)
        data, log = folder / "data", folder / "log"
        if os.geteuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(folder, user.pw_uid, user.pw_gid)
        options = ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        made = subprocess.run(
            _as_its_user([str(programs / "initdb"), *options, str(data)]),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed with exit code {made.returncode}: {made.stderr}")
        settings = {**_SETTINGS, "unix_socket_directories": str(folder)}
        arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # SIGQUIT ends it at once and removes its shared memory, which SIGKILL would leave behind.
        bound = ["setpriv", "--pdeathsig", "QUIT", "--", str(programs / "postgres"), "-D", str(data), *arguments]
        with log.open("wb") as words:
            process = subprocess.Popen(
                _as_its_user(bound),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        try:
            _wait(process, programs, folder, log)
            yield PostgresServer(folder, process.pid)
        finally:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _as_its_user(command: Sequence[str]) -> list[str]:
    """A command of the server, which refuses to run as root."""
    if os.geteuid() != 0:
        return list(command)
    if shutil.which("setpriv") is None:
        raise RuntimeError("setpriv is missing: apt-get install util-linux")
    return ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--", *command]


def _wait(process: subprocess.Popen[bytes], programs: Path, folder: Path, log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    ask = [str(programs / "pg_isready"), "--quiet", "--host", str(folder)]
    while subprocess.run(ask, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)
