"""``verify`` finds every file that is not what was committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from datalayer import Config, DataLayer, StoreUnavailableError, TaskKey, Tier
from datalayer.addresses import layout
from datalayer.commit.publisher import MAX_INLINE_ENTRIES
from datalayer.commit.verify import Verified, verify
from datalayer.stores.memory import MemoryStore
from datalayer.stores.wrapping import WrappingStore


def publish(layer: DataLayer, key: TaskKey, *, extra_files: int = 0) -> None:
    with layer.publish(key) as attempt:
        for name in ("a", "b", "folder/c"):
            attempt.output().put(name, name.encode() * 100)
        attempt.output("more").put("d", b"d")
        for number in range(extra_files):
            attempt.output("more").put(f"{number}", b"")


def kinds(verified: Verified) -> list[tuple[str, str, str]]:
    return sorted(problem[:3] for problem in verified.problems)


def test_a_good_output(layer: DataLayer, key: TaskKey) -> None:
    publish(layer, key)
    steps: list[tuple[int, int]] = []
    verified = verify(layer, layer.resolve(key), progress=lambda files, size: steps.append((files, size)))
    assert verified == Verified(str(key), 1, 4, 1001, 0, [])
    assert verified.ok
    assert (sum(files for files, _ in steps), sum(size for _, size in steps)) == (4, 1001)


def test_every_damage_is_found(layer: DataLayer, key: TaskKey) -> None:
    publish(layer, key)
    folder = layout.output_path(key, 1, "default")
    layer.data.put(f"{folder}/a", b"A" * 100)  # Of the same length.
    layer.data.put(f"{folder}/b", b"b" * 99)
    layer.data.delete([f"{folder}/folder/c"])
    layer.data.put(f"{folder}/late", b"1")
    layer.data.put(f"{layout.output_path(key, 1, 'unnamed')}/x", b"1")
    verified = verify(layer, layer.resolve(key))
    assert kinds(verified) == [
        ("damaged", "default", "a"),
        ("damaged", "default", "b"),
        ("extra", "default", "late"),
        ("extra", "unnamed", "x"),
        ("missing", "default", "folder/c"),
    ]
    assert not verified.ok


def test_extra_files_alone_do_no_harm(layer: DataLayer, key: TaskKey) -> None:
    publish(layer, key)
    layer.data.put(f"{layout.output_path(key, 1, 'default')}/late", b"1")
    verified = verify(layer, layer.resolve(key))
    assert kinds(verified) == [("extra", "default", "late")]
    assert verified.ok


def test_a_superseded_attempt_is_verified_as_any(layer: DataLayer, key: TaskKey) -> None:
    publish(layer, key)
    publish(layer, key)
    layer.home.put(f"{layout.attempt_path(key, 1)}/{layout.ALIVE}", b"")
    assert verify(layer, layer.resolve(key, attempt=1)).problems == []


def test_a_long_list_and_a_damaged_one(layer: DataLayer, key: TaskKey) -> None:
    publish(layer, key, extra_files=MAX_INLINE_ENTRIES)
    assert verify(layer, layer.resolve(key)).files == MAX_INLINE_ENTRIES + 4
    index = f"{layout.attempt_path(key, 1)}/{layout.INDEX}/more.json.gz"
    layer.home.put(index, b"no list")
    fresh = DataLayer(layer.config, stores={layer.home_tier: layer.home})
    verified = verify(fresh, fresh.resolve(key))
    assert kinds(verified) == [("damaged", "more", "")]
    layer.home.delete([index])
    fresh = DataLayer(layer.config, stores={layer.home_tier: layer.home})
    assert kinds(verify(fresh, fresh.resolve(key))) == [("damaged", "more", "")]


def test_files_without_a_checksum_are_counted(tmp_path: Path, key: TaskKey) -> None:
    (tmp_path / "volume").mkdir()
    config = {"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path / "volume")}}}
    layer = DataLayer(Config.from_mapping(config))
    with layer.publish(key) as attempt:
        uri = attempt.output().spark_uri.removeprefix("file://")
        Path(uri).mkdir(parents=True)
        (Path(uri) / "part-0").write_bytes(b"12345")
    verified = verify(layer, layer.resolve(key))
    assert (verified.unchecked, verified.problems) == (1, [])
    (Path(uri) / "part-0").write_bytes(b"1234")
    assert kinds(verify(layer, layer.resolve(key))) == [("damaged", "default", "part-0")]


def test_a_reference_that_changed(tmp_path: Path, key: TaskKey) -> None:
    for name in ("root", "raw"):
        (tmp_path / name).mkdir()
    (tmp_path / "raw/x.csv").write_bytes(b"1")
    config = {
        "design": "shared-fs",
        "tiers": {"shared": {"url": str(tmp_path / "root")}},
        "references": [{"prefix": f"file://{tmp_path}/raw"}],
    }
    layer = DataLayer(Config.from_mapping(config))
    resolution = layer.reference(key, f"file://{tmp_path}/raw")
    assert verify(layer, resolution).problems == []
    (tmp_path / "raw/x.csv").write_bytes(b"22")
    assert kinds(verify(layer, resolution)) == [("damaged", "default", "x.csv")]


def test_a_store_that_fails_is_no_verdict(key: TaskKey) -> None:
    class Failing(WrappingStore):
        broken = False

        def stream(self, path: str, *, chunk_size: int = 1) -> object:  # type: ignore[override]  # a stand-in, narrower than the real one
            if self.broken:
                raise StoreUnavailableError("gone")
            return super().stream(path, chunk_size=chunk_size)

    store = Failing(MemoryStore())
    layer = DataLayer(Config(), stores={Tier.COLD: store})
    publish(layer, key)
    store.broken = True
    with pytest.raises(StoreUnavailableError):
        verify(layer, layer.resolve(key))
