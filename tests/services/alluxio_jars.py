"""The jars of Alluxio's servers: there is no archive of the whole to fetch, but all of it is in Maven's repository.

The client that Spark takes is no part of this: see `spark_env.jars`.
"""

from __future__ import annotations

from pathlib import Path

from spark_env.jars import fetched

IMAGE = Path(__file__).resolve().parents[2] / "docker" / "alluxio"
"""The folder of the image: its pom.xml lists the jars, its settings are those of every deployment of ours."""


def alluxio_jars() -> Path:
    """The folder with the jars (about 180 MB), fetched with Maven the first time and kept in the cache for every later one.

    Raises:
        ConfigError: Maven or Java is missing, or the jars could not be fetched.
    """
    return fetched("alluxio", (IMAGE / "pom.xml").read_text(), ["copy-dependencies"], "Alluxio's jars")
