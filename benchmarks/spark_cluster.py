"""``ClusterSpark``: one Spark on a Kubernetes cluster, its driver in a pod and its executors in others, which runs what it is told to."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import spark_in_pod
from benchmarks.spark_in_pod import PORT
from benchmarks.spark_room import cpu_seconds
from benchmarks.worker import LIMIT
from datalayer import Config
from spark_env.kubernetes import (
    EXECUTOR_TEMPLATE,
    PROPERTIES,
    DriverPod,
    SparkOnPods,
    as_properties,
    data_conf,
    driver_conf,
    executor_template,
)
from tests.services.kubernetes.client import Team
from tests.services.kubernetes.manifests import ACCOUNT, SHARED

EXECUTORS = 2
_POD, _PLACE, _PROGRAM = "driver", "/job", "queries.py"
_CONF = {
    "spark.driver.memory": "1g",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.session.timeZone": "UTC",
    # No query begins with half of them.
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    "spark.scheduler.maxRegisteredResourcesWaitingTime": "120s",
}


class ClusterSpark:
    """A driver and executors in a team's namespace, gone with it.

    Args:
        team: The namespace.
        config: With all that a query may read from: so that executors know how long to wait for Alluxio.
    """

    def __init__(self, team: Team, config: Config) -> None:
        self._team = team
        if team.shared is None:
            raise LookupError("the cluster's node shares no folder with this machine")
        volumes = [{"name": SHARED, "persistentVolumeClaim": {"claimName": SHARED}}]
        mounts = [{"name": SHARED, "mountPath": str(team.shared)}]
        # It loads Docker's client, half a second that every contender of any workload would spend.
        from tests.services.kubernetes.images import IMAGES

        job = SparkOnPods(name="p14", image=IMAGES["spark"].tag, executors=(EXECUTORS, EXECUTORS), cpu="100m")
        pod = DriverPod(_POD, team.namespace, "", ACCOUNT)
        settings = driver_conf(job, pod, template=f"{_PLACE}/{EXECUTOR_TEMPLATE}") | data_conf(config, {}) | _CONF
        # Its address is known when it runs.
        del settings["spark.driver.host"]
        files = {
            PROPERTIES: as_properties(settings),
            EXECUTOR_TEMPLATE: json.dumps(executor_template({}, labels={}, volumes=volumes, mounts=mounts)),
            _PROGRAM: Path(spark_in_pod.__file__).read_text(encoding="utf-8"),
        }
        team.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "job"}, "data": files})
        submit = (
            f'exec spark-submit --properties-file {_PLACE}/{PROPERTIES} --conf "spark.driver.host=$POD_IP" '
            f"{_PLACE}/{_PROGRAM}"
        )
        base = {
            "args": ["sh", "-c", submit],
            "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "volumeMounts": [{"name": "job", "mountPath": _PLACE}, *mounts],
        }
        volumes = [*volumes, {"name": "job", "configMap": {"name": "job"}}]
        team.run(_POD, job.image, base=base, serviceAccountName=ACCOUNT, volumes=volumes)
        team.wait(_POD, "Running")
        self._address = team.pod(_POD)["status"]["podIP"]
        self._wait()
        self._pids: list[int] = []

    def prepare(self, **asked: Any) -> None:
        """Make ready for one run."""
        self._ask("prepare", asked)

    def run(self) -> list[list[str]]:
        """Run what was prepared, and return the rows."""
        found: list[list[str]] = self._ask("run", {})["rows"]
        return found

    def cpu(self) -> float:
        """Return the CPU seconds that driver and executors have spent so far."""
        if not self._pids:
            # All are processes of this machine. Each has the driver's address among its words.
            own = [one for one in psutil.process_iter(["cmdline"]) if self._is_ours(one.info["cmdline"] or [])]
            self._pids = sorted({each.pid for one in own for each in (one, *one.children(recursive=True))})
        return sum(map(cpu_seconds, self._pids))

    def _is_ours(self, words: list[str]) -> bool:
        named = f"@{self._address}:", f"={self._address}"
        return any("java" in word for word in words[:1]) and any(name in word for word in words for name in named)

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                self._ask("hello", {})
            except OSError as error:
                phase = self._team.pod(_POD)["status"]["phase"]
                if phase != "Running" or time.monotonic() > deadline:
                    raise RuntimeError(f"the driver is {phase} and says nothing: {self._team.logs(_POD)}") from error
                time.sleep(0.2)
            else:
                return

    def _ask(self, verb: str, asked: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._address, PORT, timeout=LIMIT)
        try:
            connection.request("POST", f"/{verb}", json.dumps(asked))
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise RuntimeError(f"in the driver's pod: {answer['error']}")
        return answer
