"""The room of a ``NodeCache``: its budget, who goes first, and who stays."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from datalayer.stores.node_cache import locks, room
from tests.behaviour.copies import MIB, PAGE, Copies, expected_of, on_disk, some_bytes

DATA = some_bytes(8 * MIB)
FILE = MIB
ONE = FILE + 8192
"""What a file of 1 MiB takes: its pages, its records and its folder."""
FOLDERS = 12 * 4096
"""What the folders take that entries lie in."""
LATER = timedelta(hours=1)


def cache_of(tmp_path: Path, files: int, *, more: int = 0) -> Copies:
    """A cache with room for some files of 1 MiB, and twelve of them."""
    copies = Copies(tmp_path / "cache", budget=files * ONE + more)
    for number in range(12):
        copies.commit(f"f{number}", DATA[number * PAGE :][:FILE])
    return copies


def read(copies: Copies, *numbers: int) -> None:
    for number in numbers:
        assert copies.view.get(f"f{number}")[0] == DATA[number * PAGE :][:FILE]


def whole(copies: Copies) -> list[int]:
    """The numbers of the files that are there."""
    return [number for number in range(12) if copies.resident(f"f{number}") == FILE]


def now() -> datetime:
    return datetime.now(UTC)


def used_ago(copies: Copies, number: int, seconds: float) -> None:
    """Let a copy have been used some time ago."""
    then = time.time() - seconds
    os.utime(copies.data_file(f"f{number}").parent / "pages", (then, then))


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 5)
    read(copies, 0, 1, 2, 3, 4)
    assert whole(copies) == [0, 1, 2, 3, 4]
    for number in range(5):
        used_ago(copies, number, 100 - number)
    # Also a path that is asked for is a use.
    read(copies, 0)
    assert copies.view.local_path("f1") is not None
    read(copies, 5)
    assert whole(copies) == [0, 1, 3, 4, 5]
    read(copies, 6)
    assert whole(copies) == [0, 1, 4, 5, 6]
    assert copies.hot.misses == {"not cached": 7}


def test_the_budget_holds_for_all_files_together(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 4)
    for number in [*range(12), *range(12)]:
        read(copies, number)
        assert copies.cache.usage().held <= copies.budget
        assert on_disk(copies.folder) <= copies.budget + FOLDERS
    assert len(whole(copies)) in {3, 4}
    names = {path.name for path in (copies.folder / "tree" / copies.cache._folder.store).iterdir()}
    assert names == {f"f{number}" for number in whole(copies)}


def test_the_budget_holds_for_many_readers_at_once(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 5)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: read(copies.again(), number), [*range(12)] * 10))
    # Somebody who makes room counts what others are writing just then, or not.
    assert on_disk(copies.folder) <= copies.budget + 2 * ONE
    read(copies, *range(12))
    assert on_disk(copies.folder) <= copies.budget + FOLDERS


def test_what_is_pinned_stays(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 4)
    # Also before the first byte.
    copies.cache.pin(["f0", "f1"], now() + LATER)
    read(copies, *range(12))
    assert {0, 1} < set(whole(copies))
    copies.again().cache.unpin(["f0", "none"])
    read(copies, *range(2, 12))
    assert 0 not in whole(copies)
    assert 1 in whole(copies)
    # What is evicted goes, pinned or not; the pin stays for what comes again.
    copies.cache.evict(["f1"])
    assert 1 not in whole(copies)
    read(copies, 1, *range(2, 12))
    assert 1 in whole(copies)


def test_a_pin_ends_by_itself(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 4)
    read(copies, 0)
    copies.cache.pin(["f0", "never read"], now() - timedelta(seconds=1))
    read(copies, *range(1, 12))
    assert 0 not in whole(copies)
    assert list((copies.folder / "pins").iterdir()) == []


def test_a_pin_that_is_taken_again_ends_when_it_was_said_last(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 4)
    copies.cache.pin(["f0"], now() + LATER)
    copies.cache.pin(["f0"], now() - timedelta(seconds=1))
    read(copies, *range(12))
    assert 0 not in whole(copies)


def test_where_all_is_pinned_the_rest_is_read_past_the_cache(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 3)
    copies.cache.pin(["f0", "f1", "f2"], now() + LATER)
    read(copies, 0, 1, 2)
    held = copies.cache.usage().held
    read(copies, 3, 4)
    assert copies.hot.misses == {"not cached": 3, "no room": 2}
    assert whole(copies) == [0, 1, 2]
    assert copies.cache.usage().held == held
    copies.cache.unpin(["f0"])
    read(copies, 3)
    assert whole(copies) == [1, 2, 3]


def test_a_file_larger_than_the_budget_is_read_past_the_cache(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 4)
    read(copies, 0)
    copies.commit("large", DATA)
    assert b"".join(copies.view.stream("large")) == DATA
    assert copies.view.get_range("large", 100, 5 * MIB) == DATA[100 : 100 + 5 * MIB]
    assert copies.hot.misses == {"not cached": 1, "no room": 2}
    assert copies.view.local_path("large") is None
    assert copies.view.bring("large") is None
    assert whole(copies) == [0]


def test_room_that_is_used_up_in_the_middle_of_a_long_read(tmp_path: Path) -> None:
    data = some_bytes(24 * MIB)
    copies = Copies(tmp_path / "cache", budget=25 * MIB)
    copies.commit("pinned", data[: 16 * MIB])
    copies.commit("long", data)
    copies.cache.pin(["pinned"], now() + LATER)
    copies.view.bring("pinned")
    assert b"".join(copies.view.stream("long")) == data
    assert copies.hot.misses == {"not cached": 1, "no room": 1}
    assert copies.view.local_path("long") is None
    assert 0 < copies.resident("long") <= 9 * MIB
    assert copies.cache.usage().held <= 25 * MIB
    # What is there of it serves, and the rest comes past the cache again.
    assert b"".join(copies.again().view.stream("long")) == data


def test_one_who_is_stopped_making_room_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_WAIT_SECONDS", 5.0)
    copies = cache_of(tmp_path, 3)
    read(copies, 0, 1, 2)
    other = os.open(copies.folder / "held", os.O_RDWR)
    try:
        assert locks.take(other, room._MAKING_ROOM)
        begun = time.monotonic()
        read(copies, *range(3, 12))
        # Each of them waiting would be nine times as long.
        assert 5 <= time.monotonic() - begun < 20
        assert copies.hot.misses == {"not cached": 3, "no room": 9}
        locks.release(other)
        read(copies, 3)
        assert 3 in whole(copies)
    finally:
        os.close(other)


def test_pages_that_could_not_be_kept_are_not_waited_for(tmp_path: Path) -> None:
    """A reader who gets no room, and is slow, has nothing locked meanwhile."""
    copies = cache_of(tmp_path, 2, more=2 * 8192)
    copies.cache.pin(["f0", "f1"], now() + LATER)
    read(copies, 0, 1)
    slow = copies.cache.pieces("f2", copies.files["f2"], 0, FILE)
    begun = next(slow)
    other = copies.again()
    read(other, 2)
    assert other.hot.misses == {"no room": 1}
    assert begun + b"".join(slow) == DATA[2 * PAGE :][:FILE]


def test_a_slow_reader_keeps_no_copy_from_going(tmp_path: Path) -> None:
    data = some_bytes(12 * MIB)
    copies = Copies(tmp_path / "cache", budget=13 * MIB)
    copies.commit("long", data)
    slow = copies.cache.pieces("long", copies.files["long"], 0, len(data))
    begun = next(slow)
    deadline = time.monotonic() + 60
    while copies.resident("long") < len(data) and time.monotonic() < deadline:
        time.sleep(0.01)
    for number in range(3):
        copies.commit(f"f{number}", data[number:][:MIB])
        copies.view.get(f"f{number}")
    assert copies.resident("long") == 0
    assert [copies.resident(f"f{number}") for number in range(3)] == [MIB] * 3
    assert begun + b"".join(slow) == data
    assert copies.fetched == len(data) + 3 * MIB


def test_what_is_being_written_is_not_cleared_away_however_long_it_takes(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 5)
    writer = copies.cache.through.writer("new")
    for start in range(0, FILE * 4, FILE // 4):
        writer.write(DATA[start : start + FILE // 4])
    (staged,) = (copies.folder / "staging").iterdir()
    os.utime(staged, (0, 0))
    read(copies, 0, 1, 2, 3)
    assert staged.exists()
    writer.close()
    copies.files["new"] = expected_of(DATA[: FILE * 4])
    fetched = copies.fetched
    assert copies.view.get("new")[0] == DATA[: FILE * 4]
    assert copies.fetched == fetched


def test_what_killed_processes_left_is_cleared_away(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 5)
    read(copies, 0, 1)
    for kind in ("trash", "staging"):
        folder = copies.folder / kind / "123-left"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pages").write_bytes(bytes(100))
        (folder / "data").write_bytes(bytes(FILE))
        old = time.time() - 3600
        os.utime(folder, (old, old))
    # They had taken room that nobody gives back.
    assert copies.cache._room.take(2 * ONE)
    read(copies, *range(2, 12))
    assert list((copies.folder / "trash").iterdir()) == list((copies.folder / "staging").iterdir()) == []
    assert len(whole(copies)) >= 4
    assert copies.cache.usage().held <= copies.budget


def test_a_count_that_was_lost_is_counted_anew(tmp_path: Path) -> None:
    copies = cache_of(tmp_path, 5)
    read(copies, 0, 1, 2)
    held = copies.cache.usage().held
    (copies.folder / "held").unlink()
    read(copies, 3)
    assert copies.cache.usage().held == held + ONE


@pytest.mark.parametrize("size", [0, 1, 4097, PAGE - 1, PAGE + 1])
def test_what_is_counted_is_what_the_disk_holds(tmp_path: Path, size: int) -> None:
    copies = Copies(tmp_path / "cache")
    copies.commit("f", DATA[:size])
    copies.view.get("f")
    place = copies.data_file("f").parent
    blocks = sum(path.lstat().st_blocks * 512 for path in (place, place / "pages", place / "data"))
    assert copies.cache.usage().held == blocks
    copies.cache.evict(["f"])
    assert copies.cache.usage().held == 0


def test_nobody_takes_room_while_a_new_folder_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what they write meanwhile is counted as found, and once more as taken."""
    copies = cache_of(tmp_path, 12)
    scan, counts = room.Room._scan, []

    def slow_scan(self: room.Room) -> tuple[list[room._Found], int]:
        counts.append(self)
        time.sleep(0.5)
        return scan(self)

    monkeypatch.setattr(room.Room, "_scan", slow_scan)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: read(copies.again(), number), range(4)))
    assert len(counts) == 1
    assert copies.cache.usage().held == 4 * ONE
