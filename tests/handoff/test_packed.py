"""Packed outputs of jobs, and jobs that read packed inputs, under every storage design."""

from __future__ import annotations

import sys

import pytest

from datalayer import DataLayer
from datalayer.errors import NotPublishedError
from datalayer.handoff.context import InputSpec, OutputSpec, TaskContext
from datalayer.handoff.job_config import context_from_job_config
from datalayer.handoff.task import Task
from tests.handoff.conftest import Bench

FILES = {f"in/{number:03}": str(number).encode() * 5 for number in range(40)} | {"empty": b""}

SDK_JOB = """
from datalayer import open_task

with open_task() as task:
    for name, data in task.input("extract").read_many():
        with task.output().open(name) as file:
            file.write(data * 2)
"""

SHELL_JOB = """
cd "$DATALAYER_IN/extract/default"
mkdir "$DATALAYER_OUT/default/in"
for name in in/* empty; do cat "$name" "$name" > "$DATALAYER_OUT/default/$name"; done
"""


@pytest.mark.parametrize("command", [[sys.executable, "-c", SDK_JOB], ["sh", "-euc", SHELL_JOB]], ids=["sdk", "sh"])
def test_a_job_reads_and_writes_packs(bench: Bench, command: list[str]) -> None:
    with bench.layer.publish(bench.key("extract")) as attempt:
        for name, data in FILES.items():
            attempt.output(packed=True).put(name, data)
    context = bench.context(inputs={"extract": InputSpec()}, outputs={"default": OutputSpec(packed=True)})
    result = bench.run(context, *command)
    assert (result.exit_code, result.report.error) == (0, None)
    assert bench.files() == {name: data * 2 for name, data in FILES.items()}
    # Files that a job writes in place on a mounted tier lie there as it wrote them.
    mounted = bench.layer.design.name == "shared-fs"
    assert bench.layer.resolve(bench.key("job"))["default"].packed is not mounted


def test_a_task_that_commits_itself_packs(bench: Bench) -> None:
    context = bench.context(outputs={"default": OutputSpec(packed=True)})
    with Task(context, bench.layer) as task:
        task.output().put("a", b"1")
        task.output().put("b", b"2")
    found = bench.layer.resolve(bench.key("job"))["default"]
    assert (found.packed, dict(found.read_many())) == (True, {"a": b"1", "b": b"2"})


def test_a_job_config_says_packed(volume: Bench) -> None:
    context: TaskContext = context_from_job_config({"output": {"days": {"packed": True}}}, volume.key("job"))
    assert context.outputs == {"days": OutputSpec(packed=True)}
    assert b'"packed": true' in context.encode()
    assert isinstance(volume.layer, DataLayer)


BOTH = """
for alias in one other; do cat "$DATALAYER_IN/$alias/default/empty" "$DATALAYER_IN/$alias/default/in/"*; done > "$DATALAYER_OUT/default/all"
"""


def test_a_packed_input_under_two_aliases_is_in_both_folders(bench: Bench) -> None:
    with bench.layer.publish(bench.key("extract")) as attempt:
        for name, data in FILES.items():
            attempt.output(packed=True).put(name, data)
    same = str(bench.key("extract"))
    context = bench.context(inputs={"one": InputSpec(key=same), "other": InputSpec(key=same)})
    result = bench.run(context, "sh", "-euc", BOTH)
    assert (result.exit_code, result.report.error) == (0, None)
    whole = b"".join(data for _, data in sorted(FILES.items()))
    assert bench.files() == {"all": whole * 2}


FORGETFUL = """
from datalayer import open_task

task = open_task()
task.output().put("a", b"1")
"""


def test_a_pack_that_is_never_closed_is_not_committed_without_its_files(s3_direct: Bench) -> None:
    context = s3_direct.context(outputs={"default": OutputSpec(packed=True)})
    result = s3_direct.run(context, sys.executable, "-c", FORGETFUL)
    assert result.report.error is not None
    assert "never closed" in result.report.error.message
    with pytest.raises(NotPublishedError):
        s3_direct.layer.resolve(s3_direct.key("job"))
