"""One precedence, and every unknown key named."""

from pathlib import Path

import pytest

from datalayer import Config, ConfigError, DataLayer, Tier


def test_explicit_wins_over_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "d.toml"
    file.write_text(
        'design = "s3-poc"\n[tiers.cold]\nurl = "s3://file/p"\nconnection = "lake"\n[connections.lake]\nregion = "eu"\nendpoint = "http://f"\n'
    )
    environ = {
        "DATALAYER_CONFIG": str(file),
        "DATALAYER_TIERS__COLD__URL": "s3://environment/p",
        "DATALAYER_CONNECTIONS__LAKE__ENDPOINT": "http://e",
        "DATALAYER_CONTEXT": "no configuration key",
        "DATALAYER_TEST_KUBECONFIG": "neither is this",
    }
    config = Config.load({"connections": {"lake": {"timeout": 5}}}, environ=environ)
    lake = config.connections["lake"]
    assert (config.design, config.tiers["cold"].url) == ("s3-poc", "s3://environment/p")
    assert (lake.region, lake.endpoint, lake.timeout) == ("eu", "http://e", 5.0)
    assert config.home_tier is Tier.COLD


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"desing": "s3-poc"}, "unknown key 'desing'; the keys are design, tiers"),
        ({"design": "hot"}, "unknown storage design 'hot'; the designs are s3-poc"),
        ({"tiers": {"cold": {"url": "s3://b", "bucket": "x"}}}, "unknown key 'tiers.cold.bucket'; the keys are url"),
        ({"connections": {"lake": {"endpont": "x"}}}, "unknown key 'connections.lake.endpont'; the keys are endpoint"),
        (
            {"references": [{"prefix": "s3://b", "url": "x"}]},
            r"unknown key 'references\[0\]\.url'; the keys are prefix",
        ),
        ({"tiers": {"cold": {"url": 7}}}, "Expected `str`"),
        ({"tiers": {"warm": {"url": "s3://b"}}}, "unknown tier 'warm'"),
        ({"tiers": {"cold": {"url": "s3://b", "connection": "lake"}}}, r"add \[connections.lake\]"),
        (
            {"design": "shared-fs", "tiers": {"cold": {"url": "s3://b"}}},
            "tiers.shared: the design 'shared-fs' writes there",
        ),
        ({"tiers": {"cold": {"url": "s3://b"}}, "home": "shared"}, r"add \[tiers.shared\]"),
        ({"references": [{"prefix": "s3://b", "connection": "x"}]}, "references: no connection named 'x'"),
    ],
)
def test_a_wrong_key_is_named(document: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config.load(document, environ={})


def test_unknown_variables_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DATALAYER_DESING: unknown key 'desing'"):
        Config.load(environ={"DATALAYER_DESING": "s3-poc"})
    with pytest.raises(ConfigError, match="which is not there"):
        Config.load(environ={"DATALAYER_CONFIG": str(tmp_path / "none.toml")})
    broken = tmp_path / "broken.toml"
    broken.write_text("design = ")
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        Config.load(environ={"DATALAYER_CONFIG": str(broken)})
    broken.write_text('colour = "red"')
    with pytest.raises(ConfigError, match=r"broken\.toml: unknown key 'colour'"):
        Config.load(environ={"DATALAYER_CONFIG": str(broken)})
    broken.write_text('[connections.lake]\nendpont = "http://e"')
    with pytest.raises(ConfigError, match=r"broken\.toml: unknown key 'connections\.lake\.endpont'"):
        Config.load(environ={"DATALAYER_CONFIG": str(broken)})


def test_a_layer_without_tiers_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"DATALAYER_TIERS__COLD__URL"):
        DataLayer(Config())
    with pytest.raises(ConfigError, match=r"ftp:// is no kind of store"):
        DataLayer(Config.load({"tiers": {"cold": {"url": "ftp://x/y"}}}, environ={}))


def test_a_secret_is_never_printed() -> None:
    config = Config.load({"connections": {"lake": {"access_key_id": "AK", "secret_access_key": "s3cr3t"}}}, environ={})
    assert "s3cr3t" not in repr(config)
    assert "s3cr3t" not in str(config.connections)


def test_a_relative_folder_in_the_file_is_meant_from_where_the_file_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    file = tmp_path / "project" / "datalayer.toml"
    file.write_text('design = "shared-fs"\n[tiers.shared]\nurl = "../store"\n')
    monkeypatch.chdir("/")
    layer = DataLayer(Config.load(environ={"DATALAYER_CONFIG": str(file)}))
    assert str(layer.home.root) == f"file://{tmp_path}/store"
