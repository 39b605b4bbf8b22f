"""F1: told to end in the middle of a job. Never a success; nothing visible."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datalayer import DataLayer, NotPublishedError, TaskKey
from datalayer.handoff.context import InputSpec, OutputSpec, TaskContext
from datalayer.handoff.report import TaskReport, decode_report
from tests.behaviour.conftest import RUN, s3_config, volume_layer
from tests.behaviour.environment import environment_of
from tests.services.faultproxy import Fault, FaultProxy
from tests.services.s3server import S3Server

KEY = TaskKey("team", "dag", "job", RUN)
ROOT = Path(__file__).parents[2]


class Wrapper:
    """A wrapper process around a command."""

    def __init__(self, layer: DataLayer, folder: Path, script: str, inputs: tuple[str, ...] = ()) -> None:
        self.layer = layer
        self.folder = folder
        context = TaskContext(
            key=str(KEY), inputs={name: InputSpec() for name in inputs}, outputs={"default": OutputSpec()}
        )
        (folder / "context.json").write_bytes(context.encode())
        command = ["-m", "tests.handoff.wrapper_process", folder / "context.json", folder / "report.json"]
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command), "sh", "-uc", script], cwd=ROOT, env=environment_of(layer)
        )

    def wait_for(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; a wrapper that ends before is a failure."""
        while not holds():
            assert self.process.poll() is None, self.report()
            time.sleep(0.01)

    def report(self) -> TaskReport:
        return decode_report((self.folder / "report.json").read_bytes())

    def end(self) -> int:
        return self.process.wait()

    def left(self) -> list[str]:
        found = self.layer.data.list(f"{KEY.path}/attempts")
        return [info.path for info in found if not info.path.endswith("/claim.json")]

    def assert_nothing_is_committed(self) -> None:
        with pytest.raises(NotPublishedError):
            self.layer.resolve(KEY)
        assert self.left() == []
        assert not list((self.folder / "work").iterdir())
        report = self.report()
        assert (report.state, report.digest) == ("terminated", None)
        assert report.error is not None
        assert (report.error.type, report.error.retryable) == ("Terminated", True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Wrapper]]:
    started: list[Wrapper] = []

    def make(script: str, layer: DataLayer | None = None, **rest: tuple[str, ...]) -> Wrapper:
        started.append(Wrapper(layer or volume_layer(tmp_path / "volume"), tmp_path, script, **rest))
        return started[-1]

    yield make
    for wrapper in started:
        wrapper.process.kill()
        wrapper.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_f01_a_job_that_is_told_to_end_is_not_committed_even_if_it_ends_well(
    start: Callable[..., Wrapper], tmp_path: Path, number: signal.Signals
) -> None:
    script = f"""
    trap 'echo told > {tmp_path}/told; exit 0' TERM INT
    echo x > $DATALAYER_OUT/default/x
    touch {tmp_path}/ready
    while :; do sleep 0.02; done
    """
    wrapper = start(script)
    wrapper.wait_for((tmp_path / "ready").exists)
    os.kill(wrapper.process.pid, number)
    assert wrapper.end() == 128 + number
    assert (tmp_path / "told").read_text() == "told\n"
    assert wrapper.report().command_exit_code == 0
    wrapper.assert_nothing_is_committed()


def test_f01_a_job_that_is_ended_by_the_signal(start: Callable[..., Wrapper], tmp_path: Path) -> None:
    wrapper = start(f"echo x > $DATALAYER_OUT/default/x; touch {tmp_path}/ready; sleep 1000")
    wrapper.wait_for((tmp_path / "ready").exists)
    wrapper.process.terminate()
    assert wrapper.end() == 143
    assert wrapper.report().command_exit_code == 143
    wrapper.assert_nothing_is_committed()


