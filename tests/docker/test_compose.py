"""docker/ as a person would use it: the images are built, compose.yaml starts them, and datalayer.toml works with them."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from testcontainers.compose import DockerCompose

from tests.services.debian import has_fuse
from tests.services.docker import Engine, docker_engine, why_no_docker
from tests.services.docker_images import DOCKER, images_archive

SIZE = 3_000_000

# The first time, the images are built.
pytestmark = pytest.mark.timeout(2400)

if reason := why_no_docker():
    pytest.skip(reason, allow_module_level=True)


class Compose(DockerCompose):
    """Debian has no `docker compose` beside its docker.io, but `docker-compose`, with the same commands."""

    @cached_property
    def compose_command_property(self) -> list[str]:
        return ["docker-compose", *super().compose_command_property[2:]]


@dataclass(frozen=True)
class Deployment:
    engine: Engine

    def host(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command where the engine runs."""
        return subprocess.run(self.engine.inside(*command), capture_output=True, text=True, check=False)

    def client(self, *words: str) -> dict[str, Any]:
        done = self.host(sys.executable, Path(__file__).with_name("client_process.py"), *words)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def container(self, service: str) -> str:
        return self.engine.docker("ps", "--quiet", "--filter", f"label=com.docker.compose.service={service}")

    def gets(self, name: str) -> int:
        """How often the S3 server was asked for an object's bytes."""
        return self.engine.docker("logs", self.container("s3")).count(f"| GET | /outputs/{name} |")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    archive = images_archive()
    with docker_engine(own_network=True) as engine, pytest.MonkeyPatch.context() as patch:
        engine.docker("load", "--input", archive)
        name_servers(engine, tmp_path_factory.mktemp("engine"))
        for name, value in engine.environment.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ACCESS_KEY_ID", "root-user")
        patch.setenv("AWS_SECRET_ACCESS_KEY", secrets.token_hex(16))
        patch.setenv("DATALAYER_CONFIG", str(DOCKER / "datalayer.toml"))
        with Compose(DOCKER, "compose.yaml", wait=False):
            running = Deployment(engine)
            proxy = running.container("proxy")
            until(lambda: engine.docker("inspect", "--format", "{{.State.Health.Status}}", proxy) == "healthy")
            yield running


def name_servers(engine: Engine, folder: Path) -> None:
    """Do to the host of the engine what README.md asks for."""
    hosts = folder / "hosts"
    hosts.write_text(f"{Path('/etc/hosts').read_text()}\n127.0.0.1 master worker\n")
    subprocess.run(engine.inside("mount", "--bind", hosts, "/etc/hosts"), check=True)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_output_on_s3_is_read_through_alluxio(deployment: Deployment) -> None:
    key = "/docker/compose/output/20130101T000000Z"
    published = deployment.client("publish", key, str(SIZE))
    name = published["object"]
    assert deployment.gets(name) == 0
    assert deployment.client("get", name) == {"sha256": published["sha256"]}
    cold = deployment.gets(name)
    assert cold > 0
    assert deployment.client("get", name) == {"sha256": published["sha256"]}
    read = deployment.client("read", key)
    assert (read["sha256"], read["hit"], read["misses"]) == (published["sha256"], SIZE, {})
    assert f"{read['uri']}/part-0" == f"alluxio://master:19998/outputs/{name}"
    assert deployment.gets(name) == cold


def test_only_this_machine_reaches_it_and_nothing_runs_as_root(deployment: Deployment) -> None:
    published = deployment.engine.docker("ps", "--format", "{{.Ports}}").splitlines()
    addresses = {port.split("->")[0].rpartition(":")[0] for ports in published for port in ports.split(", ") if port}
    assert addresses == {"127.0.0.1"}
    for service in ("s3", "master", "worker", "proxy"):
        assert deployment.engine.docker("exec", deployment.container(service), "id", "--user") != "0"


@pytest.mark.skipif(not has_fuse(), reason="this machine has no /dev/fuse")
def test_fuse_shows_outputs_to_every_user_of_the_host(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "/docker/compose/fuse/20130101T000000Z"
    published = deployment.client("publish", key, str(SIZE))
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        folder.chmod(0o755)
        start = [
            *("run", "--detach", "--rm", "--name", "fuse", "--network", "docker_default", "--user", "root"),
            *("--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined"),
            *("--volume", f"{folder}:/mnt/alluxio:rshared"),
            *("--env", "ALLUXIO_JAVA_OPTS=-Dalluxio.master.hostname=master"),
            *("datalayer-alluxio", "fuse", "/outputs", "/mnt/alluxio"),
        ]
        deployment.engine.docker(*start)
        try:
            until(lambda: deployment.host("mountpoint", "--quiet", folder).returncode == 0)
            nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
            shown = deployment.host(*nobody, "sha256sum", folder / published["object"])
            assert shown.stdout.split()[:1] == [published["sha256"]], shown.stderr
            assert deployment.host("touch", folder / "new").returncode != 0
            monkeypatch.setenv("DATALAYER_HOT__MOUNT", str(folder))
            assert deployment.client("read", key)["path"] == str(folder / published["object"])
        finally:
            deployment.engine.docker("stop", "fuse")
        assert deployment.host("mountpoint", "--quiet", folder).returncode != 0
