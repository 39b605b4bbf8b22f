"""``doctor`` finds nothing wrong with a good store, and each thing that is wrong with a bad one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from datalayer import Config, DataLayer, NotSupportedError, StoreFullError, StoreUnavailableError, Tier
from datalayer.doctor import FAILED, OK, WARNING, Finding, doctor
from datalayer.errors import AlreadyExistsError, PreconditionFailedError
from datalayer.stores.base import ObjectInfo, Store, StoreWriter
from datalayer.stores.memory import MemoryStore
from datalayer.stores.wrapping import WrappingStore
from tests.behaviour.conftest import any_layer, s3_config, volume_layer
from tests.services.s3server import S3Server


def failed(findings: list[Finding]) -> list[str]:
    return [finding.check for finding in findings if finding.status == FAILED]


@pytest.mark.parametrize("kind", ["memory", "volume", "s3"])
def test_a_good_store(kind: str, request: pytest.FixtureRequest) -> None:
    with any_layer(kind, request) as layer:
        findings = list(doctor(layer))
        assert {finding.check for finding in findings if finding.status != OK} <= {"home"}
        assert len(findings) >= 10
        home = findings[-1]
        assert home.check == "home"
        assert home.status == (OK if kind == "s3" else WARNING)
        assert list(layer.home.list("")) == []
        checks = {finding.check for finding in findings}
        assert ("link, rename and fsync" in checks) == (kind == "volume")
        assert ("compare-and-put" in checks) == (kind != "volume")


def test_a_volume_is_left_as_it_was(tmp_path: Path) -> None:
    layer = volume_layer(tmp_path / "volume")
    list(doctor(layer))
    assert list((tmp_path / "volume").iterdir()) == []


def test_moto_may_have_two_winners_and_then_it_says_so(moto: S3Server) -> None:
    layer = DataLayer(s3_config(moto, moto.new_bucket()))
    for finding in doctor(layer):
        if finding.check == "one winner under concurrency":
            assert finding.status in {OK, FAILED}
            assert (finding.status == FAILED) == ("races went wrong" in finding.detail)
            assert (finding.status == FAILED) == ("Do not use this store as home" in finding.breaks)
        else:
            assert finding.status == OK, finding


def test_a_store_that_cannot_be_reached_is_one_finding(tmp_path: Path) -> None:
    config = {"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path / "unmounted")}}}
    findings = list(doctor(DataLayer(Config.from_mapping(config))))
    assert [(one.status, one.tier, one.check) for one in findings[:-1]] == [
        (FAILED, "shared", "reachable and writable")
    ]
    assert "mounted" in findings[0].detail


def test_every_configured_tier_is_checked() -> None:
    stores: dict[Tier, Store] = {Tier.COLD: MemoryStore(), Tier.SHARED: MemoryStore(tier=Tier.SHARED)}
    findings = list(doctor(DataLayer(Config(), stores=stores)))
    assert {finding.tier for finding in findings} == {"cold", "shared"}


# Stores with one thing wrong ------------------------------------------------------------------------------------------------------------


class CheckThenWrite(WrappingStore):
    """What fsspec's ``mode="create"`` does: looks, and then writes."""

    def put_exclusive(self, path: str, data: bytes) -> ObjectInfo:
        if any(info.path == path for info in self.inner.list(path.rpartition("/")[0])):
            raise AlreadyExistsError("there")
        time.sleep(0.001)
        return self.inner.put(path, data)


class ComparesLate(WrappingStore):
    def compare_and_put(self, path: str, data: bytes, version: str) -> ObjectInfo:
        if self.inner.head(path).version != version:
            raise PreconditionFailedError("another")
        time.sleep(0.001)
        return self.inner.put(path, data)


class NeverRefuses(WrappingStore):
    def put_exclusive(self, path: str, data: bytes) -> ObjectInfo:
        return self.inner.put(path, data)

    def compare_and_put(self, path: str, data: bytes, version: str) -> ObjectInfo:
        return self.inner.put(path, data)


class Cached(WrappingStore):
    """A listing that is as old as its first."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._lists: dict[str, list[ObjectInfo]] = {}

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(self._lists.setdefault(prefix, [*self.inner.list(prefix)]))


class ShortRanges(WrappingStore):
    def get_range(self, path: str, start: int, length: int) -> bytes:
        return self.inner.get(path)[0][start : start + length]


class Decodes(WrappingStore):
    """Takes ``%`` for an escape."""

    def put(self, path: str, data: bytes) -> ObjectInfo:
        return self.inner.put(path.replace("%2F", "_"), data)

    def get(self, path: str) -> tuple[bytes, ObjectInfo]:
        return self.inner.get(path.replace("%2F", "_"))


class Full(WrappingStore):
    def writer(self, path: str) -> StoreWriter:
        raise StoreFullError("no room")


class Undeletable(WrappingStore):
    def delete(self, paths: Any) -> None:
        list(paths)


class KeepsDropped(WrappingStore):
    def writer(self, path: str) -> StoreWriter:
        writer = self.inner.writer(path)
        writer.discard = writer.close  # type: ignore[method-assign, assignment]  # a stand-in for this object's
        return writer


class Gone(WrappingStore):
    def put(self, path: str, data: bytes) -> ObjectInfo:
        raise StoreUnavailableError("gone")


class Ahead(WrappingStore):
    def head(self, path: str) -> ObjectInfo:
        info = self.inner.head(path)
        return info._replace(modified=info.modified + timedelta(minutes=5))


BAD: dict[type[WrappingStore], set[str]] = {
    CheckThenWrite: {"one winner under concurrency"},
    ComparesLate: {"one winner under concurrency"},
    NeverRefuses: {"exclusive put", "compare-and-put", "one winner under concurrency"},
    Cached: {"listing"},
    ShortRanges: {"range reads"},
    Decodes: {"file names"},
    Full: {"large files"},
    KeepsDropped: {"large files"},
    Undeletable: {"reachable and writable", "listing"},
    Gone: {"reachable and writable"},
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_wrong_is_found_and_said(bad: Callable[[Store], Store]) -> None:
    findings = list(doctor(DataLayer(Config(), stores={Tier.COLD: bad(MemoryStore())})))
    assert set(failed(findings)) == BAD[bad]  # type: ignore[index]  # the names are those of BAD
    assert all(finding.breaks for finding in findings if finding.status != OK)


def test_a_clock_that_is_off_is_a_warning() -> None:
    findings = list(doctor(DataLayer(Config(), stores={Tier.COLD: Ahead(MemoryStore())})))
    (clock,) = [finding for finding in findings if finding.check == "clock"]
    assert clock.status == WARNING
    assert "299 s" in clock.detail


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = volume_layer(tmp_path / "volume")

    def link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", link)
    findings = list(doctor(layer))
    assert "link, rename and fsync" in failed(findings)
    assert "exclusive put" in failed(findings)


def test_progress_names_what_begins() -> None:
    seen: list[str] = []
    list(doctor(DataLayer(Config(), stores={Tier.COLD: MemoryStore()}), progress=seen.append))
    assert seen[0] == "cold: reachable and writable"


def test_what_a_store_does_not_support_is_a_finding() -> None:
    class NoRanges(WrappingStore):
        def get_range(self, path: str, start: int, length: int) -> bytes:
            raise NotSupportedError("no ranges here")

    findings = list(doctor(DataLayer(Config(), stores={Tier.COLD: NoRanges(MemoryStore())})))
    assert failed(findings) == ["range reads"]
