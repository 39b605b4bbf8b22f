"""One cache of many processes: who fetches, who waits, and what becomes of it when the one who fetches is killed, stopped or forked."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from datalayer.addresses.location import Location
from datalayer.stores.node_cache import serving
from datalayer.stores.volume import VolumeStore
from tests.behaviour.copies import BLOCK, MIB, Copies, some_bytes
from tests.behaviour.sharing import (
    PATH,
    SIZE,
    GatedVolume,
    content,
    read_all,
    read_all_and_fork,
    read_here_and_there,
)
from tests.behaviour.touching import Crowd

DATA = content()
PROCESSES = 16
# So many ranges are read before the gate: one group of pages is kept then, and the next is on its way.
BEFORE_GATE = 20


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copies:
    """A cache over a volume with one file."""
    # Only a lock that is lost takes so long here.
    monkeypatch.setattr(serving, "_PATIENCE_SECONDS", 120.0)
    (tmp_path / "volume").mkdir()
    copies = Copies(tmp_path / "cache", cold=VolumeStore(Location.parse(str(tmp_path / "volume"))))
    copies.commit(PATH, DATA)
    return copies


def gated(copies: Copies, gate: Path) -> Callable[[], Copies]:
    """Makes the same, over a volume that soon keeps its readers waiting."""
    return partial(Copies, copies.folder, copies.budget, GatedVolume(copies.cold.root, gate, BEFORE_GATE), copies.files)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it did not come to this"
        time.sleep(0.005)


@pytest.fixture
def stuck(copies: Copies, tmp_path: Path) -> Iterator[tuple[Crowd[Copies], Path]]:
    """A process that has fetched a group of pages, has locked all others, and waits for the volume."""
    gate = tmp_path / "gate"
    with Crowd(read_all, gated(copies, gate), 1) as crowd:
        assert crowd.all_say() == ["ready"]
        wait_until(lambda: copies.resident(PATH) == BLOCK)
        yield crowd, gate


def only(crowd: Crowd[Copies]) -> Connection:
    (pipe,) = crowd.members
    return pipe


def pid(crowd: Crowd[Copies]) -> int:
    found = crowd.members[only(crowd)].pid
    assert found is not None
    return found


def test_each_byte_is_fetched_once_whoever_asks(copies: Copies) -> None:
    make = partial(Copies, copies.folder, copies.budget, copies.cold, copies.files)
    with Crowd(read_here_and_there, make, PROCESSES) as crowd:
        crowd.all_say()
        crowd.tell("go")
        said = crowd.all_say()
    assert all(right for right, _, _ in said)
    assert sum(fetched for _, fetched, _ in said) == SIZE
    assert {reason for _, _, misses in said for reason in misses} == {"not cached"}
    assert copies.view.local_path(PATH) is not None
    assert copies.cache.usage().held < SIZE + MIB


def test_when_the_one_who_fetches_is_killed_those_who_wait_go_on(
    copies: Copies, stuck: tuple[Crowd[Copies], Path]
) -> None:
    crowd, _ = stuck
    with ThreadPoolExecutor(4) as pool:
        readers = [copies.again() for _ in range(4)]
        waiting = [pool.submit(reader.view.get, PATH) for reader in readers]
        wait_until(lambda: all(reader.hot.bytes_hit == BLOCK for reader in readers))
        time.sleep(0.2)
        assert not any(reader.fetched for reader in readers)
        crowd.kill(only(crowd))
        assert all(future.result()[0] == DATA for future in waiting)
    assert sum(reader.fetched for reader in readers) == SIZE - BLOCK
    assert {reason for reader in readers for reason in reader.hot.misses} == {"not cached"}
    assert copies.view.local_path(PATH) is not None


def test_what_nobody_fetches_is_not_waited_for(copies: Copies, stuck: tuple[Crowd[Copies], Path]) -> None:
    assert copies.view.get_range(PATH, 0, BLOCK) == DATA[:BLOCK]
    copies.commit("other", DATA)
    assert copies.view.get("other")[0] == DATA


def test_one_who_is_stopped_holds_others_up_for_so_long_only(
    copies: Copies, stuck: tuple[Crowd[Copies], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    crowd, gate = stuck
    os.kill(pid(crowd), signal.SIGSTOP)
    monkeypatch.setattr(serving, "_PATIENCE_SECONDS", 0.3)
    reader = copies.again()
    for _ in range(2):
        assert reader.view.get(PATH)[0] == DATA
    assert reader.hot.misses == {"another process fetches it, and gets nowhere": 2}
    assert len(caplog.records) == 1
    assert "read from the cold tier, and not kept" in caplog.text
    assert copies.resident(PATH) == BLOCK
    # It goes on where it was.
    os.kill(pid(crowd), signal.SIGCONT)
    gate.touch()
    assert crowd.all_say() == [True]
    assert copies.again().view.local_path(PATH) is not None


def test_one_who_is_stopped_is_waited_for_once(
    copies: Copies, stuck: tuple[Crowd[Copies], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd, _ = stuck
    os.kill(pid(crowd), signal.SIGSTOP)
    monkeypatch.setattr(serving, "_PATIENCE_SECONDS", 3.0)
    begun = time.monotonic()
    for at in range(5 * MIB, 15 * MIB, MIB):
        assert copies.view.get_range(PATH, at, 1000) == DATA[at : at + 1000]
    # Each of them waiting would be ten times as long.
    assert 3 <= time.monotonic() - begun < 15
    assert copies.hot.misses == {"another process fetches it, and gets nowhere": 10}
    os.kill(pid(crowd), signal.SIGCONT)


def test_one_who_waits_sees_that_the_other_gets_on(
    copies: Copies, stuck: tuple[Crowd[Copies], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, gate = stuck
    monkeypatch.setattr(serving, "_PATIENCE_SECONDS", 5.0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(copies.view.get, PATH)
        wait_until(lambda: copies.receipt.by_tier().get("hot") is not None and copies.hot.bytes_hit == BLOCK)
        gate.touch()
        assert waiting.result()[0] == DATA
    assert copies.fetched == 0
    assert copies.hot.misses == {}


def test_a_child_that_was_forked_in_the_middle_keeps_no_lock(copies: Copies, tmp_path: Path) -> None:
    with Crowd(read_all_and_fork, gated(copies, tmp_path / "gate"), 1) as crowd:
        (child,) = crowd.all_say()
        try:
            wait_until(lambda: copies.resident(PATH) == BLOCK)
            crowd.kill(only(crowd))
            assert copies.view.get(PATH)[0] == DATA
            assert copies.hot.misses == {"not cached": 1}
            assert copies.fetched == SIZE - BLOCK
        finally:
            os.kill(child, signal.SIGKILL)


def in_child(act: Callable[[], object]) -> int:
    """Act in a forked child, and return how that ended: 0, 1, or less than 0 for a signal."""
    child = os.fork()
    if child == 0:  # pragma: no cover  # measured in no child
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_reads_and_fetches(copies: Copies) -> None:
    copies.view.get_range(PATH, 0, 5 * MIB)
    pieces = copies.cache.pieces(PATH, copies.files[PATH], 0, SIZE)
    begun = next(pieces)

    def act() -> None:
        assert copies.view.get(PATH)[0] == DATA

    assert in_child(act) == 0
    assert begun + b"".join(pieces) == DATA
    assert copies.view.local_path(PATH) is not None


@pytest.mark.parametrize("size", [SIZE, 5 * MIB], ids=["by a thread", "at once"])
def test_a_forked_child_reads_on(copies: Copies, size: int) -> None:
    pieces = copies.cache.pieces(PATH, copies.files[PATH], 0, size)
    begun = next(pieces)

    def act() -> None:
        signal.alarm(60)  # Nobody else would end it.
        assert begun + b"".join(pieces) == DATA[:size]

    assert in_child(act) == 0
    assert begun + b"".join(pieces) == DATA[:size]


# What Python tells of its calls; each is a place where a process may end.
_CALLS = {"open", "fcntl.fcntl", "os.mkdir", "os.rename", "os.link", "os.truncate", "os.utime", "os.chmod", "os.remove"}


def killed_at(act: Callable[[], object], fatal: int) -> bool:
    """Act in a child process that kills itself at its `fatal`-th call; False if it came to its end before."""

    def hook(event: str, _arguments: object) -> None:
        nonlocal fatal
        if event in _CALLS:
            fatal -= 1
            if not fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.addaudithook(hook)
        act()

    code = in_child(watched)
    assert code in {0, -signal.SIGKILL}
    return code != 0


@pytest.mark.parametrize("act", ["short", "long", "room", "through", "evict"])
def test_a_process_that_is_killed_at_any_call_leaves_nothing_that_misleads(
    copies: Copies, caplog: pytest.LogCaptureFixture, act: str
) -> None:
    data = DATA[: 9 * MIB]
    kills = 0
    while True:
        path = f"t/{kills}"
        copies.commit(path, data if act in {"long", "evict"} else data[:MIB])
        expected = copies.files[path]
        copies = copies.again()
        if act == "room":
            copies = Copies(copies.folder, 3 * MIB, copies.cold, copies.files)
            copies.commit("t/before", some_bytes(MIB))
            copies.view.get("t/before")
        if act == "evict":
            copies.view.get(path)

        def run(copies: Copies = copies, path: str = path) -> None:
            if act == "through":
                copies.cache.through.put(path, data[:MIB])
            elif act == "evict":
                copies.cache.evict([path])
            else:
                copies.view.get(path)
                assert copies.view.local_path(path) is not None

        if not killed_at(run, kills + 1):
            break
        assert copies.view.get(path)[0] == data[: expected.length]
        assert copies.view.local_path(path) is not None
        assert set(copies.hot.misses) <= {"not cached"}
        kills += 1
    assert kills >= 8
    assert caplog.records == []
