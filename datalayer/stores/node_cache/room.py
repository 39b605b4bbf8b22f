"""``Room``: how many bytes of the disk the copies may take, and who goes when there are too many.

How many there are is counted in a file that all processes share. A process that is killed leaves the count a little too high; whoever makes room
counts anew.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from datalayer.stores.node_cache import locks
from datalayer.stores.node_cache.places import drop, remove, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from datalayer.stores.node_cache.folder import CacheFolder

_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NUMBER = 8
# Bytes of the file that are locked: to change the number, and to make room.
_COUNTING, _MAKING_ROOM = 0, 1
_COUNTING_SECONDS = 0.5
_WAIT_SECONDS = 2.0
_PAUSE_SECONDS = 0.005
# Room is made for more than is needed, so that it is rarely made.
_KEPT = 0.9
# What was looked for in vain is not looked for again at once: looking takes time with the number of entries.
_PATIENCE = 20
# A writer may hold an entry in `staging` for hours, locked; one that is not locked is about to be renamed, or was left behind.
_STALE_SECONDS = 600


class _Found(NamedTuple):
    used: float
    size: int
    place: Path


class Room:
    """The room for copies in a cache folder.

    Args:
        folder: The folder.
        budget: Bytes of the disk.
    """

    def __init__(self, folder: CacheFolder, budget: int) -> None:
        self._folder = folder
        self.budget = budget
        self._in_vain_until = 0.0
        self._held_up_until = 0.0

    def held(self) -> int:
        """Return how many bytes the copies take."""
        with self._file() as file:
            return _number(file)

    def take(self, size: int) -> bool:
        """Take room for some bytes, making it where need be; False where there is none."""
        with self._file() as file:
            self._count_first(file)
            if _change(file, size, self.budget):
                return True
            if time.monotonic() < self._in_vain_until or size > self.budget:
                return False
            now = time.monotonic()
            deadline = now + (_WAIT_SECONDS if now >= self._held_up_until else 0.0)
            while not self._make(file, self.budget - size):
                # Somebody else is making room; perhaps they are stopped.
                time.sleep(_PAUSE_SECONDS)
                if _change(file, size, self.budget):
                    return True
                if time.monotonic() > deadline:
                    self._held_up_until = time.monotonic() + _PATIENCE * _WAIT_SECONDS
                    return False
            return _change(file, size, self.budget)

    def give(self, size: int) -> None:
        """Give room back."""
        self._in_vain_until = 0.0
        if size:
            with self._file() as file:
                _change(file, -size)

    def look_again(self) -> None:
        """Look for room the next time, even if there was none a moment ago."""
        self._in_vain_until = 0.0

    def shrink(self) -> None:
        """Make room although the budget is not used up: the disk is full."""
        if time.monotonic() >= self._in_vain_until:
            with self._file() as file:
                self._make(file, _number(file) - 1)

    def _count_first(self, file: int) -> None:
        """Count what there is, in a folder where nobody has. Nobody takes room until that is done, else it would be counted twice."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while os.fstat(file).st_size < _NUMBER and time.monotonic() < deadline:
            if not locks.take(file, _MAKING_ROOM):
                time.sleep(_PAUSE_SECONDS)
                continue
            try:
                if os.fstat(file).st_size < _NUMBER:
                    _change(file, self._scan()[1])
            finally:
                locks.release(file, _MAKING_ROOM, 1)

    def _make(self, file: int, limit: int) -> bool:
        """Drop what was not used for longest until no more than 9/10 of ``limit`` is held; False where somebody else does so just now."""
        if not locks.take(file, _MAKING_ROOM):
            return False
        try:
            begun = time.monotonic()
            before = _number(file)
            found, held = self._scan()
            for one in sorted(found) if held > limit else ():
                if held <= limit * _KEPT:
                    break
                if not self._is_pinned(one.place.name) and _drop_idle(self._folder, one.place):
                    held -= one.size
            # What others took meanwhile was not seen, or not all of it.
            _change(file, held - before)
            if held > limit:
                self._in_vain_until = time.monotonic() + _PATIENCE * (time.monotonic() - begun)
        finally:
            locks.release(file, _MAKING_ROOM, 1)
        return True

    def _scan(self) -> tuple[list[_Found], int]:
        """Return the entries, and how many bytes they and those being written take; clear away what was left behind."""
        root = self._folder.root
        for gone in _listed(root / "trash"):
            remove(self._folder, gone)
        held = 0
        for staged in _listed(root / "staging"):
            if time.time() - _time(staged) > _STALE_SECONDS and _is_idle(staged):
                remove(self._folder, staged)
            else:
                held += size_of(staged)
        for pin in _listed(root / "pins"):
            self._is_pinned(pin.name)
        found = [
            _Found(_time(place / "pages"), size_of(place), place)
            for some in _listed(root / "objects")
            for place in _listed(some)
        ]
        return found, held + sum(one.size for one in found)

    def _is_pinned(self, name: str) -> bool:
        pin = self._folder.pin(name)
        until = _time(pin)
        if until > time.time():
            return True
        if until:
            pin.unlink(missing_ok=True)
        return False

    @contextlib.contextmanager
    def _file(self) -> Iterator[int]:
        file = os.open(self._folder.root / "held", _FILE, 0o600)
        try:
            yield file
        finally:
            os.close(file)


def _number(file: int) -> int:
    return int.from_bytes(os.pread(file, _NUMBER, 0), "little")


def _change(file: int, by: int, limit: int | None = None) -> bool:
    """Add to the number, unless that exceeds a limit."""
    # Somebody who is stopped while they count must not stop the others: then the number is wrong until room is made.
    with locks.held(file, _COUNTING, _COUNTING_SECONDS):
        number = max(0, _number(file) + by)
        if limit is not None and number > limit:
            return False
        os.pwrite(file, number.to_bytes(_NUMBER, "little"), 0)
    return True


def _drop_idle(folder: CacheFolder, place: Path) -> bool:
    """Drop an entry, unless somebody is fetching a part of it."""
    with _unlocked(place) as idle:
        if idle:
            drop(folder, place)
        return idle


def _is_idle(place: Path) -> bool:
    with _unlocked(place) as idle:
        return idle


@contextlib.contextmanager
def _unlocked(place: Path) -> Iterator[bool]:
    """Lock all of an entry while the block runs, or learn that somebody else has locked a part of it."""
    try:
        file = os.open(place / "pages", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        yield locks.take(file, 0, 0)
    finally:
        os.close(file)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _time(path: Path) -> float:
    """Return when a file was last changed; 0 where there is none."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
