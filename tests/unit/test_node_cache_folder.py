"""Where a cache folder is, whose it may be, and what lies where in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from datalayer.errors import ConfigError
from datalayer.stores.node_cache import default_folder
from datalayer.stores.node_cache.folder import CacheFolder


def test_the_default_folder_is_in_the_users_place_for_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/datalayer-node")
    monkeypatch.setenv("HOME", "/home/someone")
    for unset in ("", "relative/caches"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert default_folder() == Path("/home/someone/.cache/datalayer-node")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path("/home/someone/.cache/datalayer-node")


def test_the_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    CacheFolder(folder, "s").check()
    assert folder.stat().st_mode & 0o777 == 0o700
    # One that others may read is the user's own decision.
    folder.chmod(0o755)
    CacheFolder(folder, "s").check()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"hot\.url: others may write to the cache folder {tmp_path}.*chmod go-w"):
        CacheFolder(tmp_path, "s").check()


@pytest.mark.skipif(os.geteuid() != 0, reason="missing machine part: root, who can give a folder away")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(ConfigError, match=r"belongs to user 12345, not to 0.* Name a folder of your own"):
        CacheFolder(tmp_path, "s").check()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="is no folder"):
        CacheFolder(tmp_path / "file", "s").check()


def test_entries_are_found_by_store_and_path(tmp_path: Path) -> None:
    one, other = CacheFolder(tmp_path, "one"), CacheFolder(tmp_path, "other")
    assert one.entry("a/b") == CacheFolder(tmp_path, "one").entry("a/b")
    places = {folder.entry(path) for folder in (one, other) for path in ("a/b", "a", "a/b/c", "")}
    assert len(places) == 8
    assert one.linked("a/b") != other.linked("a/b")
    assert one.linked("a/b").relative_to(one.linked("a")) == Path("b")
    assert CacheFolder(tmp_path, "one\0a").entry("b") != CacheFolder(tmp_path, "one").entry("a\0b")


def test_nothing_of_the_cache_is_loaded_before_it_is_used() -> None:
    code = "import sys, datalayer; print([name for name in sys.modules if 'node_cache' in name or 'crc32c' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
