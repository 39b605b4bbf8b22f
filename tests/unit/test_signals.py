"""Signals that come in awkward moments."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from datalayer.handoff.process import Signals, TerminatedError, run_command


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """What a shell's `&` or `nohup` has this process ignore is listened to here, as it is in a pod."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def waiting() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1000"], process_group=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_one_that_comes_before_the_command_s_number_is_known_is_passed_on(number: signal.Signals) -> None:
    with Signals() as signals, signals.passed_on():
        os.kill(os.getpid(), number)
        process = waiting()
        signals.attach(process.pid)
        assert process.wait() == -number
    asked_to_end = number in {signal.SIGTERM, signal.SIGINT}
    assert signals.terminated == (number if asked_to_end else None)
    if asked_to_end:
        with pytest.raises(TerminatedError):
            signals.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_without_a_command_it_interrupts_once(number: signal.Signals) -> None:
    with Signals() as signals:
        with pytest.raises(TerminatedError, match=number.name):
            os.kill(os.getpid(), number)
        # Cleaning up is not interrupted by a second one.
        os.kill(os.getpid(), number)
        signals.check()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_without_a_command_some_mean_nothing(number: signal.Signals) -> None:
    with Signals() as signals:
        os.kill(os.getpid(), number)
        signals.check()


def test_held_back_and_raised_at_the_release() -> None:
    with Signals() as signals:
        signals.hold()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(TerminatedError):
            signals.release()


def test_after_the_end_nothing_is_raised() -> None:
    with Signals() as signals:
        signals.finish()
        os.kill(os.getpid(), signal.SIGTERM)


def test_handlers_are_put_back_and_one_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    others = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.terminated is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert {number: signal.getsignal(number) for number in others} == others
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_commands_run_all_the_same() -> None:
    codes = []

    def work() -> None:
        with Signals() as signals:
            codes.append(run_command(["sh", "-c", "exit 3"], os.environ, signals).code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [3]
