from __future__ import annotations

import importlib.metadata
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import pyspark
import pytest

from datalayer.errors import ConfigError
from spark_env import versions
from spark_env.jars import alluxio_jar, jars_dir, pom

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


def test_alluxio_s_client_is_one_jar_apart_from_the_others() -> None:
    jar = alluxio_jar()
    assert jar.name == f"alluxio-shaded-client-{versions.ALLUXIO}.jar"
    assert [path.name for path in jar.parent.glob("*.jar")] == [jar.name]
    with zipfile.ZipFile(jar) as content:
        assert "alluxio/hadoop/FileSystem.class" in content.namelist()
    assert "alluxio-shaded-client" not in artifacts(jars_dir())


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
