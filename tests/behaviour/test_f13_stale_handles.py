"""F13: stale handles of a network file system are opened anew, a few times; and no file that is read is ever replaced."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from datalayer import (
    CommitStateUnknownError,
    Config,
    DataLayer,
    StoreUnavailableError,
    TaskKey,
    Tier,
    TransientStoreError,
)
from datalayer.addresses.location import Location
from datalayer.errors import VerificationError
from datalayer.stores.volume import VolumeStore
from datalayer.testing.faults import READS, WRITES, Fault, FaultyStore, stale_handle


class _Stale:
    """A system call whose first calls meet a stale handle."""

    def __init__(self, real: Callable[..., object], times: int) -> None:
        self._real, self.times, self.calls = real, times, 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        if self.calls <= self.times:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return self._real(*args, **kwargs)


def write(store: VolumeStore) -> None:
    with store.writer("b") as writer:
        writer.write(b"1")


CALLS: dict[str, Callable[[VolumeStore], object]] = {
    "head": lambda store: store.head("a"),
    "get": lambda store: store.get("a"),
    "get_range": lambda store: store.get_range("a", 0, 1),
    "open": lambda store: store.open("a").read(),
    "stream": lambda store: list(store.stream("a")),
    "put": lambda store: store.put("b", b"1"),
    "put_exclusive": lambda store: store.put_exclusive("b", b"1"),
    "writer": write,
    "copy": lambda store: store.copy("a", "b"),
    "delete": lambda store: store.delete(["a"]),
    "list": lambda store: list(store.list("")),
    "children": lambda store: store.children(""),
}


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    made = VolumeStore(Location.parse(str(tmp_path)))
    made.put("a", b"hello")
    return made


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_f13_a_stale_handle_is_opened_anew(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch, call: Callable[[VolumeStore], object], times: int
) -> None:
    with monkeypatch.context() as patch:
        stale = _Stale(os.open, times)
        patch.setattr("datalayer.stores.volume.os.open", stale)
        call(store)
    assert stale.calls > times


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_f13_a_handle_that_stays_stale_is_unavailable(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch, call: Callable[[VolumeStore], object]
) -> None:
    with monkeypatch.context() as patch:
        stale = _Stale(os.open, 1_000_000)
        patch.setattr("datalayer.stores.volume.os.open", stale)
        with pytest.raises(StoreUnavailableError, match="stale") as caught:
            call(store)
    assert caught.value.retryable
    assert stale.calls == 4
    assert store.get("a")[0] == b"hello"


def test_f13_a_file_that_goes_stale_while_it_is_read_goes_on(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(1 << 20)
    store.put("a", data)
    with store.open("a") as file:
        read = file.read(100)
        stale = _Stale(os.preadv, 2)
        monkeypatch.setattr("datalayer.stores.volume_reading.os.preadv", stale)
        assert read + file.read() == data
    assert stale.calls > 2


def test_f13_a_stale_file_that_was_replaced_is_not_read_on(store: VolumeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", bytes(1 << 20))
    with store.open("a") as file:
        file.read(100)
        store.put("a", b"1" * (1 << 20))
        monkeypatch.setattr("datalayer.stores.volume_reading.os.preadv", _Stale(os.preadv, 1))
        with pytest.raises(VerificationError, match="replaced"):
            file.read()


@pytest.fixture
def faulty(store: VolumeStore) -> FaultyStore:
    return FaultyStore(store)


@pytest.fixture
def layer(faulty: FaultyStore, tmp_path: Path) -> DataLayer:
    config = Config.from_mapping({"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path)}}})
    return DataLayer(config, stores={Tier.SHARED: faulty})


def publish(layer: DataLayer, key: TaskKey, data: bytes) -> None:
    with layer.publish(key) as attempt:
        attempt.output().put("small", data)
        with attempt.output().open("large", "wb") as file:
            file.write(data * 1000)


@pytest.mark.parametrize("verbs", [READS, WRITES], ids=["reads", "writes"])
def test_f13_stale_handles_never_make_a_generation_partial(
    layer: DataLayer, faulty: FaultyStore, key: TaskKey, verbs: frozenset[str]
) -> None:
    publish(layer, key, b"old")
    for at in range(1, 40):
        fault = Fault(verbs, at=at, before=stale_handle("here"))
        faulty.faults = [fault]
        with contextlib.suppress(TransientStoreError, CommitStateUnknownError):
            publish(layer, key, b"new")
        faulty.faults = []
        found = layer.resolve(key)["default"]
        data = found.read_bytes("small")
        assert data in {b"old", b"new"}
        assert found.read_bytes("large") == data * 1000
        if fault.seen < at:
            break
    assert data == b"new"


def test_f13_no_write_of_a_publish_replaces_a_file(layer: DataLayer, faulty: FaultyStore, key: TaskKey) -> None:
    """A client that has a file open may go on reading it: another client's rename over it would make its handle stale."""
    publish(layer, key, b"first")
    publish(layer, key, b"second")
    publish(layer, key, b"third")
    # An exclusive put replaces nothing; these would.
    written = [path for verb, path in faulty.calls if verb in {"put", "writer", "copy"}]
    assert len(written) == len(set(written)) == 6
