"""What is special about volumes: links, other programs' files, unmounted roots, what a dead writer left."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from datalayer.addresses.location import Location
from datalayer.errors import (
    ConfigError,
    InvalidKeyError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    StoreError,
    StoreUnavailableError,
)
from datalayer.stores import beneath
from datalayer.stores.volume import VolumeStore


@pytest.fixture(params=["openat2", "step by step"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "step by step":
        monkeypatch.setattr(beneath, "_openat2", lambda: None)
    elif beneath._openat2() is None:
        pytest.skip("missing machine part: a kernel with openat2")
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def store(root: Path) -> VolumeStore:
    return VolumeStore(Location.parse(str(root)))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Another team's folder, outside the root."""
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "file").write_bytes(b"secret")
    return folder


def write(store: VolumeStore, path: str) -> None:
    with store.writer(path) as writer:
        writer.write(b"x")


READS: dict[str, Callable[[VolumeStore, str], object]] = {
    "head": lambda store, path: store.head(path),
    "get": lambda store, path: store.get(path),
    "get_range": lambda store, path: store.get_range(path, 0, 1),
    "open": lambda store, path: store.open(path),
    "stream": lambda store, path: list(store.stream(path)),
    "copy": lambda store, path: store.copy(path, "copy"),
}
WRITES: dict[str, Callable[[VolumeStore, str], object]] = {
    "put": lambda store, path: store.put(path, b"x"),
    "put_exclusive": lambda store, path: store.put_exclusive(path, b"x"),
    "writer": write,
    "copy": lambda store, path: store.copy("source", path),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("path", ["link", "folder/file", "a/folder/file", "a/../folder/file"])
def test_a07_a_link_is_never_read_through(
    root: Path, store: VolumeStore, secret: Path, path: str, read: Callable[[VolumeStore, str], object]
) -> None:
    (root / "a").mkdir()
    (root / "link").symlink_to(secret / "file")
    (root / "folder").symlink_to(secret)
    (root / "a" / "folder").symlink_to("../../secret")
    with pytest.raises(InvalidKeyError if ".." in path else PermissionDeniedError) as caught:
        read(store, path)
    assert ".." in path or "symbolic link" in str(caught.value)


@pytest.mark.parametrize("name", WRITES)
def test_a07_a_linked_folder_is_never_written_through(root: Path, store: VolumeStore, secret: Path, name: str) -> None:
    store.put("source", b"x")
    (root / "folder").symlink_to(secret)
    with pytest.raises(PermissionDeniedError, match="symbolic link"):
        WRITES[name](store, "folder/new")
    with pytest.raises(PermissionDeniedError, match="symbolic link"):
        WRITES[name](store, "folder/deep/new")
    assert [path.name for path in secret.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["put", "writer", "copy"])
def test_a07_a_linked_file_is_replaced_not_written_through(
    root: Path, store: VolumeStore, secret: Path, name: str
) -> None:
    store.put("source", b"x")
    (root / "link").symlink_to(secret / "file")
    WRITES[name](store, "link")
    assert (secret / "file").read_bytes() == b"secret"
    assert store.get("link")[0] == b"x"


def test_a07_a_cleaner_deletes_links_and_never_what_they_lead_to(root: Path, store: VolumeStore, secret: Path) -> None:
    (root / "folder").symlink_to(secret)
    (root / "link").symlink_to(secret / "file")
    with pytest.raises(PermissionDeniedError):
        store.delete(["folder/file"])
    with pytest.raises(PermissionDeniedError):
        list(store.list("folder"))
    with pytest.raises(PermissionDeniedError):
        store.reap_uploads("folder", timedelta(0))
    assert list(store.list("")) == []
    assert store.children("") == ([], [])
    store.delete(["link", "folder"])
    assert list(root.iterdir()) == []
    assert (secret / "file").read_bytes() == b"secret"


def test_what_is_no_regular_file_is_no_object(root: Path, store: VolumeStore) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(NotFoundError):
        store.get("fifo")
    assert list(store.list("")) == []


def test_a_root_that_is_a_link_is_the_administrators_choice(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mount").symlink_to(root)
    store = VolumeStore(Location.parse(str(tmp_path / "mount")))
    store.put("a/b", b"x")
    assert (root / "a" / "b").read_bytes() == b"x"


CALLS: dict[str, Callable[[VolumeStore, str], object]] = {
    **READS,
    **WRITES,
    "delete": lambda store, path: store.delete([path]),
    "list": lambda store, path: store.list(""),
    "children": lambda store, path: store.children(path),
    "reap_uploads": lambda store, path: store.reap_uploads("", timedelta(0)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_unmounted_volume_is_unavailable_and_not_made(
    root: Path, store: VolumeStore, call: Callable[[VolumeStore, str], object]
) -> None:
    root.rmdir()
    with pytest.raises(StoreUnavailableError, match="is the volume mounted"):
        call(store, "a")
    assert not root.exists()


def test_a_name_is_a_file_or_a_folder(store: VolumeStore) -> None:
    store.put("a", b"x")
    store.put("b/c", b"x")
    for path in ("a/b", "b"):
        for name in ("put", "writer"):
            with pytest.raises(StoreError, match="cannot have one name"):
                WRITES[name](store, path)
    assert sorted(info.path for info in store.list("")) == ["a", "b/c"]


def test_only_folders_of_this_machine_are_volumes() -> None:
    for text in ("s3://bucket/x", "file://host/x"):
        with pytest.raises(ConfigError):
            VolumeStore(Location.parse(text))


def test_deleting_the_last_object_leaves_the_root(root: Path, store: VolumeStore) -> None:
    store.put("a/b/c", b"x")
    (root / "a" / "by-hand").write_bytes(b"")
    store.delete(["a/b/c"])
    assert [path.name for path in (root / "a").iterdir()] == ["by-hand"]
    store.delete(["a/by-hand"])
    assert list(root.iterdir()) == []


def test_what_a_killed_writer_left_is_hidden_and_reaped_when_it_is_old(root: Path, store: VolumeStore) -> None:
    store.put("a/b/c", b"x")
    for name, age in ((".datalayer-tmp-old", 7200), (".datalayer-tmp-new", 60)):
        left = root / "a" / "b" / name
        left.write_bytes(b"half")
        os.utime(left, (time.time() - age,) * 2)
    assert [info.path for info in store.list("")] == ["a/b/c"]
    assert [info.path for info in store.children("a/b")[1]] == ["a/b/c"]
    assert store.reap_uploads("a", timedelta(hours=1)) == ["a/b/.datalayer-tmp-old"]
    assert sorted(path.name for path in (root / "a" / "b").iterdir()) == [".datalayer-tmp-new", "c"]


def test_a_writer_whose_temporary_file_is_gone_says_so(root: Path, store: VolumeStore) -> None:
    writer = store.writer("a")
    writer.write(b"x")
    assert store.reap_uploads("", timedelta(seconds=-10))
    with pytest.raises(StoreUnavailableError, match="a sweep"):
        writer.close()
    assert list(root.iterdir()) == []


def test_a_link_whose_answer_was_repeated_is_recognised(store: VolumeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system repeats a request whose answer was lost, and gets "exists" for its own link."""
    real = os.link

    def twice(*args: object, **kwargs: object) -> None:
        real(*args, **kwargs)  # type: ignore[arg-type]  # handed on
        real(*args, **kwargs)  # type: ignore[arg-type]  # handed on

    with monkeypatch.context() as patch:
        patch.setattr("datalayer.stores.volume_files.os.link", twice)
        assert store.put_exclusive("a", b"x").size == 1
    assert store.get("a")[0] == b"x"


@pytest.mark.parametrize("path", ["a/file", "a/b/file"])
def test_a_folder_that_is_deleted_as_it_is_made_is_made_again(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A concurrent delete removes folders that are empty, and a new one is."""
    made: list[str] = []
    real = os.mkdir

    def mkdir(name: str, *, dir_fd: int) -> None:
        made.append(name)
        real(name, dir_fd=dir_fd)
        if len(made) < 5:
            os.rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr("datalayer.stores.volume_files.os.mkdir", mkdir)
    assert store.put(path, b"x").size == 1
    assert made[:5] == ["a"] * 5


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_links_is_told(store: VolumeStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def link(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("datalayer.stores.volume_files.os.link", link)
    with pytest.raises(NotSupportedError, match="no hard links"):
        store.put_exclusive("a", b"x")
    assert list(store.list("")) == []


def test_a_file_shortened_while_it_is_read_is_an_error(root: Path, store: VolumeStore) -> None:
    from datalayer.errors import VerificationError

    store.put("a", bytes(1 << 20))
    with store.open("a") as file:
        file.read(10)
        os.truncate(root / "a", 200_000)
        with pytest.raises(VerificationError, match="ends at byte"):
            file.read()


def test_names_that_are_no_text_can_be_listed_and_deleted(root: Path, store: VolumeStore) -> None:
    """Any program may make one, and a cleaner must not trip over it."""
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).write_bytes(b"x")
    (found,) = store.list("")
    assert store.get(found.path)[0] == b"x"
    store.delete([found.path])
    assert list(root.iterdir()) == []
