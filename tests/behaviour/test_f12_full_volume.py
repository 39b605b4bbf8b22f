"""F12: no space, no quota, an I/O error at fsync or close. The write fails, what was there is intact, nothing is committed."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datalayer import Config, DataLayer, NotPublishedError, TaskKey
from datalayer.addresses.location import Location
from datalayer.errors import DataLayerError, PermissionDeniedError, StoreError, StoreFullError, StoreUnavailableError
from datalayer.stores.volume import VolumeStore
from tests.behaviour.small_disk import small_disk

MIB = 1 << 20


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 4 MiB."""
    with small_disk(tmp_path / "small", 4) as folder:
        yield folder


def store_in(folder: Path) -> VolumeStore:
    return VolumeStore(Location.parse(str(folder)))


def write(store: VolumeStore, path: str, data: bytes) -> None:
    with store.writer(path) as writer:
        writer.write(data)


def copy(store: VolumeStore, path: str, data: bytes) -> None:
    store.put("source", data[: 3 * MIB])
    try:
        store.copy("source", path)
    finally:
        store.delete(["source"])


WRITES: dict[str, Callable[[VolumeStore, str, bytes], object]] = {
    "put": lambda store, path, data: store.put(path, data),
    # Of another object: it does not replace one.
    "put_exclusive": lambda store, path, data: store.put_exclusive(f"new/{path}", data),
    "writer": write,
    "copy": copy,
}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", WRITES)
def test_f12_a_full_volume_keeps_what_it_had(small_volume: Path, name: str) -> None:
    store = store_in(small_volume)
    store.put("a", b"before")
    with pytest.raises(StoreFullError, match="no space is left") as caught:
        WRITES[name](store, "a", bytes(6 * MIB))
    assert caught.value.location is not None
    assert isinstance(caught.value.__cause__, OSError)
    assert not caught.value.retryable
    assert files(small_volume) == ["a"]
    assert store.get("a")[0] == b"before"
    store.put("b", bytes(MIB))


def layer_on(folder: Path) -> DataLayer:
    return DataLayer(Config.from_mapping({"design": "shared-fs", "tiers": {"shared": {"url": str(folder)}}}))


def test_f12_nothing_is_committed_on_a_full_volume(small_volume: Path, key: TaskKey) -> None:
    layer = layer_on(small_volume)
    with pytest.raises(StoreFullError), layer.publish(key) as attempt, attempt.output().open("a", "wb") as file:
        for _ in range(6):
            file.write(bytes(MIB))
    with pytest.raises(NotPublishedError):
        layer.resolve(key)
    with layer.publish(key) as attempt:
        attempt.output().put("a", b"small")
    assert layer.resolve(key)["default"].read_bytes("a") == b"small"


class _Breaking:
    """A system call that fails from its n-th call on."""

    def __init__(self, real: Callable[..., object], code: int, after: int = 0) -> None:
        self._real, self._code, self.left = real, code, after

    def __call__(self, *args: object, **kwargs: object) -> object:
        if self.left > 0:
            self.left -= 1
            return self._real(*args, **kwargs)
        raise OSError(self._code, os.strerror(self._code))


EXPECTED: dict[int, type[StoreError]] = {
    errno.EIO: StoreUnavailableError,
    errno.ENOSPC: StoreFullError,
    errno.EDQUOT: StoreFullError,
    errno.EROFS: PermissionDeniedError,
}


@pytest.mark.parametrize("code", EXPECTED, ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        *itertools.product(["put", "put_exclusive", "writer"], ["write", "fsync", "close"]),
        *[("put", "rename"), ("put_exclusive", "link"), ("writer", "rename")],
    ],
)
def test_f12_an_error_at_any_step_of_a_write_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: str, code: int
) -> None:
    store = store_in(tmp_path)
    store.put("a", b"before")
    real_close = os.close

    def close_then_fail(descriptor: int) -> None:
        # As POSIX has it: the descriptor is gone, and the error is that of an earlier write.
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        real_close(descriptor)
        if ".datalayer-tmp-" in path:
            raise OSError(code, os.strerror(code))

    broken = close_then_fail if call == "close" else _Breaking(getattr(os, call), code)
    with monkeypatch.context() as patch:
        patch.setattr(f"datalayer.stores.volume_files.os.{call}", broken)
        with pytest.raises(EXPECTED[code]) as caught:
            WRITES[name](store, "a", b"after")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == code
    assert store.get("a")[0] == b"before"
    assert files(tmp_path) == ["a"]


@pytest.mark.parametrize("after", range(12))
def test_f12_an_io_error_at_any_fsync_of_a_publish_commits_nothing_or_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: TaskKey, after: int
) -> None:
    """A failed sync of the folder that holds the commit leaves it open whether the commit is there: then it is there whole."""
    layer = layer_on(tmp_path)
    with monkeypatch.context() as patch:
        breaking = _Breaking(os.fsync, errno.EIO, after)
        patch.setattr("datalayer.stores.volume_files.os.fsync", breaking)
        try:
            with layer.publish(key) as attempt:
                attempt.output().put("a", b"1")
                attempt.output().put("b", b"2")
        except DataLayerError as error:
            assert error.retryable  # noqa: PT017  # whether it is raised depends on how many syncs there are
        else:
            assert breaking.left > 0
    try:
        found = layer.resolve(key)["default"]
    except NotPublishedError:
        pass
    else:
        assert (found.read_bytes("a"), found.read_bytes("b")) == (b"1", b"2")
    with layer.publish(key) as attempt:
        attempt.output().put("a", b"again")
    assert layer.resolve(key)["default"].read_bytes("a") == b"again"


def test_f12_a_failed_sync_of_a_folder_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    fsync = os.fsync
    for code in (errno.EIO, errno.ENOSPC):
        monkeypatch.setattr("datalayer.stores.volume_files.os.fsync", _Breaking(fsync, code, after=1))
        with pytest.raises(StoreUnavailableError):  # never "full", which says that nothing is there
            store.put_exclusive(f"a{code}", b"1")
    # Some mounts cannot sync folders at all: that is how they are.
    monkeypatch.setattr("datalayer.stores.volume_files.os.fsync", _Breaking(fsync, errno.EINVAL, after=1))
    assert store.put("b", b"1").size == 1
