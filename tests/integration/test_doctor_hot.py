"""`doctor` looks at the hot tier, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from datalayer import Config, DataLayer, StoreUnavailableError, Tier
from datalayer.config import HotConfig
from datalayer.doctor import FAILED, OK, WARNING, Finding, doctor
from datalayer.stores.base import Expected
from datalayer.stores.counting import CountingStore
from tests.behaviour.conftest import s3_config
from tests.behaviour.hot import MemoryHot, hot_layer
from tests.services.process import free_port
from tests.services.s3server import S3Server


def cached(tmp_path: Path, **settings: object) -> DataLayer:
    (tmp_path / "cold").mkdir()
    tiers = {"cold": {"url": str(tmp_path / "cold")}}
    hot = {"url": str(tmp_path / "hot"), "budget": "100MB"} | settings
    return DataLayer(Config.from_mapping({"design": "hot-cold", "tiers": tiers, "hot": hot}))


def on(findings: Iterable[Finding], tier: str = "hot") -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if finding.tier == tier}


def broken(kind: type[MemoryHot]) -> dict[str, Finding]:
    layer = hot_layer()
    layer._hot = kind(CountingStore(layer.store(Tier.COLD), layer.receipt), layer.receipt)
    return on(doctor(layer))


def test_a_good_cache_folder(tmp_path: Path) -> None:
    layer = cached(tmp_path)
    told: list[str] = []
    findings = list(doctor(layer, progress=told.append))
    assert {finding.status for finding in findings if finding.tier == "hot"} == {OK}
    assert list(on(findings)) == [
        "reachable",
        "same bytes as the cold tier",
        "keeps copies",
        "files on this machine",
        "pins",
        "drops copies",
        "budget",
    ]
    assert next(text for text in told if text.startswith("hot: ")) == "hot: same bytes as the cold tier"
    # The cold tier is looked at by itself, and everything is as it was.
    assert on(findings, "cold")["range reads"].status == OK
    assert list(layer.home.list("")) == []
    assert layer.hot.status().outputs == []
    assert list((tmp_path / "hot" / "pins").iterdir()) == []


def test_a_budget_that_there_is_no_room_for(tmp_path: Path) -> None:
    finding = on(doctor(cached(tmp_path, budget="9000TB")))["budget"]
    assert finding.status == WARNING
    assert finding.detail.startswith("9 PB; there is room for ")
    assert "make room" in finding.breaks


def test_a_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "hot").mkdir()
    (tmp_path / "hot").chmod(0o777)
    (finding,) = on(doctor(cached(tmp_path))).values()
    assert finding.status == FAILED
    assert "others may write to the cache folder" in finding.detail


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = on(doctor(cached(tmp_path, url=str(tmp_path / "file" / "hot")))).values()
    assert (finding.check, finding.status) == ("reachable", FAILED)
    assert f"cache folder not usable: {tmp_path}/file/hot" in finding.detail
    assert "s3-direct" in finding.breaks
    assert "hot.url" in finding.breaks


def test_a_budget_below_what_is_tried(tmp_path: Path) -> None:
    findings = on(doctor(cached(tmp_path, budget="1MB")))
    assert {name for name, finding in findings.items() if finding.status != OK} == {"budget"}
    assert findings["budget"].status == WARNING
    assert findings["budget"].detail.startswith("1 MB, less than the 5.255 MB that are read through it here")
    # Without a copy nothing is known of these.
    assert not {"keeps copies", "files on this machine", "drops copies"} & set(findings)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datalayer.doctor_hot._PATIENCE", 0.2)


class Other(MemoryHot):
    def pieces(self, path: str, expected: Expected, start: int, end: int) -> Iterator[bytes]:
        yield b"x" * (end - start)


class Forgets(MemoryHot):
    def resident(self, path: str, length: int) -> int:
        return 3


class Keeps(MemoryHot):
    def evict(self, paths: Iterable[str]) -> None: ...


class Loose(MemoryHot):
    def pin(self, paths: Iterable[str], until: datetime) -> None:
        raise StoreUnavailableError("no master", tier="hot")


class Down(MemoryHot):
    def pieces(self, path: str, expected: Expected, start: int, end: int) -> Iterator[bytes]:
        self.failing = "connection refused"
        self.full = True
        return super().pieces(path, expected, start, end)


class Elsewhere(MemoryHot):
    def local_path(self, path: str) -> Path | None:
        return Path(__file__)


@pytest.mark.parametrize(
    ("kind", "check", "detail"),
    [
        (Other, "same bytes as the cold tier", "is not what was written"),
        (Forgets, "keeps copies", "3 are copies (passed on: no copy yet)"),
        (Keeps, "drops copies", "still there"),
        (Loose, "pins", "StoreUnavailableError: no master"),
        (Down, "same bytes as the cold tier", "it does not serve: connection refused"),
        (Elsewhere, "files on this machine", "test_doctor_hot.py is not what was written"),
    ],
)
def test_a_hot_tier_with_one_thing_wrong(kind: type[MemoryHot], check: str, detail: str) -> None:
    findings = broken(kind)
    assert (findings[check].status, detail in findings[check].detail) == (FAILED, True), findings[check]
    assert findings[check].breaks
    wrong = {name for name, finding in findings.items() if finding.status != OK}
    assert wrong <= {check, "keeps copies", "drops copies", "pins"}


def test_an_alluxio_that_is_not_there(versitygw: S3Server) -> None:
    bucket = versitygw.new_bucket()
    config = s3_config(versitygw, bucket)
    hot = HotConfig(url="alluxio://127.0.0.1:1/outputs", proxy=f"http://127.0.0.1:{free_port()}")
    findings = on(doctor(DataLayer(msgspec.structs.replace(config, design="hot-cold", hot=hot))))
    (finding,) = findings.values()
    assert (finding.check, finding.status) == ("reachable", FAILED)
    assert "cannot serve" in finding.detail
    assert "Check hot.proxy, and that Alluxio's master, worker and proxy run." in finding.breaks
