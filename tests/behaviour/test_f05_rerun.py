"""F5: an address is run again while readers of the old generation are about. Nobody reads old bytes late, or mixed ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import pytest

from datalayer import DataLayer, TaskKey
from datalayer.taskfs import TaskFileSystem
from tests.behaviour.generations import BIG, contents, publish


def read(fs: TaskFileSystem, names: Iterable[str]) -> dict[str, bytes]:
    found = {}
    for name in names:
        with fs.open(name) as file:
            found[name.rpartition("/")[2]] = file.read()
    return found


@pytest.fixture
def fs(layer: DataLayer) -> TaskFileSystem:
    return TaskFileSystem(layer=layer, skip_instance_cache=True)


LISTINGS: dict[str, Callable[[TaskFileSystem, str], list[str]]] = {
    "ls": lambda fs, folder: fs.ls(folder, detail=False),
    "find": lambda fs, folder: fs.find(folder),
    "glob": lambda fs, folder: fs.glob(f"{folder}/*"),
    "walk": lambda fs, folder: [
        info["name"] for _, _, files in fs.walk(folder, detail=True) for info in files.values()
    ],
    "glob above": lambda fs, folder: fs.glob(f"{folder.rpartition('/')[0]}/*/*"),
    "find above": lambda fs, folder: fs.find("aviation"),
}


@pytest.mark.parametrize("listing", LISTINGS)
@pytest.mark.parametrize("run", ["20130101T000000Z", "latest"])
def test_what_was_listed_before_is_read_as_it_was(
    fs: TaskFileSystem, layer: DataLayer, key: TaskKey, run: str, listing: str
) -> None:
    folder = f"aviation/flights/extract/{run}/default"
    publish(layer, key, 1)
    before = LISTINGS[listing](fs, folder)
    if "above" not in listing:
        # What walks trees by itself (pyarrow, UPath, DirFileSystem) takes the asked path off the names it gets.
        assert all(name.startswith(f"{folder}/") for name in before)
    publish(layer, key, 2)
    assert read(fs, before) == contents(1)
    assert read(fs, LISTINGS[listing](fs, folder)) == contents(2)


def test_info_names_the_attempt_that_it_speaks_of(fs: TaskFileSystem, layer: DataLayer, key: TaskKey) -> None:
    publish(layer, key, 1)
    info = fs.info("aviation/flights/extract/latest/default/only-1")
    publish(layer, key, 2)
    assert (info["size"], info["attempt"]) == (1, 1)
    assert fs.cat_file(info["name"]) == contents(1)["only-1"]
    assert fs.info("aviation/flights/extract/latest/default/a.bin")["attempt"] == 2
    assert not fs.exists("aviation/flights/extract/latest/default/only-1")


def test_an_open_file_stays_and_a_fresh_one_is_new(fs: TaskFileSystem, layer: DataLayer, key: TaskKey) -> None:
    path = f"task:/{key}/default/big.bin"
    publish(layer, key, 1)
    with fs.open(path) as old:
        first = old.read(1000)
        publish(layer, key, 2)
        with fs.open(path) as new:
            assert new.read() == contents(2)["big.bin"]
        assert first + old.read() == contents(1)["big.bin"]
        old.seek(-10, 2)
        assert old.read() == b"\1" * 10
    assert fs.cat_file(path, BIG - 10) == b"\2" * 10


def test_readers_beside_a_publisher_see_whole_generations_that_never_go_back(
    fs: TaskFileSystem, layer: DataLayer, key: TaskKey
) -> None:
    committed = 0

    def publish_all() -> None:
        nonlocal committed
        for generation in range(1, 21):
            with layer.publish(key) as attempt:
                for name in ("a", "b", f"only-{generation}"):
                    attempt.output().put(name, bytes([generation]) * 100)
            committed = generation

    publisher = threading.Thread(target=publish_all)
    publisher.start()
    seen = [0]
    while seen[-1] < 20:
        assert publisher.is_alive() or committed == 20
        least = committed
        found = read(fs, fs.find("aviation/flights/extract/latest/default"))
        generation = found["a"][0] if found else 0
        if found:
            assert found == {name: bytes([generation]) * 100 for name in ("a", "b", f"only-{generation}")}
        assert generation >= max(least, seen[-1])
        seen.append(generation)
    publisher.join()
