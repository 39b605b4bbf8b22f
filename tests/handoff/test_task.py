"""`open_task()` in a job that nobody wraps, and the errors it gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from datalayer import ConfigError, HandoffError, NotPublishedError, PublishError, ResolutionError, VerificationError
from datalayer.errors import CommitConflictError
from datalayer.handoff.context import AttemptRef, InputSpec, TaskContext, context_config
from datalayer.handoff.task import Task, open_task
from tests.handoff.conftest import Bench


def opened(bench: Bench, tmp_path: Path, context: TaskContext) -> Task:
    path = tmp_path / "context.json"
    path.write_bytes(context.encode())
    return open_task(layer=bench.layer, environ={"DATALAYER_CONTEXT": str(path)})


def test_the_block_commits_when_it_ends_well(bench: Bench, tmp_path: Path) -> None:
    bench.publish(bench.key("extract"), {"f": b"x"})
    context = bench.context(inputs={"extract": InputSpec()}, owner="ti")
    with opened(bench, tmp_path, context) as task:
        assert task.key == bench.key("job")
        found = task.input("extract")
        assert found.read_bytes("f") == b"x"
        assert (found.path is None) == (bench.layer.design.name == "s3-direct")
        task.output().put("y", found.read_bytes("f") * 2)
        with pytest.raises(NotPublishedError):
            bench.layer.resolve(bench.key("job"))
    resolution = bench.layer.resolve(bench.key("job"))
    assert bench.files() == {"y": b"xx"}
    assert resolution.manifest.inputs == [bench.layer.resolve(bench.key("extract")).pin("extract")]
    assert resolution.manifest.producer.owner == "ti"
    # A copy that was made for the block is gone with it.
    assert found.path is None or bench.layer.design.in_place or not found.path.exists()


def test_the_block_drops_what_it_staged_when_it_raises(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opened(bench, tmp_path, bench.context()) as task:
        task.output().put("x", b"x")
        1 / 0  # noqa: B018  # an exception is all it is for
    with pytest.raises(NotPublishedError):
        bench.files()
    assert bench.staged() == []


def test_a_declared_output_that_was_not_written_is_an_error(bench: Bench, tmp_path: Path) -> None:
    context = bench.context(outputs=("default", "second"))
    with pytest.raises(VerificationError, match="output 'second'"), opened(bench, tmp_path, context) as task:
        task.output().put("x", b"x")
    with pytest.raises(NotPublishedError):
        bench.files()


def test_outside_the_block_nothing_can_be_written(volume: Bench, tmp_path: Path) -> None:
    task = opened(volume, tmp_path, volume.context())
    with pytest.raises(HandoffError, match="nobody would commit this output"):
        task.output()
    with pytest.raises(HandoffError, match=r"declares no output 'other' \(declared: default\)"):
        task.output("other")


def test_what_the_context_does_not_name(volume: Bench, tmp_path: Path) -> None:
    for index in range(2):
        volume.publish(volume.key("mapped", map_index=index), {"f": str(index).encode()})
    inputs = {"mapped": InputSpec(map_indexes=[0, 1], outputs=["default"]), "gone": InputSpec(optional=True)}
    task = opened(volume, tmp_path, volume.context(inputs=inputs))
    with pytest.raises(HandoffError, match=r"names no input 'other' \(it names: gone, mapped\)"):
        task.input("other")
    with pytest.raises(HandoffError, match=r"2 task instances: use task.inputs\('mapped'\)"):
        task.input("mapped")
    with pytest.raises(HandoffError, match="asks only for default of input 'mapped'"):
        task.inputs("mapped", "csv")
    with pytest.raises(NotPublishedError, match="optional input 'gone'"):
        task.input("gone")
    assert task.inputs("gone") == []
    assert [found.read_bytes("f") for found in task.inputs("mapped")] == [b"0", b"1"]
    assert [found.resolution.key.map_index for found in task.inputs("mapped")] == [0, 1]


def test_an_output_of_an_input_that_is_not_there(volume: Bench, tmp_path: Path) -> None:
    volume.publish(volume.key("extract"), {"f": b"x"})
    task = opened(volume, tmp_path, volume.context(inputs={"extract": InputSpec()}))
    with pytest.raises(ResolutionError, match="has no output 'csv'"):
        task.input("extract", "csv")


@pytest.mark.parametrize("environ", [{}, {"DATALAYER_CONTEXT": ""}])
def test_without_a_context_it_says_what_to_do(environ: Mapping[str, str]) -> None:
    with pytest.raises(HandoffError, match=r"DATALAYER_CONTEXT is not set.*datalayer run.*DataLayer\(config\)"):
        open_task(environ=environ)


def test_a_context_for_a_wrapped_job_needs_its_wrapper(volume: Bench, tmp_path: Path) -> None:
    context = volume.context(commit="wrapper", attempt=AttemptRef(1, "nonce"))
    with pytest.raises(HandoffError, match="DATALAYER_IN, DATALAYER_OUT, DATALAYER_INTERNAL_JOURNAL is not set"):
        opened(volume, tmp_path, context)


def test_the_configuration_comes_from_the_context(
    volume: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATALAYER_DESIGN", "s3-poc")
    path = tmp_path / "context.json"
    path.write_bytes(volume.context(config=context_config(volume.layer.config)).encode())
    with open_task(environ={"DATALAYER_CONTEXT": str(path)}) as task:
        assert task.layer.design.name == "shared-fs"
        task.output().put("x", b"x")
    assert volume.files() == {"x": b"x"}


def test_a_claimed_attempt(bench: Bench, tmp_path: Path) -> None:
    claim = bench.layer.publish(bench.key("job")).claim
    context = bench.context(attempt=AttemptRef(1, claim.nonce))
    bench.layer.data.put(f"{bench.key('job').path}/attempts/1/default/of an earlier start", b"x")
    with opened(bench, tmp_path, context) as task:
        task.output().put("x", b"x")
    assert bench.files() == {"x": b"x"}
    with pytest.raises(CommitConflictError, match="has committed already"):
        opened(bench, tmp_path, context).__enter__()
    with pytest.raises(CommitConflictError, match="not claimed by this context"):
        opened(bench, tmp_path, bench.context(attempt=AttemptRef(1, "other"))).__enter__()


def test_an_unknown_connection_of_a_destination_is_an_error_at_the_start(volume: Bench, tmp_path: Path) -> None:
    from datalayer.handoff.context import OutputSpec
    from datalayer.handoff.destinations import Destination, S3Place

    context = volume.context(outputs={"default": OutputSpec([Destination("s3", S3Place("bucket", "p", "none"))])})
    with pytest.raises(ConfigError, match="no connection named 'none'"), opened(volume, tmp_path, context):
        pytest.fail("the block must not run")


def test_a_file_left_open_is_an_error(volume: Bench, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="never closed"), opened(volume, tmp_path, volume.context()) as task:
        task.output().open("half").write(b"x")
