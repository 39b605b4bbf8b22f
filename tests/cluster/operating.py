"""Operators on a real cluster: a team's namespace, a configuration of a design, tasks that are run, and a look at what they leave."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datalayer import DataLayer, TaskKey
from datalayer.config import Config
from tests.services.airflow import airflow_environment
from tests.services.alluxio import AlluxioServer
from tests.services.kubernetes.client import Team
from tests.services.kubernetes.images import IMAGES
from tests.services.kubernetes.manifests import ACCOUNT, SECRET, SHARED
from tests.services.s3server import S3Server

PROCESS = Path(__file__).with_name("task_process.py")
TEAM = "aviation"
DATE = "2026-11-23T08:00:00+00:00"
RUN = "20261123T080000Z"
MANAGED = "datalayer/managed=true"
# What must be gone is gone by then.
GONE_SECONDS = 120
START = f"""
from datetime import UTC, datetime
from airflow.sdk import DAG
from kubernetes.client import models as k8s
from airflow_ops import ExecutionEnvironmentOperator, S3Destination, SparkExecutionEnvironmentOperator, task_output
SHELL = {IMAGES["shell"].tag!r}
SPARK = {IMAGES["spark"].tag!r}
ARGS = dict(service_account_name={ACCOUNT!r}, image_pull_policy="IfNotPresent")
START = datetime(2026, 1, 1, tzinfo=UTC)
def sh(text):
    return ["sh", "-euc", text]
"""


def wait_until(true: Callable[[], Any], words: str, seconds: float = 120) -> Any:
    """Wait until something is so, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"{words}: not within {seconds} s"
        time.sleep(0.2)
    return found


