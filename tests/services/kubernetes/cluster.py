"""The one cluster of this machine: started where none runs, used by many, removed with all that it made."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.services.kubernetes.machine import remove
from tests.services.kubernetes.node import node_log
from tests.services.kubernetes.programs import programs
from tests.services.kubernetes.site import Site

ROOT = Path(__file__).resolve().parents[3]


def up(site: Site, say: Callable[[str], None] = lambda _: None, *, seconds: float = 300) -> None:
    """Start the cluster where it does not run, and return when pods can be started. It outlives this process.

    Of processes that ask at once, one starts it and all wait for it. A start whose asker is killed goes on.

    Args:
        site: Where.
        say: Gets what a person may want to read meanwhile.
        seconds: How long it may take, apart from building programs.

    Raises:
        RuntimeError: A program is missing, a build failed, or the cluster did not get ready; with its last words.
    """
    if is_ready(site):
        return
    programs()
    deadline, told, seen, again = time.monotonic() + seconds, 0, False, 0.0
    with tempfile.TemporaryFile() as errors:
        while not is_ready(site):
            words = _log(site)
            if running(site):
                seen = seen or _owner(site) is not None
                for line in words[told:]:
                    say(line)
                told = max(told, len(words))
            elif seen:
                errors.seek(0)
                last = "\n".join([errors.read().decode(), *words[-20:]])
                raise RuntimeError(f"the cluster ended before it was ready (logs: {site.folder}/log):\n{last}")
            elif time.monotonic() > again:
                _spawn(site, errors.fileno())
                # By then it holds the lock, or will not: what held it, such as an end of the last cluster, is gone.
                again = time.monotonic() + 10
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster is not ready after {seconds:g} s; see {site.folder}/log")
            time.sleep(0.1)
    for line in _log(site)[told:]:
        say(line)


def down(site: Site) -> bool:
    """End the cluster, wait until it is gone, and remove what it made; also what one that was killed left behind.

    Returns:
        Whether one was running.

    Raises:
        RuntimeError: a process of the cluster cannot be ended, or something that it made not removed.
    """
    was, deadline = running(site), time.monotonic() + 60
    while running(site):
        _kill(site)
        if time.monotonic() > deadline:
            raise RuntimeError(f"a process of the cluster lives on, and holds {site.lock}: end it, then try again")
        time.sleep(0.05)
    with _locked(site.lock, fcntl.LOCK_EX):
        os.truncate(site.lock, 0)
        remove(site)
    return was


def running(site: Site) -> bool:
    """Whether any process of the cluster lives. It may not be ready yet."""
    try:
        with _locked(site.lock, fcntl.LOCK_SH | fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True


def is_ready(site: Site) -> bool:
    """Whether pods can be started."""
    owner = _owner(site)
    with contextlib.suppress(FileNotFoundError):
        return owner is not None and site.ready.read_text() == str(owner) and running(site)
    return False


@contextlib.contextmanager
def used(site: Site, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """A cluster, shared with everyone else who uses one. The last who leaves ends it, unless it is to stay."""
    with site.users.open("a+") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            up(site, say)
            yield
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not site.users.read_text():
                    down(site)


def stay(site: Site) -> None:
    """Let the cluster run when nobody uses it, until `end`."""
    site.users.write_text("stays")


def end(site: Site, say: Callable[[str], None]) -> bool:
    """Do as `down`, when nobody uses the cluster any more."""
    with site.users.open("a+") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("tests use the cluster; waiting for their end")
            fcntl.flock(users, fcntl.LOCK_EX)
        users.truncate(0)
        return down(site)


def inside(site: Site, *command: str | Path) -> list[str]:
    """A command line that runs where the node does.

    Raises:
        RuntimeError: no cluster runs.
    """
    outer = _owner(site)
    if outer is None or not running(site):
        raise RuntimeError("no cluster runs: make cluster")
    children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    return ["nsenter", "--target", children[0], "--mount", "--net", "--pid", "--", *map(str, command)]


def _spawn(site: Site, errors: int) -> None:
    """Start a process that becomes the cluster, or ends at once where another did."""
    site.lock.parent.mkdir(parents=True, exist_ok=True)
    command = ["setsid", "--fork", sys.executable, "-m", "tests.services.kubernetes.node", "enter", str(site.number)]
    subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, check=True)


def _kill(site: Site) -> None:
    """Kill the first of its processes, and wait for that: the kernel ends the others."""
    owner = _owner(site)
    if owner is None:
        return
    try:
        watch = os.pidfd_open(owner)
    except ProcessLookupError:
        return
    try:
        # While its lock is held and its number is in there, the number is its own.
        if running(site) and _owner(site) == owner:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(watch, signal.SIGKILL)
            select.select([watch], [], [], 30)
    finally:
        os.close(watch)


def _owner(site: Site) -> int | None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(site.lock.read_text())
    return None


def _log(site: Site) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return node_log(site).read_text(errors="replace").splitlines()
    return []


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, how)
        yield
