from __future__ import annotations

import pytest

from datalayer.config import Config, HotConfig, TierConfig
from datalayer.errors import ConfigError
from spark_env import alluxio

WRITE_TYPE = "alluxio.user.file.writetype.default"
TIERS = {"cold": TierConfig(url="s3://lake/root")}
ALLUXIO = HotConfig(url="alluxio://master:19998/outputs", proxy="http://proxy:39999")


@pytest.mark.parametrize("name", [WRITE_TYPE, f"spark.hadoop.{WRITE_TYPE}"])
@pytest.mark.parametrize(
    ("write_type", "reason"),
    [("MUST_CACHE", "in Alluxio alone"), ("ASYNC_THROUGH", "some time after"), ("X", "unknown")],
)
def test_what_would_not_be_durable_is_refused(name: str, write_type: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        alluxio.check_conf({name: write_type})
    assert str(caught.value).startswith(f"{name}: ")
    assert "CACHE_THROUGH" in str(caught.value)


@pytest.mark.parametrize("write_type", ["CACHE_THROUGH", "THROUGH"])
def test_what_is_durable_at_once_may_be_said(write_type: str) -> None:
    alluxio.check_conf({f"spark.hadoop.{WRITE_TYPE}": write_type, "spark.master": "local"})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(design="hot-cold", tiers=TIERS, hot=ALLUXIO), True),
        (Config(design="hot-cold", tiers=TIERS, hot=HotConfig(url="/cache")), False),
        (Config(design="hot-cold", tiers=TIERS), False),
        (Config(design="s3-direct", tiers=TIERS, hot=ALLUXIO), False),
    ],
)
def test_only_a_design_that_reads_from_alluxio_needs_its_client(config: Config, expected: bool) -> None:
    assert alluxio.reads_alluxio(config) is expected


def test_executors_are_told_what_the_driver_is() -> None:
    (options,) = alluxio.executor_conf().values()
    told = dict(option.removeprefix("-D").split("=") for option in options.split())
    assert told == alluxio.client_conf()


@pytest.mark.parametrize(
    ("master", "local"), [("local", True), ("local[2,2]", True), ("local-cluster[1,1,1024]", False), ("yarn", False)]
)
def test_executors_of_their_own_are_told_from_one_process(master: str, local: bool) -> None:
    assert alluxio.is_local(master) is local
