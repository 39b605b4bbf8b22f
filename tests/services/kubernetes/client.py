"""A running cluster, as tests use it: kubectl, and a namespace of its own for each team."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.services.kubernetes.manifests import SHARED, team_objects
from tests.services.kubernetes.site import Site


@dataclass(frozen=True)
class Cluster:
    """A cluster that serves."""

    kubeconfig: Path
    program: str
    """kubectl."""
    host_address: str
    """This machine, as pods reach it."""
    volumes: Path | None = None
    """A folder that its node and this machine have at the same path; None where they share none."""

    @property
    def environment(self) -> dict[str, str]:
        """What tells a process, and every client of Kubernetes in it, to use this cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl, and return what it printed.

        Raises:
            RuntimeError: it failed; with its own words.
        """
        done = subprocess.run(
            [self.program, *words],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Make objects, or change them to be so.

        Raises:
            RuntimeError: the API server refused; with its own words.
        """
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    @contextlib.contextmanager
    def team(self, name: str = "team", *, secret: Mapping[str, str] | None = None) -> Iterator[Team]:
        """A namespace that is there until the block ends.

        Args:
            name: What the namespace's name begins with.
            secret: What its Secret ``datalayer-s3`` holds, as environment variables of those who take it.
        """
        namespace = f"{name}-{secrets.token_hex(3)}"
        folder = self.volumes / namespace if self.volumes else None
        team = Team(self, namespace, folder)
        if folder:
            folder.mkdir()
            # Whatever user a job runs as.
            folder.chmod(0o1777)
        try:
            self.apply(*team_objects(namespace, folder, secret or {}))
            self.kubectl("wait", "-n", namespace, "--for=create", "serviceaccount/default", "--timeout=60s")
            yield team
        finally:
            team.remove()


@dataclass(frozen=True)
class Team:
    """A namespace for one test.

    It has a ServiceAccount ``datalayer``, with the rights of a committer and of a Spark driver, and a Secret ``datalayer-s3``.
    Where the node shares a folder with this machine, it has a claim ``shared`` that any number of pods may write to.
    """

    cluster: Cluster
    namespace: str
    shared: Path | None
    """The claim's folder on this machine. Pods are to mount it at the same path."""

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl in the namespace, as `Cluster.kubectl` does."""
        return self.cluster.kubectl("--namespace", self.namespace, *words, stdin=stdin)

    def run(self, name: str, image: str, command: Sequence[str] = (), **spec: Any) -> None:
        """Start a pod of one container, ``base``.

        Args:
            name: Of the pod.
            image: Of the container.
            command: Of the container; by default what its image says.
            spec: What else the pod's specification is to hold; with ``base`` the container's.

        Raises:
            RuntimeError: the API server refused; with its own words.
        """
        base = {"name": "base", "image": image, **({"command": list(command)} if command else {})}
        base |= spec.pop("base", {})
        # An end is not waited for that nobody asked for: the shell of a test does not listen to SIGTERM.
        pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 2, "containers": [base], **spec}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod})

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Make objects in the namespace, or change them to be so."""
        inside = [{**one, "metadata": {**one["metadata"], "namespace": self.namespace}} for one in objects]
        self.cluster.apply(*inside)

    def pod(self, name: str) -> dict[str, Any]:
        """A pod, as the API server shows it."""
        pod: dict[str, Any] = json.loads(self.kubectl("get", "pod", name, "-o", "json"))
        return pod

    def pods(self) -> list[str]:
        """The names of its pods."""
        return self.kubectl("get", "pods", "-o", "name").replace("pod/", "").split()

    def wait(self, name: str, phase: str = "Succeeded", *, seconds: float = 120) -> None:
        """Wait until a pod is in a phase.

        Raises:
            RuntimeError: it has ended in another one, or is not in it after that time; with what is known of the pod.
        """
        deadline = time.monotonic() + seconds
        while (seen := self.kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}")) != phase:
            if seen in {"Succeeded", "Failed"} or time.monotonic() > deadline:
                known = self.kubectl("get", "pod", name, "-o", "jsonpath={.status}")
                raise RuntimeError(f"the pod {name} is {seen}, not {phase}: {known}\n{self.logs(name)}")
            time.sleep(0.2)

    def logs(self, name: str, container: str = "base") -> str:
        """What a container of a pod has printed; nothing where it has not begun."""
        return self.kubectl("logs", name, "-c", container, "--ignore-errors")

    def quota(self, **hard: str) -> None:
        """Limit what the namespace may use; dots in names are written as underscores, e.g. ``requests_memory="1Gi"``."""
        limits = {name.replace("_", "."): value for name, value in hard.items()}
        self.apply(
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": {"hard": limits}}
        )
        self.kubectl("wait", "--for=jsonpath={.status.hard}", "resourcequota/quota", "--timeout=60s")

    def remove(self) -> None:
        """Remove the pods and the shared folder, and have the namespace removed, which goes on for some seconds."""
        self.kubectl("delete", "pods", "--all", "--grace-period=2", "--timeout=120s")
        self.cluster.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false")
        if self.shared:
            volume = f"{self.namespace}-{SHARED}"
            self.cluster.kubectl("delete", "persistentvolume", volume, "--ignore-not-found", "--wait=false")
            shutil.rmtree(self.shared)


def local_cluster(site: Site) -> Cluster:
    """The cluster of this machine, which runs."""
    return Cluster(site.kubeconfig, str(site.kubectl), site.host_address, site.volumes)


def named_cluster(kubeconfig: Path) -> Cluster:
    """The cluster that a kubeconfig names. It is to have the images of ``IMAGES``.

    Raises:
        RuntimeError: there is no kubectl, or it does not reach the cluster.
    """
    program = shutil.which("kubectl")
    if program is None:
        raise RuntimeError(f"kubectl is missing, with which the cluster of {kubeconfig} is reached: install it")
    cluster = Cluster(kubeconfig, program, "")
    server = urlsplit(cluster.kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Sends nothing: the kernel says which of our addresses is on the way to the API server.
        probe.connect((server.hostname, server.port or 443))
        return Cluster(kubeconfig, program, probe.getsockname()[0])
