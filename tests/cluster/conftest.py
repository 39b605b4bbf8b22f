"""A real cluster, S3 and Alluxio that pods reach, and a namespace of its own for each test."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.operating import Place, Tasks, task_process
from tests.services.alluxio import AlluxioServer
from tests.services.kubernetes.client import Cluster, Team, local_cluster, named_cluster
from tests.services.kubernetes.cluster import used
from tests.services.kubernetes.images import IMAGES, load_images
from tests.services.kubernetes.programs import why_no_cluster
from tests.services.kubernetes.site import Site
from tests.services.s3server import S3Server, versitygw_server

SITE = Site()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test may have to wait until programs and images are built."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster of this machine, started where none runs; or the one that DATALAYER_TEST_KUBECONFIG names."""
    if named := os.environ.get("DATALAYER_TEST_KUBECONFIG"):
        yield named_cluster(Path(named))
        return
    if reason := why_no_cluster():
        pytest.skip(reason)
    with used(SITE):
        yield local_cluster(SITE)


@pytest.fixture(scope="session")
def shell_image(cluster: Cluster) -> str:
    """The tag of an image that holds a shell, and nothing that knows us."""
    return loaded(cluster, "shell")


@pytest.fixture(scope="session")
def job_image(cluster: Cluster) -> str:
    """The tag of docker/job, built from the checkout as it is."""
    return loaded(cluster, "job")


@pytest.fixture(scope="session")
def spark_image(cluster: Cluster) -> str:
    """The tag of docker/spark, built from the checkout as it is."""
    return loaded(cluster, "spark")


@pytest.fixture(scope="session")
def airflow_image(cluster: Cluster) -> str:
    """The tag of docker/airflow, built from the checkout as it is."""
    return loaded(cluster, "airflow")


@pytest.fixture(scope="session")
def entrypoint_image(cluster: Cluster) -> str:
    """The tag of an image with an entry point and a user of its own."""
    return loaded(cluster, "entrypoint")


def loaded(cluster: Cluster, name: str) -> str:
    if cluster.volumes:
        load_images(SITE, [name])
    return IMAGES[name].tag


@pytest.fixture(scope="session")
def cluster_s3(cluster: Cluster) -> Iterator[S3Server]:
    """A versitygw that pods and this machine reach at the same address."""
    with versitygw_server(host=cluster.host_address) as server:
        yield server


@pytest.fixture(scope="session")
def cluster_alluxio(cluster: Cluster, cluster_s3: S3Server) -> Iterator[AlluxioServer]:
    """An Alluxio in front of that, which pods and this machine reach at the same address."""
    with AlluxioServer(cluster_s3, host=cluster.host_address) as server:
        yield server


@pytest.fixture
def team_namespace(cluster: Cluster, cluster_s3: S3Server) -> Iterator[Team]:
    """A fresh namespace; its Secret holds the keys of the S3 server's root user."""
    keys = {
        "AWS_ACCESS_KEY_ID": cluster_s3.root.access_key,
        "AWS_SECRET_ACCESS_KEY": cluster_s3.root.secret_key,
    }
    with cluster.team(secret=keys) as team:
        yield team


@pytest.fixture(scope="session")
def tasks() -> Iterator[Tasks]:
    """A process that runs single tasks of Airflow."""
    with task_process() as running:
        yield running


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a figure past pytest's capture, also in a test that passes."""

    def tell(line: str) -> None:
        with capfd.disabled():
            sys.stdout.write(f"\n{line}\n")

    return tell


@pytest.fixture
def place(
    team_namespace: Team, cluster_s3: S3Server, job_image: str, shell_image: str, tmp_path: Path
) -> Iterator[Place]:
    """A team on the cluster whose tasks run under the design s3-direct."""
    with contextlib.closing(Place(team_namespace, cluster_s3, tmp_path / "datalayer.toml")) as found:
        found.use("s3-direct")
        yield found
