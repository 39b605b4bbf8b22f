"""F2: the publishing process is killed at any request. A reader sees the generation before or the new one, whole; nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datalayer import DataLayer, TaskKey
from tests.behaviour.conftest import RUN, s3_config, volume_layer
from tests.behaviour.environment import environment_of
from tests.behaviour.generations import publish, read_generation
from tests.services.faultproxy import Fault, FaultProxy, Request
from tests.services.s3server import S3Server

# What Python tells of its calls to the file system; each is a place where the process may end.
_CALLS = {"open", "os.link", "os.rename", "os.mkdir", "os.remove", "os.listdir", "os.scandir", "os.rmdir"}


def run_until_call(layer: DataLayer, key: TaskKey, generation: int, fatal: int) -> int | None:
    """Publish in a child process that kills itself at its `fatal`-th call; return None if it was killed, else its exit code."""
    child = os.fork()
    if child == 0:  # pragma: no cover  # measured in no child
        seen = 0

        def hook(event: str, _arguments: object) -> None:
            nonlocal seen
            if event in _CALLS:
                seen += 1
                if seen == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            sys.addaudithook(hook)
            publish(layer, key, generation)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("superseding", [False, True], ids=["first", "superseding"])
def test_f02_killed_at_every_call_of_a_publish_to_a_volume(tmp_path: Path, superseding: bool) -> None:
    layer = volume_layer(tmp_path / "volume")
    kills = 0
    while True:
        key = TaskKey("t", "d", "k", RUN, kills)
        before = 200 if superseding else None
        if before:
            publish(layer, key, before)
        generation = 1 + kills % 100
        outcome = run_until_call(layer, key, generation, kills + 1)
        seen = read_generation(volume_layer(tmp_path / "volume"), key)
        if outcome is not None:
            assert outcome == 0, "the publisher failed by itself"
            assert seen == generation
            break
        assert seen in {before, generation}
        kills += 1
    assert kills > 15, "the hook saw too few calls to have been in the way"
    assert read_generation(layer, key) == generation
    publish(layer, key, 250)
    assert read_generation(layer, key) == 250


def publishing_process(layer: DataLayer, endpoint: str, key: TaskKey, generation: int) -> subprocess.Popen[str]:
    environ = environment_of(layer, endpoint=endpoint)
    command = [sys.executable, "-m", "tests.behaviour.publishing_process", str(key), str(generation)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, env=environ, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_points(most: int) -> Iterator[tuple[int, bool]]:
    for index in range(most):
        yield index, False
        yield index, True


def kill_at_every_request(layer: DataLayer, proxy: FaultProxy, before: int | None) -> int:
    """Publish again and again, killed at the next place each time; return how many kills it took until one got through."""
    for kills, (index, applied) in enumerate(kill_points(200)):
        key = TaskKey("t", "d", "k", RUN, kills)
        if before:
            publish(layer, key, before)
        generation = 1 + kills % 100
        victims: list[subprocess.Popen[str]] = []

        def kill(_request: Request, victims: list[subprocess.Popen[str]] = victims) -> None:
            victims[0].kill()
            victims[0].wait()

        proxy.reset()
        proxy.script(
            Fault(after=kill, drop_answer=True) if applied else Fault(before=kill, drop_request=True), skip=index
        )
        victims.append(publishing_process(layer, proxy.endpoint, key, generation))
        output, errors = victims[0].communicate(timeout=60)
        seen = read_generation(layer, key)
        if victims[0].returncode != -signal.SIGKILL:
            assert victims[0].returncode == 0, errors
            assert output.strip().isdigit()
            assert seen == generation
            publish(layer, key, 250)
            assert read_generation(layer, key) == 250
            return kills
        assert seen in {before, generation}
    pytest.fail("no publish got through in 200 kills")


@pytest.mark.parametrize("superseding", [False, True], ids=["first", "superseding"])
def test_f02_killed_at_every_request_of_a_publish_to_s3(
    versitygw: S3Server, fault_proxy: FaultProxy, superseding: bool
) -> None:
    layer = DataLayer(s3_config(versitygw, versitygw.new_bucket()))
    assert kill_at_every_request(layer, fault_proxy, 200 if superseding else None) > 10
