"""A real Airflow for tests: API server, scheduler with LocalExecutor, DAG processor and triggerer, on PostgreSQL 15.

It listens on one loopback port, that of the API server. The servers for logs, which Airflow opens on all interfaces, stay off.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import psutil

from spark_env.cache import made_once
from tests.services.airflow_api import AirflowApi
from tests.services.postgres import PostgresServer
from tests.services.process import HOST, free_port

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = "airflow_template"
_READY_SECONDS = 240
_END_SECONDS = 10
_PARTS = {
    "api-server": ("api-server", "--host", HOST),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}


class AirflowServer(AirflowApi):
    """A running Airflow. What it can be asked is in `AirflowApi`; here are its processes and folders."""

    def __init__(self, home: Path, port: int, environment: Mapping[str, str]) -> None:
        super().__init__(HOST, port)
        self.home = home
        self.dags = home / "dags"
        self.environment = dict(environment)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def add_dag(self, name: str, source: str) -> Path:
        """Write a DAG file, whole or not at all, and return its path."""
        target = self.dags / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(".new")
        fresh.write_text(source)
        return fresh.rename(target)

    def pid(self, part: str) -> int:
        """The process id of a part: `api-server`, `scheduler`, `dag-processor` or `triggerer`."""
        return self._processes[part].pid

    def start(self, part: str) -> None:
        """Start a part, or start it again."""
        words = [*_PARTS[part], *(("--port", str(self.port)) if part == "api-server" else ())]
        with (self.home / f"{part}.log").open("ab") as log:
            # SIGTERM, not SIGKILL: a part that is told to end takes its own children with it.
            self._processes[part] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "airflow", *words],
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self, part: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a part and all that it started; with SIGKILL its own children are left to themselves, as by a crash."""
        process = self._processes.pop(part)
        family = [] if number == signal.SIGKILL else _family(process.pid)
        process.send_signal(number)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for one in psutil.wait_procs(family, timeout=2)[1]:
            with contextlib.suppress(psutil.Error):
                one.kill()

    def __enter__(self) -> Self:
        try:
            for part in _PARTS:
                self.start(part)
            self._wait_until_ready()
        except BaseException:  # also an interrupt leaves no server running
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # All at once, and each has its time: they end beside each other.
        processes, self._processes = self._processes, {}
        family = [one for process in processes.values() for one in _family(process.pid)]
        for process in processes.values():
            process.terminate()
        deadline = time.monotonic() + _END_SECONDS
        for process in processes.values():
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for one in psutil.wait_procs(family, timeout=2)[1]:
            with contextlib.suppress(psutil.Error):
                one.kill()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            for part, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"Airflow's {part} ended:\n{self._words(part)}")
            with contextlib.suppress(OSError):
                waiting = self.waiting_parts()
                if not waiting:
                    return
            if time.monotonic() > deadline:
                words = "\n".join(f"== {part}\n{self._words(part)}" for part in self._processes)
                raise RuntimeError(f"Airflow did not get ready in {_READY_SECONDS} s:\n{words}")
            time.sleep(0.2)

    def _words(self, part: str) -> str:
        return (self.home / f"{part}.log").read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def airflow_server(postgres: PostgresServer, settings: Mapping[str, str]) -> Iterator[AirflowServer]:
    """An Airflow with a fresh database and no DAGs, until the block ends.

    Args:
        postgres: Where its database is made.
        settings: More environment, such as `AIRFLOW__DATALAYER__…` and `AIRFLOW_CONN_…`.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-") as temp:
        home, port = Path(temp), free_port()
        (home / "dags").mkdir()
        database = f"airflow_{secrets.token_hex(4)}"
        environment = airflow_environment(home, postgres.url(database), postgres.url(database, "asyncpg"))
        environment |= {
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
            "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}/",
            **settings,
        }
        _preload(home)
        _migrated(postgres, home)
        postgres.new_database(database, template=TEMPLATE)
        with AirflowServer(home, port, environment) as server:
            yield server


def airflow_environment(home: Path, database: str, database_async: str | None = None) -> dict[str, str]:
    """The environment of an Airflow for tests: this process's, without any other Airflow's or our own settings, and quick.

    Args:
        home: Its `AIRFLOW_HOME`; DAG files lie in the folder `dags`.
        database: For SQLAlchemy.
        database_async: The same database for coroutines; by default what Airflow makes of the first.
    """
    others = ("AIRFLOW", "DATALAYER_", "AWS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    kept |= {name: value for name, value in os.environ.items() if name == "DATALAYER_CACHE"}
    settings = {
        "core.dags_folder": str(home / "dags"),
        "core.load_examples": "False",
        "core.dags_are_paused_at_creation": "False",
        "core.parallelism": "4",
        "core.fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "core.simple_auth_manager_all_admins": "True",
        "core.min_serialized_dag_update_interval": "0",
        "database.sql_alchemy_conn": database,
        "api.secret_key": secrets.token_hex(16),
        "api_auth.jwt_secret": secrets.token_hex(32),
        "logging.base_log_folder": str(home / "logs"),
        "dag_processor.parsing_processes": "1",
        "dag_processor.refresh_interval": "1",
        "dag_processor.bundle_refresh_check_interval": "1",
        # A file that has changed is parsed at once; the others need not be, again and again.
        "dag_processor.file_parsing_sort_mode": "modified_time",
        "dag_processor.min_file_process_interval": "600",
        "scheduler.scheduler_idle_sleep_time": "0.3",
        "scheduler.scheduler_heartbeat_sec": "1",
        "workers.min_heartbeat_interval": "2",
    }
    if database_async:
        settings["database.sql_alchemy_conn_async"] = database_async
    named = {f"AIRFLOW__{name.replace('.', '__').upper()}": value for name, value in settings.items()}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Airflow's own files, and what its parts start, find the programs of this environment.
    program_path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": ":".join(paths),
        "PATH": program_path,
        "PYTHONWARNINGS": "ignore",
        **named,
    }


def _preload(home: Path) -> None:
    """Have every part import what our operators are made of before it forks: else each task would, for seconds of processor time."""
    (home / "config").mkdir()
    (home / "config" / "airflow_local_settings.py").write_text(
        "import airflow.providers.cncf.kubernetes.operators.pod\nimport airflow.providers.standard.operators.python\n"
    )


def _migrated(postgres: PostgresServer, home: Path) -> None:
    """Make the database that each Airflow gets a copy of: from a file of the cache, which the first run of a version writes."""
    if TEMPLATE in postgres.databases():
        return

    def migrate(folder: Path) -> None:
        postgres.new_database("migrating")
        environment = airflow_environment(home, postgres.url("migrating"), postgres.url("migrating", "asyncpg"))
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"airflow db migrate failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        postgres.dump("migrating", folder / "database")

    # Providers may bring tables of their own.
    installed = sorted(
        f"{one.name}=={one.version}"
        for one in importlib.metadata.distributions()
        if one.name.startswith("apache-airflow")
    )
    digest = hashlib.sha256("\n".join(installed).encode()).hexdigest()[:16]
    postgres.restore(made_once(f"airflow-database/{digest}", migrate) / "database", TEMPLATE)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
