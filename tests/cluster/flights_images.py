"""The images of the flights DAG, built from the Dockerfiles in `examples/` and loaded into the cluster of this machine."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from tests.services.docker_images import base_archive, build_image
from tests.services.kubernetes.images import (
    IMAGES,
    ROOT,
    VERSION,
    builder,
    differ,
    digests,
    load,
    load_images,
    note,
    python_context,
)
from tests.services.kubernetes.site import Site

JOBS, BY_AIRPORT = f"flights-jobs:{VERSION}", f"flights-by-airport:{VERSION}"
FLIGHTS = ROOT / "examples" / "flights"
# What the Dockerfile calls golang: Debian's own is enough for a program of one file.
_GO = """\
FROM python
RUN apt-get update && apt-get install -y --no-install-recommends golang-go && rm -rf /var/lib/apt/lists/*
"""


def load_flights_images(site: Site) -> None:
    """Build and load them, where the cluster does not hold them as the checkout has them now.

    Raises:
        RuntimeError: A program is missing, or a build failed; with its last words.
    """
    load_images(site, ["spark"])
    loaded = site.folder / "images" / VERSION
    wanted = {"flights": _digest()}
    if not differ(loaded, wanted):
        return
    with builder() as engine:
        with tempfile.TemporaryDirectory() as temp:
            debian = f"debian:{base_archive().parent.name}"
            build_image(engine, "python", python_context(Path(temp), debian))
        with tempfile.TemporaryDirectory() as temp:
            Path(temp, "Dockerfile").write_text(_GO)
            build_image(engine, "go", Path(temp))
        build_image(engine, JOBS, FLIGHTS, SPARK=IMAGES["spark"].tag)
        build_image(engine, BY_AIRPORT, FLIGHTS / "jobs" / "by_airport", GO="go")
        load(engine, site, [JOBS, BY_AIRPORT])
        note(loaded, wanted)


def _digest() -> str:
    whole = hashlib.sha256("".join(digests(["spark"]).values()).encode())
    for path in sorted([FLIGHTS / "Dockerfile", *(FLIGHTS / "jobs").rglob("*")]):
        if path.is_file() and "__pycache__" not in path.parts:
            whole.update(path.read_bytes())
    return whole.hexdigest()
