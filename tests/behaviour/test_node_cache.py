"""``NodeCache``: each byte is fetched once, whoever asks, and whole files have paths."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pytest

from datalayer.errors import NotFoundError, StoreUnavailableError, VerificationError
from datalayer.stores.base import Expected, Store, Tier
from datalayer.stores.memory import MemoryStore
from datalayer.stores.node_cache.entry import Entry
from datalayer.testing import Fault, FaultyStore
from tests.behaviour.copies import BLOCK, MIB, PAGE, Copies, expected_of, some_bytes

SIZE = 20 * MIB + 777
DATA = some_bytes(SIZE)


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    """A cache with nothing in it, of a file of six blocks and a small one."""
    copies = Copies(tmp_path / "cache")
    copies.commit("t/out/large", DATA)
    copies.commit("t/out/sub/small", DATA[:1000])
    return copies


def test_a_read_fetches_its_pages_once(copies: Copies) -> None:
    assert copies.view.tier is Tier.HOT
    assert copies.view.get_range("t/out/large", 10, 5) == DATA[10:15]
    assert copies.fetched == PAGE
    assert copies.resident("t/out/large") == PAGE
    assert copies.view.get_range("t/out/large", PAGE - 1, 2) == DATA[PAGE - 1 : PAGE + 1]
    assert copies.fetched == 2 * PAGE
    for _ in range(3):
        assert copies.view.get_range("t/out/large", 0, 2 * PAGE) == DATA[: 2 * PAGE]
    assert copies.fetched == 2 * PAGE
    assert b"".join(copies.view.stream("t/out/large")) == DATA
    assert copies.fetched == SIZE
    other = copies.again()
    assert other.view.get("t/out/large")[0] == DATA
    assert b"".join(other.view.stream("t/out/large")) == DATA
    with other.view.open("t/out/large") as file:
        assert file.read() == DATA
    assert other.fetched == 0
    assert other.hot.bytes_hit == other.hot.bytes_read == 3 * SIZE
    assert other.hot.misses == {}


def test_the_receipt_tells_hits_from_misses(copies: Copies) -> None:
    copies.view.get_range("t/out/large", 0, 10)
    assert copies.hot.misses == {"not cached": 1}
    assert copies.hot.bytes_hit == 0
    copies.view.get_range("t/out/large", 0, 2 * PAGE)
    assert copies.hot.misses == {"not cached": 2}
    assert copies.hot.bytes_hit == PAGE
    copies.view.get_range("t/out/large", 5, 10)
    assert copies.hot.misses == {"not cached": 2}
    assert copies.hot.bytes_hit == PAGE + 10
    assert b"".join(copies.view.stream("t/out/large")) == DATA
    assert copies.hot.misses == {"not cached": 3}
    assert copies.hot.bytes_hit == 3 * PAGE + 10


def test_what_a_slow_reader_itself_has_fetched_is_no_hit(copies: Copies) -> None:
    slow = iter(copies.view.stream("t/out/large"))
    begun = next(slow)
    # Nobody waits for it: its pages are fetched as fast as they come.
    other = copies.again()
    assert other.view.get("t/out/large")[0] == DATA
    assert other.hot.misses == {}
    assert begun + b"".join(slow) == DATA
    assert copies.fetched == SIZE
    assert copies.hot.bytes_hit == 0


def test_what_is_left_in_the_middle_is_kept_so_far(copies: Copies) -> None:
    pieces = iter(copies.view.stream("t/out/large"))
    next(pieces)
    del pieces
    other = copies.again()
    assert other.view.get("t/out/large")[0] == DATA
    assert other.view.local_path("t/out/large") is not None
    assert copies.fetched + other.fetched <= SIZE + BLOCK


def test_many_threads_fetch_each_byte_once(copies: Copies) -> None:
    starts = list(range(0, SIZE - MIB, 3 * MIB)) * 5

    def read(start: int) -> bool:
        return copies.view.get_range("t/out/large", start, MIB) == DATA[start : start + MIB]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read, starts))
    assert copies.fetched == copies.resident("t/out/large") == len(set(starts)) * MIB


def test_what_came_between_a_look_and_the_lock_is_not_fetched_again(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, take = copies.again(), Entry.take

    def late(entry: Entry, first: int, count: int) -> int:
        monkeypatch.setattr(Entry, "take", take)
        assert other.view.get_range("t/out/large", BLOCK, BLOCK) == DATA[BLOCK : 2 * BLOCK]
        return entry.take(first, count)

    monkeypatch.setattr(Entry, "take", late)
    assert b"".join(copies.view.stream("t/out/large")) == DATA
    assert copies.fetched + other.fetched == SIZE
    assert copies.hot.bytes_hit == BLOCK


def test_an_entry_that_somebody_else_made_and_dropped_just_now_is_made_again(
    copies: Copies, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rename = Path.rename

    def taken(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))

    monkeypatch.setattr(Path, "rename", taken)
    assert copies.view.get("t/out/large")[0] == DATA
    assert copies.hot.misses == {"not cached": 1}
    assert copies.view.local_path("t/out/large") is not None
    assert SIZE < copies.cache.usage().held < SIZE + MIB
    assert caplog.records == []


def test_reads_open_no_more_than_they_close(copies: Copies) -> None:
    copies.view.get_range("t/out/large", 0, 10)
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        copies.view.get_range("t/out/large", 5 * MIB, MIB)
        copies.view.get("t/out/large")
        with copies.view.open("t/out/large") as file:
            file.read(10)
        # Not read to its end, and never closed.
        next(copies.cache.pieces("t/out/large", copies.files["t/out/large"], 0, SIZE))
        assert copies.view.local_path("t/out/large") is not None
        assert sorted(Path("/proc/self/fd").iterdir()) == before
        copies.cache.evict(["t/out/large"])


def test_who_reads_what_is_evicted_reads_on(copies: Copies) -> None:
    path = "t/out/large"
    copies.view.get(path)
    fetched = copies.fetched
    local = copies.view.local_path(path)
    assert local is not None
    with copies.view.open(path) as file, local.open("rb") as plain, pyarrow.memory_map(str(local)) as mapped:
        pieces = copies.cache.pieces(path, copies.files[path], 0, SIZE)
        begun = next(pieces)
        copies.cache.evict([path, "t/none"])
        assert copies.resident(path) == 0
        assert not local.exists()
        assert begun + b"".join(pieces) == DATA
        assert file.read() == plain.read() == mapped.read() == DATA
    assert copies.fetched == fetched


def test_another_file_under_the_same_path_is_never_the_old_one(copies: Copies) -> None:
    path = "t/out/large"
    for data in (DATA, DATA[::-1], DATA[:-1], DATA + b"1", b"", DATA):
        copies.commit(path, data)
        new = copies.again()
        assert new.view.local_path(path) is None
        assert new.view.get_range(path, 0, min(10, len(data))) == data[:10]
        assert new.view.get(path)[0] == data
        local = new.view.local_path(path)
        assert local is not None
        assert local.read_bytes() == data


def test_a_copy_made_without_a_checksum_is_not_trusted_with_one(copies: Copies) -> None:
    path = "t/out/large"
    known = copies.files[path]
    unknown = known._replace(checksum=None, blocks=None)
    copies.files[path] = unknown
    copies.view.get(path)
    assert copies.view.local_path(path) is not None
    copies.files[path] = known
    assert copies.view.local_path(path) is None
    copies.view.get(path)
    assert copies.fetched == 2 * SIZE
    copies.files[path] = unknown
    copies.view.get(path)
    assert copies.fetched == 2 * SIZE
    # Its length is all there is to compare.
    copies.cold.put(path, DATA[: 5 * MIB])
    copies.files[path] = Expected(5 * MIB, None, None)
    assert copies.view.local_path(path) is None
    assert copies.view.get(path)[0] == DATA[: 5 * MIB]


def test_only_whole_files_have_a_path_and_folders_of_them(copies: Copies) -> None:
    view, files = copies.view, ("t/out/large", "t/out/sub/small", "t/out/empty")
    copies.commit("t/out/empty", b"")
    assert view.local_folder("t/out", lambda: files) is None
    view.get_range("t/out/large", 0, SIZE - PAGE)
    assert view.local_path("t/out/large") is None
    view.get_range("t/out/large", SIZE - PAGE, PAGE)
    local = view.local_path("t/out/large")
    assert local is not None
    assert local.stat().st_mode & 0o777 == 0o444
    assert local.read_bytes() == DATA
    view.get("t/out/sub/small")
    assert view.local_folder("t/out", lambda: files) is None
    assert view.get("t/out/empty")[0] == b""
    folder = view.local_folder("t/out", lambda: files)
    assert folder is not None
    assert folder == local.parent
    found = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert found == ["empty", "large", "sub/small"]
    copies.cache.evict(["t/out/sub/small"])
    assert view.local_folder("t/out", lambda: files) is None
    assert not (folder / "sub").exists()
    assert view.local_path("t/none") is None


def test_what_a_job_is_to_have_is_brought_whole(copies: Copies) -> None:
    path = "t/out/large"
    copies.view.get_range(path, 7 * MIB, 1)
    local = copies.view.bring(path)
    assert local is not None
    assert local.read_bytes() == DATA
    assert copies.fetched == SIZE
    # A job's own link to it is no change.
    os.link(local, copies.folder / "job")
    assert copies.view.bring(path) == local
    assert copies.hot.misses == {"not cached": 2}
    copies.commit("t/empty", b"")
    empty = copies.view.bring("t/empty")
    assert empty is not None
    assert empty.read_bytes() == b""


@pytest.mark.parametrize("name", ["a b", "ü", "100%", "..a", "-", "x" * 200, "a\nb", "$(id)"])
def test_names_are_literal_in_the_tree(copies: Copies, name: str) -> None:
    path = f"odd/{name}/{name}"
    copies.commit(path, name.encode())
    copies.view.get(path)
    local = copies.view.local_path(path)
    assert local is not None
    assert str(local).endswith(path)
    assert local.read_bytes() == name.encode()


def test_a_file_below_another_is_read_without_a_path(copies: Copies) -> None:
    copies.commit("t/a", b"file")
    copies.commit("t/a/b", b"below it")
    assert copies.view.get("t/a")[0] == b"file"
    assert copies.view.get("t/a/b")[0] == b"below it"
    assert copies.view.local_path("t/a") is not None
    assert copies.view.local_path("t/a/b") is None
    fetched = copies.fetched
    assert copies.view.get("t/a/b")[0] == b"below it"
    assert copies.fetched == fetched


def test_arrow_maps_whole_copies(copies: Copies, tmp_path: Path) -> None:
    table = pyarrow.table({"a": range(100_000), "b": [str(number) for number in range(100_000)]})
    pyarrow.feather.write_feather(table, str(tmp_path / "t"), compression="uncompressed")
    copies.commit("t/table.arrow", (tmp_path / "t").read_bytes())

    def read() -> Any:
        filesystem = copies.view.arrow_filesystem
        with filesystem.open_input_file(copies.view.filesystem_path("t/table.arrow")) as file:
            return pyarrow.ipc.open_file(file).read_all()

    assert read().equals(table)
    copies.view.get("t/table.arrow")
    calls = copies.hot.calls.get("map", 0)
    allocated = pyarrow.total_allocated_bytes()
    mapped = read()
    assert pyarrow.total_allocated_bytes() - allocated < table.nbytes / 10
    assert copies.hot.calls["map"] == calls + 1
    copies.cache.evict(["t/table.arrow"])
    assert mapped.equals(table)


def test_stores_of_one_folder_are_kept_apart(copies: Copies) -> None:
    other = Copies(copies.folder)
    other.commit("t/out/large", DATA[::-1])
    other.files["t/out/large"] = copies.files["t/out/large"]._replace(checksum=None, blocks=None)
    assert copies.view.get("t/out/large")[0] == DATA
    assert other.view.get("t/out/large")[0] == DATA[::-1]
    assert copies.view.get("t/out/large")[0] == DATA
    assert copies.fetched == other.fetched == SIZE
    assert copies.view.local_path("t/out/large") != other.view.local_path("t/out/large")


def test_what_the_cold_store_says_is_heard(copies: Copies) -> None:
    copies.files["t/none"] = expected_of(DATA)
    for _ in range(2):
        with pytest.raises(NotFoundError):
            copies.view.get("t/none")
        with pytest.raises(NotFoundError):
            copies.view.get_range("t/none", 0, 1)
    copies.cold.put("t/none", DATA[:MIB])
    with pytest.raises(VerificationError, match="ends"):
        copies.view.get("t/none")
    # Whatever was locked is free again.
    copies.cold.put("t/none", DATA)
    other = copies.again()
    assert other.view.get("t/none")[0] == DATA
    assert other.hot.misses == {"not cached": 1}


class Breaking(FaultyStore):
    """A cold store that gives a range piece by piece, and fails in between."""

    def stream_range(self, path: str, start: int, end: int, *, piece: int = 8 << 20) -> Any:
        return Store.stream_range(self, path, start, end, piece=piece)


def test_a_failure_in_the_middle_is_heard_and_what_came_is_kept(tmp_path: Path) -> None:
    error = StoreUnavailableError("scripted")
    cold = Breaking(MemoryStore(), Fault(verbs=frozenset({"get_range"}), at=40, before=error))
    copies = Copies(tmp_path / "cache", cold=cold)
    copies.commit("f", DATA)
    pieces = copies.cache.pieces("f", copies.files["f"], 0, SIZE)
    got = b""
    with pytest.raises(StoreUnavailableError, match="scripted"):
        for piece in pieces:
            got += piece
    assert DATA.startswith(got)
    assert copies.resident("f") == 2 * BLOCK
    assert copies.again().view.get("f")[0] == DATA
