"""F19: copies that were damaged are found, dropped, fetched again and counted; no reader gets a wrong byte."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalayer.errors import VerificationError
from tests.behaviour.copies import MIB, Copies, some_bytes

SIZE = 20 * MIB + 777
DATA = some_bytes(SIZE)
PATH = "t/f"


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    copies = Copies(tmp_path / "cache")
    copies.commit(PATH, DATA)
    return copies


def flipped(at: int) -> Callable[[int], object]:
    return lambda file: os.pwrite(file, bytes([DATA[at] ^ 1]), at)


def cut(at: int) -> Callable[[int], object]:
    return lambda file: os.ftruncate(file, at)


DAMAGE = {"flip": flipped, "cut": cut}
ranges = st.tuples(st.integers(0, SIZE - 1), st.integers(1, 9 * MIB))
kinds = st.sampled_from(["range", "file", "leave", "stream", "evict", "flip", "cut", "other process"])


@given(st.integers(0, SIZE), st.lists(st.tuples(kinds, ranges), min_size=1, max_size=12), st.booleans())
def test_the_bytes_are_right_whatever_happens_in_between(
    size: int, steps: list[tuple[str, tuple[int, int]]], blocks: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as files:
        copies = Copies(Path(folder, "cache"))
        data = DATA[:size]
        copies.commit(PATH, data, blocks=blocks)
        file = files.enter_context(copies.view.open(PATH))
        for kind, (start, length) in steps:
            begin, end = min(start, size), min(start + length, size)
            if kind == "range":
                assert copies.view.get_range(PATH, begin, end - begin) == data[begin:end]
            elif kind == "file":
                file.seek(start)
                assert file.read(length) == data[start : start + length]
            elif kind == "leave":
                first = next(iter(copies.cache.pieces(PATH, copies.files[PATH], begin, end)), b"")
                assert data[begin:end].startswith(first)
            elif kind == "stream":
                assert b"".join(copies.view.stream(PATH)) == data
                # What was damaged behind the first byte is dropped with what was read already.
                path = copies.view.bring(PATH)
                assert path is not None
                assert path.read_bytes() == data
                file = files.enter_context(copies.view.open(PATH))
            elif kind == "evict":
                copies.cache.evict([PATH])
            elif kind == "other process":
                copies = copies.again()
            elif start < size and copies.data_file(PATH).exists():
                copies.change(PATH, DAMAGE[kind](start))


@pytest.mark.parametrize("whole", [False, True], ids=["partly there", "whole"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_f19_a_damaged_copy_is_dropped_and_made_anew(
    copies: Copies, caplog: pytest.LogCaptureFixture, kind: str, whole: bool
) -> None:
    copies.view.get_range(PATH, 0, SIZE if whole else 10 * MIB)
    assert (copies.view.local_path(PATH) is not None) == whole
    copies.change(PATH, DAMAGE[kind](5 * MIB))
    reader = copies.again()
    with caplog.at_level(logging.WARNING, "datalayer"):
        assert reader.view.get_range(PATH, 4 * MIB, 3 * MIB) == DATA[4 * MIB : 7 * MIB]
        assert reader.view.get_range(PATH, 0, 10 * MIB) == DATA[: 10 * MIB]
    assert reader.hot.misses == {"corrupt": 1, "not cached": 1}
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith(f"the copy of {copies.cold.location(PATH)} in {copies.folder} is damaged: ")
    assert reader.view.local_path(PATH) is None
    assert reader.view.get(PATH)[0] == DATA
    assert reader.view.local_path(PATH) is not None
    if kind == "flip":
        # What was dropped is not counted as held. (What somebody else cut off is, until room is made.)
        assert SIZE < reader.cache.usage().held < SIZE + MIB


def test_f19_a_small_part_of_a_damaged_page_is_not_handed_out_either(copies: Copies) -> None:
    copies.view.get(PATH)
    copies.change(PATH, flipped(5 * MIB))
    reader = copies.again()
    assert reader.view.get_range(PATH, 5 * MIB, 1) == DATA[5 * MIB : 5 * MIB + 1]
    assert reader.hot.misses == {"corrupt": 1}


def test_f19_a_page_that_rotted_on_the_disk_is_found_by_its_checksum(copies: Copies) -> None:
    copies.view.get(PATH)
    status = copies.data_file(PATH).stat()
    copies.change(PATH, flipped(5 * MIB))
    os.utime(copies.data_file(PATH), ns=(status.st_atime_ns, status.st_mtime_ns))
    reader = copies.again()
    assert b"".join(reader.view.stream(PATH)) == DATA
    assert reader.hot.misses == {"corrupt": 1}


@pytest.mark.parametrize("kind", ["flip", "cut", "grown"])
def test_f19_a_whole_file_that_was_changed_has_no_path(
    copies: Copies, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    copies.view.get(PATH)
    local = copies.view.local_path(PATH)
    assert local is not None
    acts: dict[str, Callable[[int], object]] = {
        "flip": flipped(100),
        "cut": cut(100),
        "grown": lambda file: os.pwrite(file, b"x", SIZE),
    }
    copies.change(PATH, acts[kind])
    reader = copies.again()
    with caplog.at_level(logging.WARNING, "datalayer"):
        assert reader.view.local_path(PATH) is None
        assert reader.view.local_path(PATH) is None
    assert not local.exists()
    assert len(caplog.records) == 1
    assert reader.hot.misses == {"corrupt": 1}
    assert reader.view.get(PATH)[0] == DATA
    assert reader.view.local_path(PATH) == local
    assert local.read_bytes() == DATA


def test_a_folder_whose_file_was_changed_has_none(copies: Copies) -> None:
    copies.view.get(PATH)
    assert copies.cache.local_path("t") == copies.view.local_folder("t", lambda: [PATH])
    copies.change(PATH, flipped(100))
    assert copies.view.local_folder("t", lambda: [PATH]) is None
    copies.view.get(PATH)
    copies.change(PATH, flipped(100))
    assert copies.cache.local_path(PATH) is None


def test_a_whole_file_that_was_only_touched_is_compared_and_stays(copies: Copies) -> None:
    copies.view.get(PATH)
    local = copies.view.local_path(PATH)
    assert local is not None
    os.utime(local)
    assert copies.view.get(PATH)[0] == DATA
    assert copies.view.local_path(PATH) == local
    # Its name alone is gone, and comes back.
    local.unlink()
    assert copies.view.local_path(PATH) == local
    assert copies.fetched == SIZE


def test_a_copy_of_before_the_machine_went_down_is_compared(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was recorded then may not have reached the disk."""
    copies.commit("whole", DATA)
    copies.commit("half", DATA)
    copies.view.get("whole")
    copies.view.get_range("half", 0, 10 * MIB)
    for path in ("whole", "half"):
        copies.change(path, lambda file: os.pwrite(file, bytes(MIB), 5 * MIB))
        copies.data_file(path).touch()
    for module in ("about", "places"):
        monkeypatch.setattr(f"datalayer.stores.node_cache.{module}.this_boot", lambda: b"another boot....")
    after = copies.again()
    assert after.view.local_path("whole") is None
    # The rest comes, but the half of before is not believed.
    assert after.view.get_range("half", 10 * MIB, SIZE - 10 * MIB) == DATA[10 * MIB :]
    assert after.view.local_path("half") is None
    assert after.hot.misses["corrupt"] == 2
    for path in ("whole", "half"):
        assert after.view.get(path)[0] == DATA
        assert after.view.local_path(path) is not None