def test_f01_children_of_the_command_are_told_too(start: Callable[..., Wrapper], tmp_path: Path) -> None:
    inner = f"trap 'echo told > {tmp_path}/told; exit 0' TERM; touch {tmp_path}/ready; while :; do sleep 0.02; done"
    wrapper = start(f'sh -c "{inner}" & trap : TERM; wait; wait; echo x > $DATALAYER_OUT/default/x')
    wrapper.wait_for((tmp_path / "ready").exists)
    wrapper.process.terminate()
    assert wrapper.end() == 143
    assert (tmp_path / "told").exists()
    wrapper.assert_nothing_is_committed()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_f01_other_signals_are_passed_on_and_end_nothing(
    start: Callable[..., Wrapper], tmp_path: Path, number: signal.Signals
) -> None:
    script = f"""
    trap 'touch {tmp_path}/told' HUP USR1 USR2
    touch {tmp_path}/ready
    while ! test -e {tmp_path}/told; do sleep 0.02; done
    echo x > $DATALAYER_OUT/default/x
    """
    wrapper = start(script)
    wrapper.wait_for((tmp_path / "ready").exists)
    os.kill(wrapper.process.pid, number)
    assert wrapper.end() == 0
    assert wrapper.layer.resolve(KEY)["default"].read_bytes("x") == b"x\n"


@pytest.fixture
def held_back(fault_proxy: FaultProxy) -> Iterator[Callable[[str], threading.Event]]:
    """Makes the proxy keep a request for a path back until the event that is returned is set."""
    gate = threading.Event()

    def hold(path: str) -> threading.Event:
        fault_proxy.script(Fault(before=lambda _: _ignore(gate.wait())), path=path, times=-1)
        return gate

    yield hold
    gate.set()


def _ignore(_: object) -> None:
    pass


def test_f01_told_to_end_while_inputs_arrive(
    start: Callable[..., Wrapper],
    versitygw: S3Server,
    fault_proxy: FaultProxy,
    held_back: Callable[[str], threading.Event],
    tmp_path: Path,
) -> None:
    direct = DataLayer(s3_config(versitygw, versitygw.new_bucket()))
    with direct.publish(TaskKey("team", "dag", "upstream", RUN)) as attempt:
        attempt.output().put("input-file", b"x" * 100)
    slow = DataLayer(s3_config(versitygw, direct.home.root.authority, fault_proxy.endpoint))
    gate = held_back("/input-file")
    wrapper = start(f"touch {tmp_path}/started; echo x > $DATALAYER_OUT/default/x", slow, inputs=("upstream",))
    wrapper.wait_for(lambda: fault_proxy.count("GET", "/input-file") > 0)
    wrapper.process.terminate()
    gate.set()
    assert wrapper.end() == 143
    assert not (tmp_path / "started").exists()
    wrapper.layer = direct
    wrapper.assert_nothing_is_committed()


def test_f01_told_to_end_while_outputs_are_uploaded(
    start: Callable[..., Wrapper],
    versitygw: S3Server,
    fault_proxy: FaultProxy,
    held_back: Callable[[str], threading.Event],
) -> None:
    direct = DataLayer(s3_config(versitygw, versitygw.new_bucket()))
    slow = DataLayer(s3_config(versitygw, direct.home.root.authority, fault_proxy.endpoint))
    gate = held_back("/slow-file")
    wrapper = start("echo x > $DATALAYER_OUT/default/quick; echo x > $DATALAYER_OUT/default/slow-file", slow)
    wrapper.wait_for(lambda: fault_proxy.count("PUT", "/slow-file") > 0)
    wrapper.process.terminate()
    gate.set()
    assert wrapper.end() == 143
    wrapper.layer = direct
    wrapper.assert_nothing_is_committed()


def test_f01_told_to_end_during_the_commit_the_commit_is_finished_and_known(
    start: Callable[..., Wrapper],
    versitygw: S3Server,
    fault_proxy: FaultProxy,
    held_back: Callable[[str], threading.Event],
) -> None:
    direct = DataLayer(s3_config(versitygw, versitygw.new_bucket()))
    slow = DataLayer(s3_config(versitygw, direct.home.root.authority, fault_proxy.endpoint))
    gate = held_back("/manifest.json")
    wrapper = start("echo x > $DATALAYER_OUT/default/x", slow)
    wrapper.wait_for(lambda: fault_proxy.count("PUT", "/manifest.json") > 0)
    wrapper.process.terminate()
    gate.set()
    # The head names this attempt and nothing was left to do: that is a success, and nobody need run it again.
    assert wrapper.end() == 0
    committed = direct.resolve(KEY)
    report = wrapper.report()
    assert (report.state, report.digest, report.attempt) == ("succeeded", committed.digest, 1)
    assert committed["default"].read_bytes("x") == b"x\n"
