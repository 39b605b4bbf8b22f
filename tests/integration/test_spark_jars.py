from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pyspark
import pytest
from pyspark.sql import SparkSession

from datalayer.errors import ConfigError
from spark_env import versions
from spark_env.jars import jars_dir, pom
from tests.services.s3server import S3Server

IN_PYSPARK = Path(pyspark.__file__).parent / "jars"


def artifacts(folder: Path) -> dict[str, str]:
    """Versions by artifact, as the names of jars have them."""
    names = (re.fullmatch(r"(.+?)-(\d.*)\.jar", path.name) for path in folder.glob("*.jar"))
    return {name[1]: name[2] for name in names if name}


def test_the_table_agrees_with_what_is_installed() -> None:
    assert importlib.metadata.version("pyspark") == versions.SPARK
    assert artifacts(IN_PYSPARK)["hadoop-client-api"] == versions.HADOOP
    assert artifacts(IN_PYSPARK)[f"spark-core_{versions.SCALA}"] == versions.SPARK


def test_the_pom_is_well_formed() -> None:
    project = ET.fromstring(pom())
    assert len(project.findall("{*}dependencies/{*}dependency")) == 5


def test_the_jars_are_slim_and_shadow_none_of_pyspark() -> None:
    ours = artifacts(jars_dir())
    assert ours["hadoop-aws"] == versions.HADOOP
    assert ours["s3"] == versions.AWS_SDK
    assert ours.keys().isdisjoint(artifacts(IN_PYSPARK))
    assert sum(path.stat().st_size for path in jars_dir().iterdir()) < 20 << 20


@pytest.mark.parametrize(("missing", "package"), [("java", "openjdk-17"), ("mvn", "maven")])
def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str, package: str
) -> None:
    monkeypatch.setenv("DATALAYER_CACHE", str(tmp_path / "cache"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in {"java", "mvn"} - {missing}:
        (programs / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(ConfigError, match=f"{missing} is missing.*{package}"):
        jars_dir()


def test_a_failed_fetch_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATALAYER_CACHE", str(tmp_path / "cache"))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "java").symlink_to("/bin/true")
    (programs / "mvn").write_text("#!/bin/sh\necho no route\nexit 3\n")
    (programs / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(ConfigError, match=r"exit code 3(.|\n)*no route"):
        jars_dir()
    assert [path.suffix for path in (tmp_path / "cache" / "jars").iterdir()] == [".lock"]


@pytest.fixture
def session(versitygw: S3Server) -> Iterator[SparkSession]:
    """Plain Spark with nothing but the jars and the server's address."""
    s3a = {
        "endpoint": versitygw.endpoint,
        "endpoint.region": versitygw.region,
        "path.style.access": "true",
        "connection.ssl.enabled": "false",
        "aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
        "access.key": versitygw.root.access_key,
        "secret.key": versitygw.root.secret_key,
    }
    builder = SparkSession.Builder().master("local[2]").config("spark.driver.extraClassPath", f"{jars_dir()}/*")
    builder = builder.config("spark.ui.enabled", "false").config("spark.driver.bindAddress", "127.0.0.1")
    for name, value in s3a.items():
        builder = builder.config(f"spark.hadoop.fs.s3a.{name}", value)
    session = builder.getOrCreate()
    try:
        yield session
    finally:
        session.stop()


def test_spark_reads_and_writes_s3a(session: SparkSession, versitygw: S3Server) -> None:
    bucket = versitygw.new_bucket()
    with versitygw.client() as client:
        client.put_object(Bucket=bucket, Key="in/a.csv", Body=b"1,x\n2,y\n3,z\n")
    rows = session.read.csv(f"s3a://{bucket}/in/", schema="n int, s string")
    rows.write.parquet(f"s3a://{bucket}/out/")
    again = session.read.parquet(f"s3a://{bucket}/out/")
    assert sorted(map(tuple, again.collect())) == [(1, "x"), (2, "y"), (3, "z")]