def test_an_open_file_that_is_written_to_reads_on_right(copies: Copies) -> None:
    copies.view.get(PATH)
    with copies.view.open(PATH) as file:
        assert file.read(1000) == DATA[:1000]
        copies.change(PATH, lambda data: os.pwrite(data, bytes(MIB), 5 * MIB))
        file.seek(5 * MIB)
        assert file.read(MIB) == DATA[5 * MIB : 6 * MIB]
        copies.cache.evict([PATH])
        assert file.read() == DATA[6 * MIB :]


def test_a_whole_copy_that_lost_a_record_is_made_anew(copies: Copies) -> None:
    copies.view.get(PATH)
    with (copies.data_file(PATH).parent / "pages").open("r+b") as pages:
        pages.seek(2048 + 8 * 20)
        pages.write(bytes(8))
    assert copies.view.get(PATH)[0] == DATA
    assert copies.hot.misses == {"not cached": 1, "corrupt": 1}
    assert copies.view.bring(PATH) is not None


@pytest.mark.parametrize("what", ["no header", "cut", "no data", "nothing", "a file"])
def test_an_entry_that_is_none_is_made_anew(copies: Copies, what: str) -> None:
    copies.view.get(PATH)
    place = copies.data_file(PATH).parent
    if what == "no header":
        with (place / "pages").open("r+b") as file:
            file.write(b"something else")
    elif what == "cut":
        os.truncate(place / "pages", 2050)
    elif what == "no data":
        (place / "data").unlink()
    else:
        for file_ in place.iterdir():
            file_.unlink()
        if what == "a file":
            place.rmdir()
            place.write_bytes(b"?")
    reader = copies.again()
    assert reader.view.local_path(PATH) is None
    assert reader.resident(PATH) == 0
    assert reader.view.get(PATH)[0] == DATA
    assert reader.view.get(PATH)[0] == DATA
    assert reader.fetched == SIZE
    assert reader.view.local_path(PATH) is not None


