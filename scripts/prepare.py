"""Build or fetch, once per version, what is no Python package: Spark's jars, the servers, clusters and images of the tests, and the benchmarks' own.

Names what is missing on this machine, with the Debian package that has it; installs Debian's packages for Docker, Kubernetes and FUSE
where we are root, and says so. With nothing to do it takes no time.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datalayer.errors import ConfigError
from spark_env.jars import alluxio_jar, jars_dir
from tests.services.alluxio_jars import alluxio_jars
from tests.services.debian import FUSE, has_fuse, installed
from tests.services.docker import docker_programs
from tests.services.kubernetes.images import IMAGES, build_images
from tests.services.kubernetes.programs import programs, why_no_cluster
from tests.services.postgres import postgres_programs
from tests.services.s3server import versitygw_binary


def alluxio() -> Path:
    """The folder with the jars of Alluxio's servers; where they can show files by FUSE, its programs are there too."""
    if has_fuse() and (packages := installed(FUSE)):
        print(f"alluxio: installed {' '.join(packages)} with apt-get", flush=True)
    return alluxio_jars()


def kubernetes() -> Path | str:
    """The program that is a whole Kubernetes; where no cluster can run here, why."""
    reason = why_no_cluster()
    return f"left out, {reason}" if reason else programs().hyperkube


def images() -> str:
    """The images for the cluster, by name."""
    if reason := why_no_cluster():
        return f"left out, {reason}"
    build_images(say=lambda what: print(f"images: {what}", flush=True))
    return ", ".join(image.tag for image in IMAGES.values())


def benchmarks() -> str:
    """What the benchmarks of the two smaller scales fetch or build, by name; their other needs are told when they run."""
    # Not needed where only some other thing is prepared, and it loads every workload.
    from benchmarks.needs import make_all
    from benchmarks.workload import Scale
    from benchmarks.workloads import WORKLOADS

    workloads = [kind(scale) for scale in (Scale.QUICK, Scale.BENCH) for kind in WORKLOADS.values()]
    needs = [workload.needs() for workload in workloads if not workload.only_full and not workload.why_not_here()]
    make_all(needs, lambda text: print(text, file=sys.stderr, flush=True))
    return ", ".join(dict.fromkeys(name for one in needs for name in one))


THINGS = {
    "jars": jars_dir,
    "versitygw": versitygw_binary,
    "docker": docker_programs,
    "alluxio": alluxio,
    "alluxio-client": alluxio_jar,
    "postgres": postgres_programs,
    "kubernetes": kubernetes,
    "images": images,
    "benchmarks": benchmarks,
}


def main(wanted: list[str]) -> int:
    """Prepare the things named, or all; 1 if one of them cannot be had."""
    missing = []
    for name in wanted or THINGS:
        try:
            print(f"{name}: {THINGS[name]()}", flush=True)
        except (ConfigError, RuntimeError) as error:
            missing.append(str(error))
    # Jars from the cache need no Java to fetch them, but Spark does.
    if shutil.which("java") is None and not any(line.startswith("java ") for line in missing):
        missing.append("java is missing: apt-get install openjdk-17-jre-headless")
    for line in missing:
        print(f"prepare: {line}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