@dataclass
class Place:
    """A team on the cluster, and the data layer that its tasks use."""

    team: Team
    s3: S3Server
    settings: Path
    """The worker's configuration file."""
    bucket: str = ""
    layer: DataLayer = field(init=False)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def use(self, design: str, alluxio: AlluxioServer | None = None) -> DataLayer:
        """Make a design that of the tasks which begin from now on; return the layer that it gives."""
        self.bucket = self.s3.new_bucket("outputs")
        text = f'design = "{design}"\n[tiers.cold]\nurl = "s3://{self.bucket}/tasks"\nconnection = "lake"\n'
        if design == "shared-fs":
            # The worker has no such volume: manifests live in the bucket.
            text = f'home = "cold"\n{text}[tiers.shared]\nurl = "{self.team.shared}"\n'
        if design == "hot-cold":
            assert alluxio is not None
            hot = self._open.enter_context(alluxio.mount(self.bucket, "tasks"))
            text += f'[hot]\nurl = "{hot.url}"\nproxy = "{hot.proxy}"\n'
        keys = {
            "endpoint": self.s3.endpoint,
            "region": self.s3.region,
            "access_key_id": self.s3.root.access_key,
            "secret_access_key": self.s3.root.secret_key,
        }
        text += "[connections.lake]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in keys.items())
        self.settings.write_text(text)
        self.layer = DataLayer(Config.load(environ={"DATALAYER_CONFIG": str(self.settings)}))
        return self.layer

    def close(self) -> None:
        """Unmount what was mounted."""
        self._open.close()

    @property
    def environment(self) -> dict[str, str]:
        """What Airflow needs to work here."""
        extra = {"kube_config_path": str(self.team.cluster.kubeconfig), "namespace": self.team.namespace}
        return {
            # Airflow takes it for a second configuration beside the connection's.
            "KUBECONFIG": "",
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps({"conn_type": "kubernetes", "extra": extra}),
            "AIRFLOW__DATALAYER__TEAM": TEAM,
            "AIRFLOW__DATALAYER__LAUNCHER": "kubernetes",
            "AIRFLOW__DATALAYER__CONFIG_FILE": str(self.settings),
            "AIRFLOW__DATALAYER__COMMITTER_IMAGE": IMAGES["job"].tag,
            "AIRFLOW__DATALAYER__CREDENTIALS_SECRET": SECRET,
            "AIRFLOW__DATALAYER__VOLUME_CLAIM": SHARED,
        }

    def key(self, dag_id: str, task_id: str, run: str = RUN) -> TaskKey:
        return TaskKey(TEAM, dag_id, task_id, run)

    def text(self, dag_id: str, task_id: str, name: str, run: str = RUN, output: str = "default") -> str:
        """A file of a committed output."""
        found = self.layer.resolve(self.key(dag_id, task_id, run))[output]
        return found.read_bytes(name).decode()

    def head(self, dag_id: str, task_id: str, run: str = RUN) -> int | None:
        """The attempt that the head names."""
        try:
            return self.layer.resolve(self.key(dag_id, task_id, run)).attempt
        except LookupError:
            return None

    def pods(self, selector: str = MANAGED) -> list[dict[str, Any]]:
        return list(json.loads(self.team.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"])

    def running(self, container: str = "base") -> dict[str, Any] | None:
        """The pod whose container runs."""
        for pod in self.pods():
            for status in pod["status"].get("containerStatuses", ()):
                if status["name"] == container and "running" in status["state"]:
                    return pod
        return None

    def left(self) -> list[str]:
        """What tasks that have ended have left: pods, Secrets, staged files and uploads."""
        found = self.team.kubectl("get", "pods,secrets", "-l", MANAGED, "-o", "name").split()
        with self.s3.client() as client:
            uploads = client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
            found += [f"upload {one['Key']}" for one in uploads]
        stores = dict.fromkeys((self.layer.home, *(() if self.layer.data is self.layer.home else (self.layer.data,))))
        for store in stores:
            for info in store.list(""):
                # A claim stays: its number is taken for ever.
                if (
                    "/attempts/" in info.path
                    and not info.path.startswith("hot~")
                    and not info.path.endswith(("/claim.json", "/manifest.json"))
                ):
                    key, _, rest = info.path.partition("/attempts/")
                    if not self._committed(key, int(rest.split("/")[0])):
                        found.append(f"staged {info.path}")
        return found

    def _committed(self, key: str, attempt: int) -> bool:
        try:
            self.layer.resolve(TaskKey.parse(f"/{key.strip('/')}"), attempt=attempt)
        except LookupError:
            return False
        return True

    def assert_nothing_left(self) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        while left := self.left():
            assert time.monotonic() < deadline, left
            time.sleep(1)


@dataclass
class Started:
    """A task that runs, or has run."""

    pid: int
    log: Path
    result: Path
    _tasks: Tasks

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> str:
        """Wait for the end of the process; its state as the task runner has it, or ``killed``."""
        self._tasks.ask(verb="wait", pid=self.pid)
        return self.state

    @property
    def state(self) -> str:
        if not self.result.exists():
            return "killed"
        return str(json.loads(self.result.read_text())["state"])

    @property
    def error(self) -> str:
        return str(json.loads(self.result.read_text()).get("error"))

    def story(self) -> str:
        return self.log.read_text(errors="replace")


class Tasks:
    """A process that runs single tasks."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self._folder = folder
        self._process = process
        self._count = 0
        self._read()

    def start(
        self,
        place: Place,
        source: str,
        task_id: str = "job",
        *,
        dag_id: str = "faults",
        attempt: int = 1,
        identity: uuid.UUID | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Started:
        """Start one try of a task. The DAG in the source is called ``dag``."""
        self._count += 1
        log, result = self._folder / f"{self._count}.log", self._folder / f"{self._count}.json"
        log.touch()
        answer = self.ask(
            verb="run",
            source=START + source,
            task_id=task_id,
            dag_id=dag_id,
            run_id="manual__2026-11-23T08:00:00+00:00",
            logical_date=DATE,
            try_number=attempt,
            # Each try has an id of its own.
            id=str(identity or uuid.uuid4()),
            log=str(log),
            result=str(result),
            environment={**place.environment, **(environment or {})},
        )
        return Started(answer["pid"], log, result, self)

    def run(self, place: Place, source: str, task_id: str = "job", **rest: Any) -> Started:
        """Run one try of a task to its end."""
        started = self.start(place, source, task_id, **rest)
        started.wait()
        return started

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that runs tasks has ended"
        return dict(json.loads(line))


@contextlib.contextmanager
def task_process() -> Iterator[Tasks]:
    """A process that runs tasks, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="tasks-") as temp:
        home = Path(temp)
        environment = airflow_environment(home, f"sqlite:///{home}/airflow.db")
        with (home / "process.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(PROCESS)],
                env=environment,
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            yield Tasks(home, process)
        finally:
            process.communicate()
