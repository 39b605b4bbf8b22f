"""The table [hot]: what it may say, and what is refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datalayer import Config, ConfigError, DataLayer, Tier
from datalayer.config import HotConfig
from datalayer.stores.memory import MemoryStore

ALLUXIO = {"url": "alluxio://master:19998/outputs", "proxy": "http://proxy:39999"}


def config(**hot: Any) -> HotConfig:
    found = Config.from_mapping({"design": "hot-cold", "tiers": {"cold": {"url": "s3://b"}}, "hot": hot}).hot
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("1", 1),
        (12, 12),
        ("10GB", 10**10),
        ("10 gb", 10**10),
        ("1.5MiB", 3 << 19),
        ("2T", 2 * 10**12),
        ("3KiB", 3072),
        ("7 B", 7),
    ],
)
def test_a_budget_is_a_number_of_bytes(written: str | int, size: int) -> None:
    assert config(budget=written).budget_bytes == size


@pytest.mark.parametrize("written", ["", "much", "10 parsecs", "-1", "0", 0, "1e9"])
def test_another_budget_is_refused(written: str | int) -> None:
    with pytest.raises(ConfigError, match=r"hot\.budget"):
        config(budget=written)


@pytest.mark.parametrize(("kind", "reason"), [("MUST_CACHE", "loses it"), ("ASYNC_THROUGH", "some time after")])
def test_a_write_type_that_is_not_durable_is_refused_with_the_reason(kind: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"hot\.write_type: {kind}.*{reason}.*CACHE_THROUGH or THROUGH"):
        config(write_type=kind)


def test_copies_are_made_when_written_in_a_folder_and_when_read_in_alluxio() -> None:
    assert config().write_through
    assert not config(**ALLUXIO).write_through
    assert not config(write_type="THROUGH").write_through
    assert config(**ALLUXIO, write_type="CACHE_THROUGH").write_through


@pytest.mark.parametrize(
    ("hot", "named"),
    [
        ({"url": "alluxio://m:1/a"}, r"hot\.proxy"),
        ({**ALLUXIO, "proxy": "proxy:39999"}, r"hot\.proxy"),
        ({**ALLUXIO, "proxy": "http://me:secret@proxy"}, r"hot\.proxy"),
        ({"url": "s3://bucket"}, r"hot\.url"),
        ({"proxy": "http://proxy:39999"}, r"hot\.proxy: only with"),
        ({"url": "cache", "mount": "/mnt"}, r"hot\.mount: only with"),
        ({"write_type": "BACK"}, r"hot\.write_type"),
        ({"timeout": 0}, r"hot\.timeout"),
        ({"size": "1GB"}, r"hot\.size"),
    ],
)
def test_what_does_not_fit_is_named(hot: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        config(**hot)
    assert "secret" not in str(caught.value)


def test_a_hot_tier_is_no_place_to_commit() -> None:
    for document in ({"tiers": {"hot": {"url": "/x"}, "cold": {"url": "/y"}}}, {"home": "hot"}):
        with pytest.raises(ConfigError, match=r"\[hot\]"):
            Config.from_mapping(document)


def test_only_a_design_that_reads_from_copies_has_them() -> None:
    layer = DataLayer(Config(), stores={Tier.COLD: MemoryStore()})
    with pytest.raises(ConfigError, match="s3-direct has no hot tier"):
        layer.store(Tier.HOT)


def test_a_relative_folder_is_meant_from_where_the_file_lies(tmp_path: Path) -> None:
    file = tmp_path / "datalayer.toml"
    file.write_text('design = "hot-cold"\n[tiers.cold]\nurl = "cold"\n[hot]\nurl = "cache"\n')
    loaded = Config.load(environ={"DATALAYER_CONFIG": str(file), "DATALAYER_HOT__BUDGET": "5MB"})
    assert loaded.hot == HotConfig(url=str(tmp_path / "cache"), budget="5MB")


@pytest.mark.parametrize(("cold", "hot"), [("a", "a"), ("a", "a/b"), ("a/b", "./a"), ("file:///x/y", "/x/y/")])
def test_copies_lie_apart_from_what_they_are_copies_of(cold: str, hot: str) -> None:
    with pytest.raises(ConfigError, match=r"hot\.url.*a folder of their own"):
        Config.from_mapping({"design": "hot-cold", "tiers": {"cold": {"url": cold}}, "hot": {"url": hot}})
    Config.from_mapping({"design": "hot-cold", "tiers": {"cold": {"url": "ab"}}, "hot": {"url": "a"}})
    Config.from_mapping({"design": "hot-cold", "tiers": {"cold": {"url": "s3://a"}}, "hot": {"url": "a"}})
