from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spark_env.cache import cache_dir, made_once


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATALAYER_CACHE", str(tmp_path))


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == tmp_path
    monkeypatch.setenv("DATALAYER_CACHE", "")
    assert cache_dir() == Path.home() / ".cache" / "datalayer"


def test_a_folder_is_made_once_and_appears_whole() -> None:
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        assert list(folder.iterdir()) == []
        assert not (cache_dir() / "tool" / "1").exists()
        (folder / "file").write_text("x")

    for _ in range(2):
        made = made_once("tool/1", make)
        assert made == cache_dir() / "tool" / "1"
        assert (made / "file").read_text() == "x"
    assert len(calls) == 1


def test_a_failed_making_leaves_nothing_and_can_be_repeated() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        made_once("tool/1", fail)
    assert [path.name for path in (cache_dir() / "tool").iterdir()] == ["1.lock"]
    assert made_once("tool/1", lambda folder: (folder / "whole").touch()).is_dir()


RACER = """
import os, sys, time
from spark_env.cache import made_once

def make(folder):
    with open(sys.argv[1], "a") as log:
        log.write("made\\n")
    time.sleep(0.2)
    (folder / "file").touch()

assert (made_once("tool/1", make) / "file").exists()
"""


def test_of_processes_that_ask_at_once_one_makes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACER, str(tmp_path / "log")]
    racers = [subprocess.Popen(command) for _ in range(6)]
    assert [racer.wait() for racer in racers] == [0] * 6
    assert (tmp_path / "log").read_text() == "made\n"
