"""Folders that are published: what is in them is committed as it is, or it is said why not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from datalayer import DataLayer, InvalidKeyError, NotPublishedError, TaskKey, VerificationError
from datalayer.commit import output as output_module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "results"
    made.mkdir()
    (made / "a").write_bytes(b"1")
    return made


def publish(layer: DataLayer, key: TaskKey, folder: Path) -> None:
    with layer.publish(key) as attempt:
        attempt.output().put_folder(folder)


def test_empty_files_deep_folders_and_names_in_both_normal_forms(layer: DataLayer, key: TaskKey, folder: Path) -> None:
    for name in ("empty", "\u00e9", "e\u0301", "d/e/e/p"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() if name != "empty" else b"")
    publish(layer, key, folder)
    found = dict(layer.resolve(key)["default"].read_many())
    assert found == {"a": b"1", "empty": b"", "\u00e9": b"\xc3\xa9", "e\u0301": b"e\xcc\x81", "d/e/e/p": b"d/e/e/p"}


def no_utf8(folder: Path) -> Path:
    (folder / os.fsdecode(b"\xff")).write_bytes(b"1")
    return folder


def too_deep(folder: Path) -> Path:
    here = os.open(folder, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    return folder


@pytest.mark.parametrize(
    ("broken", "kind", "said"),
    [
        (lambda folder: folder / "missing", VerificationError, "cannot be read: No such file or directory"),
        (lambda folder: folder / "a", VerificationError, "cannot be read: Not a directory"),
        (no_utf8, InvalidKeyError, "not valid Unicode"),
        (too_deep, VerificationError, "cannot be read: File name too long"),
    ],
)
def test_a_folder_that_cannot_be_published(
    layer: DataLayer, key: TaskKey, folder: Path, broken: Callable[[Path], Path], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        publish(layer, key, broken(folder))
    with pytest.raises(NotPublishedError):
        layer.resolve(key)


def removed(path: Path) -> None:
    path.unlink()


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [removed, linked, piped])
def test_a07_a_folder_that_changes_underneath_is_not_published(
    layer: DataLayer, key: TaskKey, folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    looked = output_module.regular_files

    def and_then_it_changes(path: Path) -> list[str]:
        names = list(looked(path))
        change(path / "a")
        return names

    monkeypatch.setattr(output_module, "regular_files", and_then_it_changes)
    with pytest.raises(VerificationError, match="cannot be read|changed while it was being read"):
        publish(layer, key, folder)


def test_a_file_that_grows_while_it_is_read_is_not_published(
    layer: DataLayer, key: TaskKey, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat
    for size in (1, 5 << 20):
        (folder / "a").write_bytes(b"x" * size)

        def earlier(descriptor: int, size: int = size) -> object:
            found = status(descriptor)
            grown = found.st_size == size + 1
            return SimpleNamespace(st_mode=found.st_mode, st_size=size) if grown else found

        with (folder / "a").open("ab") as file:
            file.write(b"y")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fstat", earlier)
            with pytest.raises(VerificationError, match="changed while it was being read"):
                publish(layer, key, folder)
