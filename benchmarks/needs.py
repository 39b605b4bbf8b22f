"""What benchmarks need that is fetched or built once and kept in the cache: had before anything is timed, so that no workload's time holds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks import efs, front
from spark_env.jars import alluxio_jar, fetched, jars_dir
from tests.services.alluxio_jars import alluxio_jars
from tests.services.s3server import versitygw_binary

Needs = Mapping[str, Callable[[], object]]
"""What makes each thing where the cache lacks it, by name. Two with one name are one thing."""

ORIGIN: Needs = {"versitygw": versitygw_binary, "front": front.program}
"""The server and what is before it."""
EFS: Needs = {"efs": efs.program}
ALLUXIO: Needs = {"alluxio": alluxio_jars}

ANALYTICS = "1.2.1"
"""The release of Amazon's analytics accelerator that Hadoop 3.4.2 names in its build."""
_ACCELERATOR = "analyticsaccelerator-s3"


def accelerator() -> Path:
    """Return the folder with the jar of Amazon's analytics accelerator.

    Raises:
        ConfigError: Maven or Java is missing, or the jar could not be fetched.
    """
    project = (
        "<project><modelVersion>4.0.0</modelVersion><groupId>datalayer</groupId><artifactId>accelerator</artifactId>"
        f"<version>{ANALYTICS}</version><packaging>pom</packaging></project>\n"
    )
    copy = ["copy", f"-Dartifact=software.amazon.s3.analyticsaccelerator:{_ACCELERATOR}:{ANALYTICS}"]
    return fetched("jars", project, copy, "the jar of Amazon's analytics accelerator")


SPARK: Needs = {"spark's jars": jars_dir, "alluxio's client": alluxio_jar, _ACCELERATOR: accelerator}


def make_all(all_needs: Iterable[Needs], say: Callable[[str], None]) -> float:
    """Fetch or build what the cache lacks, and return the seconds that it took.

    What cannot be had is told, and is no error here: who needs it will say so, and the others go on.

    Args:
        all_needs: Of each workload.
        say: Told what cannot be had.
    """
    began = time.monotonic()
    for name, make in {name: make for needs in all_needs for name, make in needs.items()}.items():
        try:
            make()
        except Exception as error:  # noqa: BLE001  # as above
            say(f"prepare: {name}: {error}")
    return time.monotonic() - began
