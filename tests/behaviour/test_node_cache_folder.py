"""A cache folder that cannot be used: reads go to the cold store, the receipt says why, and one warning too."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datalayer.errors import ConfigError
from tests.behaviour.copies import MIB, Copies, on_disk, some_bytes
from tests.behaviour.small_disk import small_disk

SIZE = 10 * MIB + 777
DATA = some_bytes(SIZE)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 6 MiB."""
    with small_disk(tmp_path / "small", 6) as folder:
        yield folder


def commit(copies: Copies) -> Copies:
    copies.commit("large", DATA)
    copies.commit("middle", DATA[: 7 * MIB])
    for number in range(8):
        copies.commit(f"f{number}", DATA[number * 1000 :][:MIB])
    return copies


def entries(copies: Copies) -> list[str]:
    folders = (copies.folder / "staging", copies.folder / "trash", *(copies.folder / "objects").glob("*"))
    return [str(path) for folder in folders if folder.exists() for path in folder.iterdir()]


@pytest.mark.parametrize("path", ["large", "middle"])
def test_f12_a_full_disk_is_no_failure_of_a_read(disk: Path, caplog: pytest.LogCaptureFixture, path: str) -> None:
    copies = commit(Copies(disk / "cache"))
    with caplog.at_level(logging.WARNING, "datalayer"):
        for _ in range(2):
            assert b"".join(copies.view.stream(path)) == DATA[: copies.files[path].length]
    assert copies.hot.misses == {"cache folder full": 2}
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith(
        f"cache folder full: {copies.folder} (No space left on device). Reads go to the cold tier"
    )
    # No half of it is left, so what fits is held.
    assert entries(copies) == []
    assert copies.view.get("f0")[0] == DATA[:MIB]
    assert copies.view.local_path("f0") is not None
    assert copies.hot.misses == {"cache folder full": 2, "not cached": 1}


def test_f12_a_full_disk_makes_the_cache_give_room_back(disk: Path) -> None:
    """Its disk is smaller than its budget: what is not used goes all the same."""
    copies = commit(Copies(disk / "cache"))
    for number in [*range(8)] * 3:
        assert copies.view.get(f"f{number}")[0] == DATA[number * 1000 :][:MIB]
    there = [number for number in range(8) if copies.resident(f"f{number}")]
    assert 3 <= len(there) <= 5
    assert {6, 7} & set(there)
    assert copies.hot.misses["cache folder full"] < copies.hot.misses["not cached"]


def test_f12_a_write_to_a_full_disk_is_whole_on_the_cold_store(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    copies = commit(Copies(disk / "cache"))
    with caplog.at_level(logging.WARNING, "datalayer"):
        for _ in range(2):
            with copies.cache.through.writer("new") as writer:
                for start in range(0, SIZE, MIB):
                    writer.write(DATA[start : start + MIB])
        copies.cache.through.put("middle", DATA[: 7 * MIB])
    assert copies.cold.get("new")[0] == DATA
    assert len(caplog.records) == 1
    assert entries(copies) == []
    assert on_disk(copies.folder) < MIB


def test_a_limit_on_the_size_of_files_is_one_too(tmp_path: Path) -> None:
    copies = commit(Copies(tmp_path / "cache"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    try:
        assert copies.view.get("middle")[0] == DATA[: 7 * MIB]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(copies.hot.misses) == 1
    assert "not cached" not in copies.hot.misses


class _Breaking:
    """A system call that fails, from its n-th call on."""

    def __init__(self, real: Callable[..., object], code: int, after: int) -> None:
        self._real, self._code, self.left = real, code, after

    def __call__(self, *args: object, **kwargs: object) -> object:
        if self.left > 0:
            self.left -= 1
            return self._real(*args, **kwargs)
        raise OSError(self._code, os.strerror(self._code))


CALLS = ("open", "pread", "pwritev", "fstat", "rename", "mkdir", "link", "ftruncate", "fchmod", "utime", "dup")
CODES = (errno.ENOSPC, errno.EIO, errno.EACCES)


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize(("call", "after"), [*itertools.product(CALLS, (0, 1, 3)), ("pread", 30), ("pwritev", 8)])
def test_f12_an_error_at_any_call_fails_no_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str, after: int, code: int
) -> None:
    copies = commit(Copies(tmp_path / "cache"))
    assert copies.view.get_range("large", 5 * MIB, 10) == DATA[5 * MIB : 5 * MIB + 10]
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "datalayer"):
        broken = _Breaking(getattr(os, call), code, after)
        patch.setattr(os, call, broken)
        reader = copies.again()
        assert b"".join(reader.view.stream("large")) == DATA
        assert reader.view.get("f0")[0] == DATA[:MIB]
        with reader.view.open("f0") as file:
            assert file.read() == DATA[:MIB]
        reader.view.local_path("f0")
        reader.resident("f0")
        reader.cache.usage()
        reader.cache.evict(["f0"])
        with reader.cache.through.writer("new") as writer:
            writer.write(DATA)
        reader.cache.through.delete(["f7"])
    assert copies.cold.get("new")[0] == DATA
    assert len({record.getMessage() for record in caplog.records}) == len(caplog.records)
    # With the disk well again, so is the cache.
    after_that = copies.again()
    copies.files["new"] = copies.files["large"]
    for path in ("large", "new"):
        assert after_that.view.get(path)[0] == DATA
        assert after_that.view.local_path(path) is not None


def test_a_process_that_can_start_no_thread_reads_past_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = commit(Copies(tmp_path / "cache"))

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert copies.view.get("large")[0] == DATA
    assert copies.hot.misses == {"cache folder not usable": 1}


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    copies = commit(Copies(tmp_path / "cache"))
    assert copies.view.get("f0")[0] == DATA[:MIB]
    shutil.rmtree(copies.folder)
    assert copies.view.get("f0")[0] == DATA[:MIB]
    assert copies.view.local_path("f0") is not None
    assert copies.folder.stat().st_mode & 0o777 == 0o700
    pieces = copies.cache.pieces("large", copies.files["large"], 0, SIZE)
    begun = next(pieces)
    copies.folder.rename(tmp_path / "away")
    assert begun + b"".join(pieces) == DATA


def test_a_folder_that_cannot_be_made_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "datalayer"):
        copies = commit(Copies(tmp_path / "file" / "cache"))
        for _ in range(2):
            assert copies.view.get("large")[0] == DATA
        assert copies.view.local_path("large") is None
        copies.cache.evict(["large"])
    assert copies.hot.misses == {"cache folder not usable": 2}
    assert len(caplog.records) == 1


def test_a_folder_that_others_may_write_to_by_now_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copies = commit(Copies(tmp_path / "cache"))
    copies.folder.chmod(0o777)
    with caplog.at_level(logging.WARNING, "datalayer"):
        assert copies.view.get("large")[0] == DATA
    assert copies.hot.misses == {"cache folder not writable": 1}
    assert "others may write" in caplog.text
    with pytest.raises(ConfigError, match="others may write to the cache folder"):
        copies.again()


def test_what_is_written_does_not_suffer_from_such_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copies = commit(Copies(tmp_path / "cache"))
    copies.folder.chmod(0o777)
    with caplog.at_level(logging.WARNING, "datalayer"):
        copies.cache.through.put("at once", DATA)
        with copies.cache.through.writer("in pieces") as writer:
            writer.write(DATA)
    assert copies.cold.get("at once")[0] == copies.cold.get("in pieces")[0] == DATA
    assert entries(copies) == []
    assert "others may write" in caplog.text