def test_wrong_bytes_of_the_cold_store_are_never_handed_out_as_a_block(copies: Copies) -> None:
    wrong = bytearray(DATA)
    wrong[5 * MIB] ^= 1
    copies.cold.put(PATH, bytes(wrong))
    assert copies.view.get_range(PATH, 0, 4 * MIB) == DATA[: 4 * MIB]
    for _ in range(2):
        with pytest.raises(VerificationError, match="from 4194304 to 8388608 are not the ones that were committed"):
            copies.view.get_range(PATH, 4 * MIB, 4 * MIB)
        with pytest.raises(VerificationError, match="are not the ones that were committed"):
            b"".join(copies.view.stream(PATH))
    assert copies.view.local_path(PATH) is None
    copies.cold.put(PATH, DATA)
    assert copies.view.get(PATH)[0] == DATA


def test_wrong_pages_that_came_one_by_one_are_found_when_their_block_is_whole(copies: Copies) -> None:
    wrong = bytearray(DATA)
    wrong[5 * MIB] ^= 1
    copies.cold.put(PATH, bytes(wrong))
    copies.view.get_range(PATH, 4 * MIB, 2 * MIB)
    copies.cold.put(PATH, DATA)
    # Who had the wrong page before its block was whole must hear of it.
    with pytest.raises(VerificationError, match="Read it again"):
        copies.view.get_range(PATH, 4 * MIB, 4 * MIB)
    assert copies.hot.misses["corrupt"] == 1
    assert copies.view.get_range(PATH, 4 * MIB, 4 * MIB) == DATA[4 * MIB : 8 * MIB]


def test_wrong_pages_of_two_processes_are_found_by_whoever_reads_their_block(copies: Copies) -> None:
    """Neither of two that fetch a half each sees the other's."""
    copies.view.get_range(PATH, 4 * MIB, 4 * MIB)
    source = copies.again()
    source.commit("wrong", bytes(SIZE))
    source.view.get_range("wrong", 0, SIZE)
    place, wrong = copies.data_file(PATH).parent, source.data_file("wrong").parent
    with (place / "pages").open("r+b") as pages, (place / "data").open("r+b") as data:
        pages.seek(2048 + 8 * 20)
        pages.write((wrong / "pages").read_bytes()[2048 : 2048 + 8])
        data.seek(5 * MIB)
        data.write(bytes(256 << 10))
    reader = copies.again()
    assert reader.view.get_range(PATH, 4 * MIB, 4 * MIB) == DATA[4 * MIB : 8 * MIB]
    assert reader.hot.misses == {"corrupt": 1}


def test_without_blocks_the_whole_file_is_compared(copies: Copies) -> None:
    wrong = bytearray(DATA)
    wrong[5 * MIB] ^= 1
    copies.commit("old", DATA, blocks=False)
    copies.cold.put("old", bytes(wrong))
    assert copies.view.get("old")[0] == wrong  # A layer compares what it reads whole.
    assert copies.view.local_path("old") is None
    assert copies.resident("old") == 0
    assert copies.hot.misses == {"corrupt": 1}
    copies.cold.put("old", DATA)
    assert copies.view.get("old")[0] == DATA
    assert copies.view.local_path("old") is not None
