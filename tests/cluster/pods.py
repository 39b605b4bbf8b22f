"""Pods with a committer, written by hand as docs/job-contract.md has them: no operator is needed for one."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datalayer import Config, DataLayer, NotPublishedError, TaskKey
from datalayer.handoff.context import AttemptRef, InputSpec, OutputSpec, TaskContext, context_config
from datalayer.handoff.packing import context_environment
from datalayer.handoff.report import TaskReport, decode_report
from tests.services.kubernetes.client import Team
from tests.services.kubernetes.images import IMAGES
from tests.services.kubernetes.manifests import ACCOUNT, SECRET, SHARED

COMMITTER = "datalayer-committer"
GROUP = 10001
RUN = "20130101T000000Z"
SHELL = IMAGES["shell"].tag
FOLDER = "/datalayer"
_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
_OWN_FIELDS = {"NAME": "metadata.name", "NAMESPACE": "metadata.namespace", "UID": "metadata.uid", "IP": "status.podIP"}


@dataclass
class Bench:
    """A layer that pods of a team reach, too, and the pods that work on it."""

    team: Team
    layer: DataLayer
    committer: dict[str, Any] = field(default_factory=dict)
    """What the committer's container is to hold besides."""

    def key(self, task: str) -> TaskKey:
        return TaskKey(self.team.namespace, "dag", task, RUN)

    def publish(self, task: str, files: Mapping[str, bytes]) -> None:
        before = os.umask(0o002)
        try:
            with self.layer.publish(self.key(task)) as attempt:
                for name, data in files.items():
                    attempt.output().put(name, data)
        finally:
            os.umask(before)

    def context(
        self, task: str, inputs: Mapping[str, InputSpec] | None = None, outputs: Sequence[str] = ("default",)
    ) -> TaskContext:
        """What a pod is told whose attempt is claimed for it."""
        claim = self.layer.publisher().publish(self.key(task)).claim
        return TaskContext(
            key=str(self.key(task)),
            attempt=AttemptRef(claim.attempt, claim.nonce),
            inputs=dict(inputs or {}),
            outputs={name: OutputSpec() for name in outputs},
            config=context_config(self.layer.config),
        )

    def start(self, name: str, script: str | None, context: TaskContext | None = None, **rest: Any) -> None:
        """Start a pod whose job is a shell script, or whatever its image says."""
        self.team.apply(self.pod(name, script, context or self.context(name), **rest))

    def pod(
        self,
        name: str,
        script: str | None,
        context: TaskContext,
        *,
        image: str = SHELL,
        base: Mapping[str, Any] | None = None,
        security: Mapping[str, Any] | None = None,
        account: str = ACCOUNT,
        containers: Sequence[Mapping[str, Any]] = (),
        **spec: Any,
    ) -> dict[str, Any]:
        """A pod with a committer."""
        volumes: list[dict[str, Any]] = [{"name": "datalayer", "emptyDir": {}}, _token_volume()]
        mounts: list[dict[str, Any]] = [{"name": "datalayer", "mountPath": FOLDER}]
        if self.layer.design.name == "shared-fs":
            volumes.append({"name": "datalayer-shared", "persistentVolumeClaim": {"claimName": SHARED}})
            mounts.append({"name": "datalayer-shared", "mountPath": str(self.team.shared)})
        secret = [{"secretRef": {"name": SECRET}}]
        told = {f"DATALAYER_{place.upper()}": f"{FOLDER}/{place}" for place in ("in", "out")}
        told |= {"DATALAYER_CONTEXT": f"{FOLDER}/context.json", "DATALAYER_INTERNAL_JOURNAL": f"{FOLDER}/journal"}
        job: dict[str, Any] = {"name": "base", "image": image, "imagePullPolicy": "IfNotPresent"}
        if script is not None:
            job["command"] = ["sh", "-euc", script]
        job |= {"env": _environment(told), "envFrom": secret, "volumeMounts": mounts, **(base or {})}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "serviceAccountName": account,
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 60,
                "securityContext": {"fsGroup": GROUP, **(security or {})},
                "volumes": volumes,
                "initContainers": [self._committer(context, mounts, secret)],
                "containers": [job, *containers],
                **spec,
            },
        }

    def _committer(
        self, context: TaskContext, mounts: list[dict[str, Any]], secret: list[dict[str, Any]]
    ) -> dict[str, Any]:
        own = [
            {"name": f"DATALAYER_INTERNAL_POD_{name}", "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in _OWN_FIELDS.items()
        ]
        return {
            "name": COMMITTER,
            "image": IMAGES["job"].tag,
            "imagePullPolicy": "IfNotPresent",
            "restartPolicy": "Always",
            "command": ["datalayer", "pod"],
            "env": [*own, *_environment({"DATALAYER_INTERNAL_POD_CONTAINER": "base", **context_environment(context)})],
            "envFrom": secret,
            "volumeMounts": [*mounts, {"name": "datalayer-token", "mountPath": _TOKEN, "readOnly": True}],
            # A look once a second would cost a second: this one waits by itself.
            "startupProbe": {
                "exec": {"command": ["sh", "-c", f"until [ -e {FOLDER}/ready ]; do sleep 0.1; done"]},
                "periodSeconds": 1,
                "timeoutSeconds": 30,
                "failureThreshold": 600,
            },
            **self.committer,
        }

    def status(self, name: str, container: str = COMMITTER) -> dict[str, Any]:
        """A container's status in the pod; empty where it has none yet."""
        status = self.team.pod(name)["status"]
        found = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        return next((one for one in found if one["name"] == container), {})

    def wait_running(self, name: str, container: str = "base", *, seconds: int = 120) -> None:
        """Wait until a container runs."""
        deadline = time.monotonic() + seconds
        while "running" not in self.status(name, container).get("state", {}):
            assert time.monotonic() < deadline, self.team.pod(name)["status"]
            time.sleep(0.2)

    def report(self, name: str, *, seconds: int = 180) -> TaskReport:
        """Wait until the committer has ended, and return what it reports."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status(name)
            for state in (status.get("state", {}), status.get("lastState", {})):
                # One that was killed left no report, and is started again.
                if message := state.get("terminated", {}).get("message"):
                    return decode_report(message.encode())
            assert time.monotonic() < deadline, (status, self.team.logs(name, COMMITTER))
            time.sleep(0.2)

    def run(self, name: str, script: str | None, context: TaskContext | None = None, **rest: Any) -> TaskReport:
        """Run a pod to its end."""
        self.start(name, script, context, **rest)
        return self.report(name)

    def files(self, task: str, output: str = "default") -> dict[str, bytes]:
        found = self.layer.resolve(self.key(task))[output]
        return {name: found.read_bytes(name) for name in found.files}

    def committed(self, task: str) -> bool:
        try:
            self.layer.resolve(self.key(task))
        except NotPublishedError:
            return False
        return True


def config(design: str, cold: str, endpoint: str, keys: Mapping[str, str], **rest: Any) -> Config:
    """A configuration under which everything is in a bucket, and outputs too, unless `rest` says otherwise."""
    tiers = {"cold": {"url": cold, "connection": "lake"}, **rest.pop("tiers", {})}
    connection = {"endpoint": endpoint, "region": "us-east-1", **keys}
    return Config.from_mapping({"design": design, "tiers": tiers, "connections": {"lake": connection}, **rest})


def _environment(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _token_volume() -> dict[str, Any]:
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    sources = [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}, {"configMap": authority}]
    return {"name": "datalayer-token", "projected": {"sources": sources}}
