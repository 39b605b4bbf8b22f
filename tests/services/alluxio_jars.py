"""The jars of Alluxio's servers: there is no archive of the whole to fetch, but all of it is in Maven's repository.

The client that Spark takes is no part of this: see `spark_env.jars`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from datalayer.errors import ConfigError
from spark_env.cache import made_once

IMAGE = Path(__file__).resolve().parents[2] / "docker" / "alluxio"
"""The folder of the image: its pom.xml lists the jars, its settings are those of every deployment of ours."""
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def alluxio_jars() -> Path:
    """The folder with the jars (about 180 MB), fetched with Maven the first time and kept in the cache for every later one.

    Raises:
        ConfigError: Maven or Java is missing, or the jars could not be fetched.
    """
    pom = IMAGE / "pom.xml"

    def fetch(folder: Path) -> None:
        for program, package in (("java", "openjdk-17-jre-headless"), ("mvn", "maven")):
            if shutil.which(program) is None:
                raise ConfigError(
                    f"{program} is missing, and the cache does not hold Alluxio's jars yet: apt-get install {package}"
                )
        command = ["mvn", "-q", "-B", "-f", str(pom), _COPY, f"-DoutputDirectory={folder}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError(
                f"Maven could not fetch Alluxio's jars (exit code {done.returncode}); "
                f"see that it reaches its repository: {(done.stdout + done.stderr)[-2000:]}"
            )

    return made_once(f"alluxio/{hashlib.sha256(pom.read_bytes()).hexdigest()[:16]}", fetch)
