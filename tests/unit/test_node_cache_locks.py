"""Locks on byte ranges: between descriptors, threads and processes, gone with whoever held them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from datalayer.stores.node_cache import locks


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two descriptors of one file."""
    path = tmp_path / "f"
    path.touch()
    opened = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield opened
    for file in opened:
        os.close(file)


def test_a_range_is_taken_once(files: tuple[int, int]) -> None:
    one, other = files
    assert locks.take(one, 10, 5)
    assert locks.take(one, 12, 5)  # What one has, it may take again.
    assert not locks.take(other, 0, 11)
    assert locks.take(other, 0, 10)
    assert locks.taken_from(other, 5, 100) == 10
    assert locks.taken_from(other, 14, 100) == 14
    assert locks.taken_from(other, 17, 100) is None
    assert locks.taken_from(one, 3, 100) == 3
    locks.release(one, 10, 2)
    assert locks.take(other, 10, 2)
    assert locks.taken_from(other, 0, 100) == 12
    locks.release(one)
    assert locks.take(other, 0, 0)
    assert locks.taken_from(one, 1 << 50) == 1 << 50


def test_closing_another_descriptor_keeps_a_lock(files: tuple[int, int], tmp_path: Path) -> None:
    one, other = files
    assert locks.take(one, 0)
    os.close(os.open(tmp_path / "f", os.O_RDWR))
    assert not locks.take(other, 0)


def test_a_byte_is_waited_for_so_long(files: tuple[int, int]) -> None:
    one, other = files
    with locks.held(one, 7, 0) as got:
        assert got
        with locks.held(other, 7, 0.05) as also:
            assert not also
        # What was not got is not given back.
        assert locks.taken_from(other, 7) == 7
        releasing = threading.Timer(0.1, locks.release, (one, 7, 1))
        releasing.start()
        with locks.held(other, 7, 30) as then:
            assert then
        releasing.join()
    assert locks.take(other, 7)


def test_a_process_that_is_killed_loses_its_locks(files: tuple[int, int], tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:  # pragma: no cover  # measured in no child
        try:
            file = os.open(tmp_path / "f", os.O_RDWR)
            locks.take(file, 0, 100)
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(1)
    os.waitpid(child, os.WUNTRACED)
    assert not locks.take(files[0], 50)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert locks.take(files[0], 50)
