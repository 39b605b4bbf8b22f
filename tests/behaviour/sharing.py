"""Processes that share one cache, over a volume that may keep them waiting."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from datalayer.addresses.location import Location
from datalayer.stores.volume import VolumeStore
from tests.behaviour.copies import MIB, Copies

PATH = "t/f"
SIZE = 20 * MIB + 777


def content() -> bytes:
    """The bytes of the one file, the same in every process."""
    return random.Random(PATH).randbytes(SIZE)


class GatedVolume(VolumeStore):
    """A volume that gives so many ranges at once, and the others when a file is there."""

    def __init__(self, root: Location, gate: Path, at_once: int) -> None:
        super().__init__(root)
        self._gate = gate
        self._left = at_once

    def get_range(self, path: str, start: int, length: int) -> bytes:
        self._left -= 1
        while self._left < 0 and not self._gate.exists():
            time.sleep(0.005)
        return super().get_range(path, start, length)


def read_here_and_there(pipe: Connection, make: Callable[[], Copies], seed: int) -> None:
    """Read ranges, and then all, when told to; report whether all was right, what was fetched, and the misses."""
    dice = random.Random(seed)
    data = content()
    copies = make()
    pipe.send("ready")
    pipe.recv()
    right = True
    for _ in range(12):
        start = dice.randrange(SIZE)
        end = min(SIZE, start + dice.randrange(3 * MIB))
        right &= copies.view.get_range(PATH, start, end - start) == data[start:end]
    right &= b"".join(copies.view.stream(PATH)) == data
    pipe.send((right, copies.fetched, set(copies.hot.misses)))


def read_all(pipe: Connection, make: Callable[[], Copies], _seed: int) -> None:
    """Read all, and report whether it was right."""
    copies = make()
    pipe.send("ready")
    pipe.send(b"".join(copies.view.stream(PATH)) == content())


def read_all_and_fork(pipe: Connection, make: Callable[[], Copies], seed: int) -> None:
    """The same, and leave a child behind that was forked in the middle; report its pid."""
    copies = make()
    pieces = copies.cache.pieces(PATH, copies.files[PATH], 0, SIZE)
    next(pieces)
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    pipe.send(child)
    for _ in pieces:
        pass
