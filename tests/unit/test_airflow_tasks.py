"""Which paths of the worker may be published."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_ops.tasks import allowed_folder, publish_output
from datalayer import Config
from datalayer.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "open").mkdir()
    tiers = {"shared": {"url": str(tmp_path / "store")}}
    allowed = [{"prefix": str(tmp_path / "open")}, {"prefix": "s3://raw/"}]
    return Config.from_mapping({"design": "shared-fs", "tiers": tiers, "references": allowed})


def test_a_text_is_a_path_only_below_an_allowed_folder(config: Config, tmp_path: Path) -> None:
    assert allowed_folder(f"{tmp_path}/open/a.txt", config) == (tmp_path / "open/a.txt").resolve()
    (tmp_path / "open/out").symlink_to(tmp_path)
    for source in ("/etc/passwd", f"{tmp_path}/open/../a", f"{tmp_path}/open/out/a", f"{tmp_path}/opened", "s3:/raw"):
        with pytest.raises(ConfigError, match=r"pathlib\.Path.*\[\[references\]\]"):
            allowed_folder(source, config)


def test_a_path_that_stands_in_the_dag_stays_one(tmp_path: Path) -> None:
    task = publish_output(tmp_path, task_id="mine")
    task.render_template_fields({})
    assert task.source == tmp_path
