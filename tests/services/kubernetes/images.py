"""The images that pods of the tests run: built from ordinary Dockerfiles, and loaded into the cluster of this machine.

An engine that keeps its layers builds them, so that after a change of our own code only the last layers are made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from spark_env.cache import cache_dir
from tests.services.docker import Engine, docker_engine
from tests.services.docker_images import base_archive, build_image
from tests.services.kubernetes.site import Site

ROOT = Path(__file__).resolve().parents[3]
_OURS = ("pyproject.toml", "README.md", "LICENSE", "datalayer", "spark_env", "airflow_ops")
# What the Dockerfiles call python:3.11-slim, and what lets pip and Maven reach their registries as this machine does.
_PYTHON = """\
FROM {base}
RUN apt-get update \\
    && apt-get install -y --no-install-recommends python3 python3-pip python3-venv \\
    && rm -rf /var/lib/apt/lists/*
COPY machine /
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
"""


@dataclass(frozen=True)
class Image:
    """An image and what it is made of."""

    tag: str
    """Its name in the cluster."""
    folder: str
    """Where its Dockerfile is, from the top of the checkout."""
    ours: bool = True
    """Whether it holds this project's packages: then the context is the checkout. Otherwise it is the folder."""

    @property
    def requirements(self) -> Path:
        """The lock file that it is made with."""
        return ROOT / "requirements" / f"{Path(self.folder).name}.txt"

    def digest(self, base: str) -> str:
        """What changes when any of its sources does, or the base image that is known by ``base``."""
        sources = [ROOT / self.folder, *((self.requirements, *(ROOT / name for name in _OURS)) if self.ours else ())]
        whole = hashlib.sha256(f"{self.tag} {base}".encode())
        for path in sorted(file for source in sources for file in _files(source)):
            whole.update(f"{path.relative_to(ROOT)} {path.stat().st_mode:o} {path.stat().st_size}\n".encode())
            whole.update(path.read_bytes())
        return whole.hexdigest()


IMAGES = {
    "job": Image("datalayer-job:test", "docker/job"),
    "spark": Image("datalayer-spark:test", "docker/spark"),
    "airflow": Image("datalayer-airflow:test", "docker/airflow"),
    "shell": Image("datalayer-shell:test", "tests/cluster/shell", ours=False),
}


def load_images(site: Site, names: Iterable[str] = tuple(IMAGES), say: Callable[[str], None] = lambda _: None) -> None:
    """Build images and load them into the running cluster, where it does not hold them as the checkout has them now.

    Args:
        site: Where the cluster is.
        names: Of ``IMAGES``.
        say: Gets what a person may want to read meanwhile.

    Raises:
        RuntimeError: A program is missing, or a build failed; with its last words.
    """
    base = base_archive()
    folder = cache_dir() / "docker" / "builder"
    folder.mkdir(parents=True, exist_ok=True)
    marks = site.folder / "images"
    marks.mkdir(exist_ok=True)
    digests = {name: IMAGES[name].digest(base.parent.name) for name in names}
    if all(_text(marks / name) == digest for name, digest in digests.items()):
        return
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stale = [name for name, digest in digests.items() if _text(marks / name) != digest]
        if not stale:
            return
        with docker_engine(own_network=False, data=folder / "data") as engine:
            for name in stale:
                say(f"building {IMAGES[name].tag}")
                _build(engine, IMAGES[name], base)
            say(f"loading {', '.join(stale)}")
            _load(engine, site, [IMAGES[name].tag for name in stale])
            # Layers that a day did not use; those of the last builds are what makes the next one short.
            engine.docker("image", "prune", "--force", "--filter", "until=24h")
        for name in stale:
            (marks / name).write_text(digests[name])


def _build(engine: Engine, image: Image, base: Path) -> None:
    debian = f"debian:{base.parent.name}"
    if not engine.docker("images", "--quiet", debian):
        engine.docker("import", base, debian)
    if not image.ours:
        build_image(engine, image.tag, ROOT / image.folder, BASE=debian)
        return
    with tempfile.TemporaryDirectory() as temp:
        build_image(engine, "python", _python_context(Path(temp), debian))
    build_image(engine, image.tag, ROOT, f"{image.folder}/Dockerfile", BASE="python")


def _python_context(folder: Path, debian: str) -> Path:
    (folder / "Dockerfile").write_text(_PYTHON.format(base=debian))
    settings = {Path("/etc/pip.conf"): "etc", Path.home() / ".m2" / "settings.xml": "root/.m2"}
    (folder / "machine" / "etc").mkdir(parents=True)
    for source, place in settings.items():
        if source.exists():
            (folder / "machine" / place).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / "machine" / place / source.name)
    return folder


def _load(engine: Engine, site: Site, tags: list[str]) -> None:
    """Hand images from the engine to the node, with no file in between."""
    environment = {**os.environ, **engine.environment}
    load = ["ctr", "--address", str(site.socket), "--namespace", "k8s.io", "images", "import", "-"]
    with subprocess.Popen(["docker", "save", *tags], env=environment, stdout=subprocess.PIPE) as save:
        done = subprocess.run(load, stdin=save.stdout, capture_output=True, text=True, check=False)
    if save.returncode or done.returncode:
        raise RuntimeError(f"{' '.join(tags)} could not be loaded: {done.stdout}{done.stderr}")


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
