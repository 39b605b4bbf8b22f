"""The jars that PySpark's wheel lacks to read and write S3 in place: S3A, its committers, and a slim AWS SDK.

The full SDK bundle is 558 MB; these are about 10. They belong on ``spark.driver.extraClassPath``: ``spark.jars`` would
copy them at every start.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from datalayer.errors import ConfigError
from spark_env.cache import made_once
from spark_env.versions import AWS_SDK, HADOOP, SCALA, SPARK

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
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def pom() -> str:
    """The Maven project whose dependencies are the jars."""
    return (
        "<project><modelVersion>4.0.0</modelVersion>"
        "<groupId>datalayer</groupId><artifactId>spark-jars</artifactId><version>1</version><packaging>pom</packaging>"
        "<dependencies>\n"
        + "".join(_dependency(*which, (("*", "*"),)) for which in _ALONE)
        + "".join(_dependency(*which, _IN_PYSPARK) for which in _WITH_DEPENDENCIES)
        + "</dependencies></project>\n"
    )


def jars_dir() -> Path:
    """The folder with the jars, fetched with Maven the first time and kept in the cache for every later one.

    Raises:
        ConfigError: Maven or Java is missing, or the jars could not be fetched.
    """

    def fetch(folder: Path) -> None:
        for program, package in (("java", "openjdk-17-jre-headless"), ("mvn", "maven")):
            if shutil.which(program) is None:
                raise ConfigError(
                    f"{program} is missing, and Spark's jars are not in the cache: apt-get install {package}"
                )
        # In the folder itself: a process that is killed here leaves one thing to remove.
        project = folder / "pom.xml"
        project.write_text(pom())
        command = ["mvn", "-q", "-B", "-f", str(project), _COPY, f"-DoutputDirectory={folder}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError(
                f"Maven could not fetch Spark's jars (exit code {done.returncode}); "
                f"see that it reaches its repository: {(done.stdout + done.stderr)[-2000:]}"
            )

    return made_once(f"jars/{hashlib.sha256(pom().encode()).hexdigest()[:16]}", fetch)


def _dependency(group: str, artifact: str, version: str, exclusions: tuple[tuple[str, str], ...]) -> str:
    excluded = "".join(
        f"<exclusion><groupId>{group}</groupId><artifactId>{artifact}</artifactId></exclusion>"
        for group, artifact in exclusions
    )
    return (
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        f"<exclusions>{excluded}</exclusions></dependency>\n"
    )
