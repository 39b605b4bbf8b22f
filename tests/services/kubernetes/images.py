"""The images that pods of the tests run: built from ordinary Dockerfiles, and loaded into the cluster of this machine.

An engine that keeps its layers builds them, so that after a change of our own code only the last layers are made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from spark_env.cache import cache_dir
from tests.services.docker import Engine, docker_engine
from tests.services.docker_images import base_archive, build_image
from tests.services.kubernetes.site import Site

ROOT = Path(__file__).resolve().parents[3]
_OURS = ("pyproject.toml", "README.md", "LICENSE", "datalayer", "spark_env", "airflow_ops")
# A name of this checkout: others of this machine, with other code, use the same cluster.
VERSION = f"checkout-{hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:8]}"
"""The tag of every image that is built from this checkout."""
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
    "job": Image(f"datalayer-job:{VERSION}", "docker/job"),
    "spark": Image(f"datalayer-spark:{VERSION}", "docker/spark"),
    "airflow": Image(f"datalayer-airflow:{VERSION}", "docker/airflow"),
    "shell": Image(f"datalayer-shell:{VERSION}", "tests/cluster/shell", ours=False),
    "entrypoint": Image(f"datalayer-entrypoint:{VERSION}", "tests/cluster/entrypoint", ours=False),
}


def build_images(names: Iterable[str] = tuple(IMAGES), say: Callable[[str], None] = lambda _: None) -> None:
    """Build images where the cache does not hold them as the checkout has them now.

    Args:
        names: Of ``IMAGES``.
        say: Gets what a person may want to read meanwhile.

    Raises:
        RuntimeError: A program is missing, or a build failed; with its last words.
    """
    wanted = digests(names)
    if differ(_built(), wanted):
        with builder() as engine:
            _build(engine, differ(_built(), wanted), say)


def load_images(site: Site, names: Iterable[str] = tuple(IMAGES), say: Callable[[str], None] = lambda _: None) -> None:
    """Build images and load them into the running cluster, where it does not hold them as the checkout has them now.

    Args:
        site: Where the cluster is.
        names: Of ``IMAGES``.
        say: Gets what a person may want to read meanwhile.

    Raises:
        RuntimeError: A program is missing, or a build failed; with its last words.
    """
    wanted, loaded = digests(names), site.folder / "images" / VERSION
    if not differ(loaded, wanted):
        return
    with builder() as engine:
        stale = differ(loaded, wanted)
        _build(engine, differ(_built(), stale), say)
        if stale:
            say(f"loading {', '.join(stale)}")
            load(engine, site, [IMAGES[name].tag for name in stale])
            note(loaded, stale)


@contextlib.contextmanager
def builder() -> Iterator[Engine]:
    """The engine that keeps its layers, for one process at a time."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with docker_engine(own_network=False, data=folder / "data") as engine:
            yield engine


def _folder() -> Path:
    return cache_dir() / "docker" / "builder"


def _built() -> Path:
    return _folder() / "built" / VERSION


def digests(names: Iterable[str]) -> dict[str, str]:
    """What the checkout has now of images, by name: a digest changes with any source of its image."""
    base = base_archive().parent.name
    return {name: IMAGES[name].digest(base) for name in names}


def differ(notes: Path, wanted: Mapping[str, str]) -> dict[str, str]:
    """Those digests that a folder of notes does not have."""
    return {
        name: digest
        for name, digest in wanted.items()
        if not (notes / name).exists() or (notes / name).read_text() != digest
    }


def note(notes: Path, done: Mapping[str, str]) -> None:
    """Write digests to a folder of notes."""
    notes.mkdir(parents=True, exist_ok=True)
    for name, digest in done.items():
        (notes / name).write_text(digest)


def _build(engine: Engine, wanted: Mapping[str, str], say: Callable[[str], None]) -> None:
    base = base_archive()
    debian = f"debian:{base.parent.name}"
    if not engine.docker("images", "--quiet", debian):
        engine.docker("import", base, debian)
    for name, digest in wanted.items():
        image = IMAGES[name]
        say(f"building {image.tag}")
        if image.ours:
            with tempfile.TemporaryDirectory() as temp:
                build_image(engine, "python", python_context(Path(temp), debian))
            build_image(engine, image.tag, ROOT, f"{image.folder}/Dockerfile", BASE="python")
        else:
            build_image(engine, image.tag, ROOT / image.folder, BASE=debian)
        note(_built(), {name: digest})
    # Layers that no image holds any more; those of the last builds are what makes the next one short.
    engine.docker("image", "prune", "--force", "--filter", "until=24h")


def python_context(folder: Path, debian: str) -> Path:
    """Fill a folder with what stands in for ``python:3.11-slim`` is built from, and return it."""
    (folder / "Dockerfile").write_text(_PYTHON.format(base=debian))
    settings = {Path("/etc/pip.conf"): "etc", Path.home() / ".m2" / "settings.xml": "root/.m2"}
    (folder / "machine" / "etc").mkdir(parents=True)
    for source, place in settings.items():
        if source.exists():
            (folder / "machine" / place).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / "machine" / place / source.name)
    return folder


def load(engine: Engine, site: Site, tags: list[str]) -> None:
    """Hand images from the engine to the node, with no file in between."""
    environment = {**os.environ, **engine.environment}
    load = [*_ctr(site), "import", "-"]
    with subprocess.Popen(["docker", "save", *tags], env=environment, stdout=subprocess.PIPE) as save:
        done = subprocess.run(load, stdin=save.stdout, capture_output=True, text=True, check=False)
    if save.returncode or done.returncode:
        raise RuntimeError(f"{' '.join(tags)} could not be loaded: {done.stdout}{done.stderr}")
    # What these tags stood for before is known to the node by its digest alone, and would stay for ever.
    listed = subprocess.run([*_ctr(site), "list"], capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    known = [(name, digest) for name, _, digest, *_ in map(str.split, listed)]
    named = {digest for name, digest in known if not name.startswith("sha256:")}
    if stale := [name for name, digest in known if digest not in named]:
        subprocess.run([*_ctr(site), "remove", *stale], capture_output=True, check=True)


def _ctr(site: Site) -> list[str]:
    return ["ctr", "--address", str(site.socket), "--namespace", "k8s.io", "images"]


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
