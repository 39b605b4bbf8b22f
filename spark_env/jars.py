"""The jars that PySpark's wheel lacks: S3A, its committers and a slim AWS SDK; and apart from them Alluxio's client.

The full SDK bundle is 558 MB; these are about 10. Alluxio's client, 98 MB, is fetched only where copies are held in Alluxio. All of them
belong on ``spark.driver.extraClassPath``: ``spark.jars`` would copy them at every start.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from datalayer.errors import ConfigError
from spark_env.cache import made_once
from spark_env.versions import ALLUXIO, AWS_SDK, HADOOP, SCALA, SPARK

# The first two alone, since PySpark has what they depend on. The SDK's modules with what they pull, but without what
# PySpark has too: these jars come first on the class path, and an older netty than Spark's keeps SparkContext from starting.
_ALONE = (
    ("org.apache.spark", f"spark-hadoop-cloud_{SCALA}", SPARK),
    ("org.apache.hadoop", "hadoop-aws", HADOOP),
)
_WITH_DEPENDENCIES = tuple(
    ("software.amazon.awssdk", module, AWS_SDK) for module in ("s3", "s3-transfer-manager", "sts")
)
_IN_PYSPARK = (
    ("io.netty", "*"),
    ("org.slf4j", "*"),
    ("commons-codec", "*"),
    ("commons-logging", "*"),
    ("org.apache.httpcomponents", "*"),
)
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_ALLUXIO_CLIENT = "alluxio-shaded-client"


def pom() -> str:
    """The Maven project whose dependencies are the jars for S3."""
    return _project(
        ("datalayer", "spark-jars", "1"),
        "<dependencies>\n"
        + "".join(_dependency(*which, (("*", "*"),)) for which in _ALONE)
        + "".join(_dependency(*which, _IN_PYSPARK) for which in _WITH_DEPENDENCIES)
        + "</dependencies>",
    )


def alluxio_pom() -> str:
    """The Maven project from which Alluxio's client is fetched: a stand-in for its parent, which was never published.

    Maven reads no artifact without its parent, and looks for that among the projects at hand first. The client itself depends on nothing.
    """
    return _project(("org.alluxio", "alluxio-shaded", ALLUXIO), "")


def jars_dir() -> Path:
    """The folder with the jars for S3, fetched with Maven the first time and kept in the cache for every later one.

    Raises:
        ConfigError: Maven or Java is missing, or the jars could not be fetched.
    """
    return fetched("jars", pom(), ["copy-dependencies"], "Spark's jars")


def alluxio_jar() -> Path:
    """The jar with which Spark reads ``alluxio://``, fetched with Maven the first time and kept in the cache for every later one.

    Raises:
        ConfigError: Maven or Java is missing, or the jar could not be fetched.
    """
    copy = ["copy", f"-Dartifact=org.alluxio:{_ALLUXIO_CLIENT}:{ALLUXIO}"]
    return fetched("jars", alluxio_pom(), copy, "the jar of Alluxio's client") / f"{_ALLUXIO_CLIENT}-{ALLUXIO}.jar"


def fetched(place: str, project: str, goal: list[str], what: str) -> Path:
    """Return a folder of jars, fetched with Maven the first time and kept in the cache for every later one.

    Args:
        place: Folder of the cache.
        project: The text of the pom.xml.
        goal: Of Maven's dependency plugin, and its options.
        what: The jars, for errors.

    Raises:
        ConfigError: Maven or Java is missing, or the jars could not be fetched.
    """

    def fetch(folder: Path) -> None:
        for program, package in (("java", "openjdk-17-jre-headless"), ("mvn", "maven")):
            if shutil.which(program) is None:
                raise ConfigError(
                    f"{program} is missing, and the cache does not hold {what} yet: apt-get install {package}"
                )
        # In the folder itself: a process that is killed here leaves one thing to remove.
        file = folder / "pom.xml"
        file.write_text(project)
        command = ["mvn", "-q", "-B", "-f", str(file), f"{_PLUGIN}:{goal[0]}", *goal[1:], f"-DoutputDirectory={folder}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError(
                f"Maven could not fetch {what} (exit code {done.returncode}); "
                f"see that it reaches its repository: {(done.stdout + done.stderr)[-2000:]}"
            )

    return made_once(f"{place}/{hashlib.sha256(project.encode()).hexdigest()[:16]}", fetch)


def _project(coordinates: tuple[str, str, str], dependencies: str) -> str:
    group, artifact, version = coordinates
    return (
        "<project><modelVersion>4.0.0</modelVersion>"
        f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version><packaging>pom</packaging>"
        f"{dependencies}</project>\n"
    )


def _dependency(group: str, artifact: str, version: str, exclusions: tuple[tuple[str, str], ...]) -> str:
    excluded = "".join(
        f"<exclusion><groupId>{group}</groupId><artifactId>{artifact}</artifactId></exclusion>"
        for group, artifact in exclusions
    )
    return (
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        f"<exclusions>{excluded}</exclusions></dependency>\n"
    )
