"""Copies that an engine opens later stay, however little room there is, until it is done or its process is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.behaviour.copies import MIB, Copies, some_bytes

SIZE = 4 * MIB
DATA = {name: some_bytes(SIZE) for name in ("t/out/one", "t/out/two", "t/out/three")}


def cache(folder: Path, budget: int = 10 * MIB) -> Copies:
    """A cache with room for two of three files."""
    copies = Copies(folder, budget=budget)
    for path, data in DATA.items():
        copies.commit(path, data)
    return copies


def touch(copies: Copies, *names: str) -> None:
    for name in names:
        assert b"".join(copies.view.stream(f"t/out/{name}")) == DATA[f"t/out/{name}"]


def resident(copies: Copies) -> set[str]:
    return {path.rpartition("/")[2] for path in DATA if copies.resident(path) == SIZE}


def test_a_held_copy_is_not_dropped_to_make_room(tmp_path: Path) -> None:
    copies = cache(tmp_path / "cache")
    with copies.view.hold("t/out/one") as path:
        assert path is not None
        assert path.read_bytes() == DATA["t/out/one"]
        # The one that was used longest ago would go first.
        touch(copies.again(), "two", "three", "two", "three")
        assert "one" in resident(copies)
        assert path.read_bytes() == DATA["t/out/one"]
    touch(copies.again(), "two", "three", "two", "three")
    assert resident(copies) == {"two", "three"}


def test_two_may_hold_one_copy(tmp_path: Path) -> None:
    copies = cache(tmp_path / "cache")
    with copies.view.hold("t/out/one") as path:
        with copies.again().view.hold("t/out/one") as same:
            assert same == path
        touch(copies.again(), "two", "three", "two", "three")
        assert "one" in resident(copies)


def test_what_there_is_no_room_for_is_not_held(tmp_path: Path) -> None:
    copies = cache(tmp_path / "cache", budget=SIZE // 2)
    with copies.view.hold("t/out/one") as path:
        assert path is None


def test_who_evicts_does_not_ask(tmp_path: Path) -> None:
    copies = cache(tmp_path / "cache")
    with copies.view.hold("t/out/one") as path:
        assert path is not None
        copies.cache.evict(["t/out/one"])
        assert not path.exists()


def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    copies = cache(tmp_path / "cache")
    touch(copies, "one")
    place = copies.cache._folder.entry("t/out/one")
    program = f"""
import pathlib, time
from datalayer.stores.node_cache.places import hold
held = hold(pathlib.Path({str(place)!r}))
print(held is not None, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "True\n"
            touch(copies, "two", "three", "two", "three")
            assert "one" in resident(copies)
        finally:
            os.kill(holder.pid, signal.SIGKILL)
    touch(copies, "two", "three", "two", "three")
    assert resident(copies) == {"two", "three"}
