"""The images that docker/compose.yaml starts, built on a base image of this machine's making and kept in the cache.

There may be no image registry. What stands in for the images that the Dockerfiles name is made from Debian's packages, this
machine's Go, and whatever lets this machine reach its registries: mirrors, proxies, certificates. None of that is in a Dockerfile.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from docker.errors import BuildError
from testcontainers.core.image import DockerImage

from spark_env.cache import made_once
from tests.services.docker import Engine, docker_engine
from tests.services.s3server import VERSITYGW

DOCKER = Path(__file__).resolve().parents[2] / "docker"
SUITE = "bookworm"
"""The Debian that the Dockerfiles are written for."""

_TRUSTED = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_GO_SETTINGS = ("GOFLAGS", "GONOPROXY", "GONOSUMDB", "GOPRIVATE", "GOPROXY", "GOSUMDB")
_MAVEN = """\
FROM base
RUN apt-get update && apt-get install -y --no-install-recommends maven && rm -rf /var/lib/apt/lists/*
COPY .m2 /root/.m2
"""
_DAY = 86_400.0


def images_archive() -> Path:
    """A file for ``docker load`` with datalayer-s3 and datalayer-alluxio, built the first time (some minutes).

    Raises:
        RuntimeError: A program is missing, or a build failed; with its last words.
    """
    base = base_archive()
    files = sorted(path for folder in ("s3", "alluxio") for path in (DOCKER / folder).iterdir())

    def build(folder: Path) -> None:
        with docker_engine(own_network=False) as engine:
            engine.docker("import", base, "base")
            _import_go(engine, base, folder / "go.tar")
            with tempfile.TemporaryDirectory() as context:
                build_image(engine, "maven", _maven_context(Path(context)))
            build_image(engine, "datalayer-s3", DOCKER / "s3", BASE="base", GO="go", VERSITYGW=VERSITYGW)
            build_image(engine, "datalayer-alluxio", DOCKER / "alluxio", BASE="base", MAVEN="maven")
            engine.docker("save", "--output", folder / "images.tar", "datalayer-s3", "datalayer-alluxio")

    parts = [base.parent.name, VERSITYGW, *(f"{path.relative_to(DOCKER)} {path.read_text()}" for path in files)]
    return kept("images", parts, build) / "images.tar"


def base_archive() -> Path:
    """A file for ``docker import``: a small Debian that trusts, and fetches from, whatever this machine does."""
    archive, security = _debian()
    settings = _output("apt-config", "dump", "Acquire::http", "Acquire::https")
    trusted = {ssl.DER_cert_to_PEM_cert(der) for der in ssl.create_default_context(cafile=_TRUSTED).get_ca_certs(True)}

    def make(folder: Path) -> None:
        root = folder / "root"
        _output("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, root, archive)
        (root / "etc/apt/sources.list").write_text(
            f"deb {archive} {SUITE} main\ndeb {security} {SUITE}-security main\n"
        )
        (root / "etc/apt/apt.conf.d/90machine").write_text(settings)
        for number, certificate in enumerate(sorted(trusted)):
            # One in each file, which is what Java's own list of them is made from.
            (root / f"usr/local/share/ca-certificates/{number}.crt").write_text(certificate)
        _output("chroot", root, "update-ca-certificates")
        for folders in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / folders)
            (root / folders).mkdir()
        _output("tar", "--create", "--numeric-owner", "--file", folder / "root.tar", "--directory", root, ".")
        shutil.rmtree(root)

    return kept("base", [SUITE, archive, security, settings, *sorted(trusted)], make) / "root.tar"


def _debian() -> tuple[str, str]:
    """Where this machine gets Debian and its security updates from."""
    listed = _output("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages")
    places = dict(line.split(" ", 1) for line in reversed(listed.splitlines()))
    try:
        return places["Debian"], places["Debian-Security"]
    except KeyError as error:
        raise RuntimeError(f"apt has no lists of {error.args[0]}: apt-get update") from None


def _import_go(engine: Engine, base: Path, archive: Path) -> None:
    """Make the image ``go``: the base with this machine's Go and its settings."""
    known = json.loads(_output("go", "env", "-json", "GOROOT", *_GO_SETTINGS))
    shutil.copyfile(base, archive)
    place = ("--transform", "s,^[.],./usr/local/go,", "--directory", known["GOROOT"])
    _output("tar", "--append", "--file", archive, "--owner=0", "--group=0", *place, ".")
    settings = {name: known[name] for name in _GO_SETTINGS if known[name]}
    settings["PATH"] = "/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    changes = [word for name, value in settings.items() for word in ("--change", f'ENV {name}="{value}"')]
    engine.docker("import", *changes, archive, "go")
    archive.unlink()


def _maven_context(folder: Path) -> Path:
    (folder / ".m2").mkdir()
    (folder / "Dockerfile").write_text(_MAVEN)
    settings = Path.home() / ".m2" / "settings.xml"
    if settings.exists():
        shutil.copy(settings, folder / ".m2")
    return folder


def build_image(engine: Engine, tag: str, context: Path, dockerfile: str = "Dockerfile", **arguments: str) -> None:
    """Build an image with the network of this machine.

    Args:
        engine: Where it is built and kept.
        tag: Its name.
        context: What the Dockerfile may copy.
        dockerfile: Its path in there.
        arguments: For its ARGs, in addition to this machine's proxies.

    Raises:
        RuntimeError: the build failed; with its last words.
    """
    proxies = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine.environment.items():
            patch.setenv(name, value)
        image = DockerImage(
            context,
            tag=tag,
            dockerfile_path=dockerfile,
            clean_up=False,
            network_mode="host",
            buildargs={**proxies, **arguments},
            timeout=1800,
        )
        try:
            image.build()
        except BuildError as error:
            log = "".join(part.get("stream", "") for part in error.build_log)
            raise RuntimeError(f"the image {tag} could not be built: {error}\n{log[-4000:]}") from error
        finally:
            image.get_docker_client().client.close()


def kept(kind: str, parts: Iterable[str], make: Callable[[Path], None]) -> Path:
    """A folder of the cache that depends on nothing but ``parts``; those of its kind that a day did not use are removed."""

    def make_room(folder: Path) -> None:
        make(folder)
        for other in folder.parent.glob(f"{kind}-*"):
            if other.is_dir() and other != folder and other.stat().st_mtime < time.time() - _DAY:
                shutil.rmtree(other, ignore_errors=True)

    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    folder = made_once(f"docker/{kind}-{digest}", make_room)
    os.utime(folder)
    return folder


def _output(*command: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-4000:]
        raise RuntimeError(f"{' '.join(map(str, command))} failed with exit code {done.returncode}:\n{said}")
    return done.stdout
