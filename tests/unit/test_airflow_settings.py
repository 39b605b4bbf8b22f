"""The section `[datalayer]` of Airflow's configuration, and what a worker's layer is made of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from airflow_ops.layers import open_layer
from airflow_ops.provider_info import get_provider_info
from airflow_ops.settings import Settings, settings
from datalayer import ConfigError


def set_(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"AIRFLOW__DATALAYER__{name.upper()}", value)


def test_without_any_there_are_defaults() -> None:
    assert settings() == Settings()
    assert settings().launcher == "kubernetes"


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {"/job": "/home/me/job"}
    set_(monkeypatch, launcher="process", quota_wait="12", team="", process_folders=json.dumps(folders))
    found = settings()
    assert (found.launcher, found.quota_wait, found.team, found.process_folders) == ("process", 12.0, None, folders)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lancher", "process", "[datalayer] lancher: unknown key; the keys are team, launcher"),
        ("launcher", "docker", "[datalayer] launcher: "),
        ("quota_wait", "long", "[datalayer] quota_wait: "),
        ("commit_timeout", "-1", "[datalayer] commit_timeout: write seconds, 0 or more"),
        ("process_folders", "{", "[datalayer] process_folders: is no JSON"),
        ("process_folders", '{"/job": 1}', "[datalayer] process_folders: "),
        ("config_file", "/nowhere.toml", "[datalayer] config_file: '/nowhere.toml' is no file on this machine"),
    ],
)
def test_what_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    set_(monkeypatch, **{name: value})
    with pytest.raises(ConfigError, match=re.escape(said)):
        settings()


def test_a_value_may_be_what_a_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow takes only keys that it knows as secret from there; ours is no unknown one.
    set_(monkeypatch, team_cmd="echo aviation")
    assert settings().team is None


def test_airflow_is_told_of_every_key() -> None:
    options = get_provider_info()["config"]["datalayer"]["options"]
    assert list(options) == list(Settings.__struct_fields__)
    defaults = {name: one["default"] for name, one in options.items() if one["default"] is not None}
    assert defaults == {"launcher": "kubernetes", "commit_timeout": "3600", "quota_wait": "600"}


def test_the_provider_info_is_one_that_airflow_takes() -> None:
    import airflow
    import jsonschema

    for name in ("provider_info.schema.json", "provider.yaml.schema.json"):
        path = Path(airflow.__file__).with_name(name)
        schema = json.loads(path.read_text())
        if name == "provider_info.schema.json":
            jsonschema.validate(get_provider_info(), schema)


def lake(tmp_path: Path, more: str = "") -> str:
    path = tmp_path / "datalayer.toml"
    path.write_text(f'[tiers.cold]\nurl = "s3://outputs/root"\nconnection = "lake"\n{more}')
    return str(path)


def connection(**told: object) -> str:
    return json.dumps({"conn_type": "aws", "login": "AKIA", "password": "secret", **told})


def test_a_connection_that_the_file_does_not_define_is_airflows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_(monkeypatch, config_file=lake(tmp_path))
    extra = {"endpoint_url": "http://s3.example.com:9000", "region_name": "eu-west-1", "aws_session_token": "token"}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", connection(extra=extra))
    monkeypatch.setenv("AIRFLOW_CONN_REPORTS", connection(login="AKIB"))
    layer = open_layer(connections=["reports"])
    found = layer.connection("lake")
    assert (found.endpoint, found.region) == ("http://s3.example.com:9000", "eu-west-1")
    assert (found.access_key_id, found.secret_access_key, found.session_token) == ("AKIA", "secret", "token")
    assert layer.connection("reports").access_key_id == "AKIB"


def test_a_connection_of_the_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_(monkeypatch, config_file=lake(tmp_path, '[connections.lake]\nregion = "eu-north-1"\n'))
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", connection())
    assert open_layer().connection("lake").region == "eu-north-1"


def test_a_connection_that_is_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_(monkeypatch, config_file=lake(tmp_path))
    with pytest.raises(ConfigError, match="'lake' is neither in the configuration nor a connection of Airflow's"):
        open_layer()


def test_a_connection_of_another_type_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_(monkeypatch, config_file=lake(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", connection(conn_type="postgres"))
    with pytest.raises(ConfigError, match="is of the type 'postgres'; use one of the type aws"):
        open_layer()
