"""A job's process: started in a process group of its own, with signals passed on and nothing of it left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType
    from typing import Any, Self

TERMINATING = (signal.SIGTERM, signal.SIGINT)
"""Told to end by one of these, a job is never committed, whatever its exit code."""

_FORWARDED = (*TERMINATING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_HARMLESS = (signal.SIGUSR1, signal.SIGUSR2)

COMMAND_NOT_EXECUTABLE = 126
COMMAND_NOT_FOUND = 127


class TerminatedError(KeyboardInterrupt):
    """This process was told to end. Not an ``Exception``: nothing on the way may take it for a failure and go on.

    Args:
        number: The signal.
        why: What is behind it, where that is known.
    """

    def __init__(self, number: int, why: str = "") -> None:
        super().__init__(why or f"told to end by {signal.Signals(number).name}")
        self.number = number


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    """Its exit code, or 128 + n where signal n ended it, as shells have it."""
    peak_memory: int | None
    """Bytes: the largest resident size of any one of its processes; not less than this process's own when it started the command."""


class Signals:
    """Receives this process's signals while a job runs.

    While a command runs they are passed on to its process group. Before and after that, one that asks to end raises
    :class:`TerminatedError` in the main thread, but not between :meth:`hold` and :meth:`release`. Outside the main thread Python has no
    signal handlers, so nothing is received there.
    """

    def __init__(self) -> None:
        self.terminated: int | None = None
        """The first signal that asked to end, if one did."""
        self._raised = False
        self._held = False
        self._group: int | None = None
        self._early: list[int] | None = None
        self._bell: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _FORWARDED:
                # One that is ignored stays so: that is how nohup works.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise if this process was told to end.

        Raises:
            TerminatedError: It was.
        """
        self._raise_once()

    def hold(self) -> None:
        """From here on nothing is interrupted.

        Raises:
            TerminatedError: It was told to end before.
        """
        self._held = True
        self._raise_once()

    def release(self) -> None:
        """End of :meth:`hold`.

        Raises:
            TerminatedError: It was told to end meanwhile.
        """
        self._held = False
        self._raise_once()

    def answer(self, bell: Callable[[], None] | None) -> None:
        """From here on SIGTERM does not ask to end: it calls ``bell``. With None it asks to end again."""
        self._bell = bell

    def finish(self) -> None:
        """The work is done: whatever comes now comes too late to change what is reported."""
        self._held = True

    @contextlib.contextmanager
    def passed_on(self) -> Iterator[None]:
        """While the block runs nothing is raised: what comes is passed on to the group that :meth:`attach` names."""
        self._held = True
        self._early = []
        try:
            yield
        finally:
            self._early = None
            self._group = None
            self._held = False

    def attach(self, group: int) -> None:
        """Pass on from here on, and what came since the block began."""
        self._group = group
        # The command may be at work already, and have been answered with a signal, before this process knows its number.
        for number in self._early or ():
            _send(group, number)

    def detach(self) -> None:
        """Pass on to nobody any more: the group's number may soon be another's."""
        self._group = None

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if self._bell is not None and number == signal.SIGTERM:
            self._bell()
        elif self._early is not None:
            if number in TERMINATING:
                self.terminated = self.terminated or number
            if self._group is None:
                self._early.append(number)
            else:
                _send(self._group, number)
        elif number not in _HARMLESS:
            self.terminated = self.terminated or number
            if not self._held:
                self._raise_once()

    def _raise_once(self) -> None:
        if self.terminated is not None and not self._raised:
            self._raised = True
            raise TerminatedError(self.terminated)


def run_command(command: Sequence[str], environment: Mapping[str, str], signals: Signals) -> Ended:
    """Run a command to its end and return how it ended. What it left running in its process group is killed.

    Args:
        command: Program and arguments; no shell.
        environment: The whole environment.
        signals: Passes signals on meanwhile.
    """
    with signals.passed_on():
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                process_group=0,
                # In a background process group, reading from the terminal would stop the job for good.
                stdin=subprocess.DEVNULL if sys.stdin is None or sys.stdin.isatty() else None,
            )
        except FileNotFoundError:
            return Ended(COMMAND_NOT_FOUND, None)
        except OSError:
            return Ended(COMMAND_NOT_EXECUTABLE, None)
        signals.attach(process.pid)
        # Not reaped yet, so that its number, which is also its group's, cannot pass to another process before the group is killed.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # A child left behind must neither hold us up nor go on writing into what is about to be committed.
        _send(process.pid, signal.SIGKILL)
        signals.detach()
        _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    return Ended(code if code >= 0 else 128 - code, usage.ru_maxrss * 1024)


def _send(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
