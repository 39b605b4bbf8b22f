"""`run`: real commands under every storage design."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from datalayer import CommitConflictError, DataLayer, NotPublishedError
from datalayer.commit.claims import claim_attempt
from datalayer.handoff.context import AttemptRef, InputSpec, OutputSpec, ProducerSpec, read_context
from datalayer.handoff.report import decode_report
from datalayer.handoff.runner import run
from tests.behaviour.conftest import s3_config
from tests.handoff.conftest import Bench
from tests.services.process import free_port
from tests.services.s3server import S3Server

PYTHON_JOB = """
from datalayer import open_task

with open_task() as task:
    lines = task.input("extract").read_bytes("a b.txt") + task.input("extract").open("deep/er.txt").read()
    with task.output().open("out/lines.txt", "w") as file:
        file.write(lines.decode().upper())
    task.output("extra").put("empty", b"")
"""

SHELL_JOB = """
cd "$DATALAYER_IN/extract/default"
mkdir "$DATALAYER_OUT/default/out"
cat "a b.txt" deep/er.txt | tr a-z A-Z > "$DATALAYER_OUT/default/out/lines.txt"
: > "$DATALAYER_OUT/extra/empty"
"""


@pytest.mark.parametrize("command", [[sys.executable, "-c", PYTHON_JOB], ["sh", "-euc", SHELL_JOB]], ids=["sdk", "sh"])
def test_a_job_of_any_language_reads_inputs_and_has_its_outputs_committed(bench: Bench, command: list[str]) -> None:
    bench.publish(bench.key("extract"), {"a b.txt": b"one\n", "deep/er.txt": b"two\n"})
    context = bench.context(
        inputs={"extract": InputSpec()},
        outputs=("default", "extra"),
        owner="ti-1",
        producer=ProducerSpec(operator="SomeOperator", image="job:1"),
    )
    result = bench.run(context, *command)
    assert (result.exit_code, result.report.error) == (0, None)
    assert bench.files() == {"out/lines.txt": b"ONE\nTWO\n"}
    assert bench.files(output="extra") == {"empty": b""}
    resolution, upstream = bench.layer.resolve(bench.key("job")), bench.layer.resolve(bench.key("extract"))
    assert resolution.manifest.inputs == [upstream.pin("extract")]
    assert resolution.manifest.producer.owner == "ti-1"
    assert resolution.manifest.producer.image == "job:1"
    entry = resolution["default"].entry("out/lines.txt")
    assert entry.checksum is not None
    report = decode_report((bench.work / "report.json").read_bytes())
    assert (report.state, report.attempt, report.digest) == ("succeeded", 1, resolution.digest)
    assert report.outputs["default"].bytes == 8
    assert report.peak_memory
    assert report.receipt[resolution["default"].output.tier].calls["put"] >= 2
    steps = {"inputs", "command", "commit", "delivery", "total"}
    assert set(report.seconds) == steps | ({"hot"} if bench.layer.design.name == "hot-cold" else set())
    # The run's own folder is gone; only the report stays.
    assert [path.name for path in bench.work.iterdir()] == ["report.json"]


def test_the_report_says_where_the_manifest_lies(bench: Bench) -> None:
    report = bench.shell("echo x > $DATALAYER_OUT/default/x").report
    assert report.head is not None
    home = bench.layer.home
    data, _ = home.get(report.head.removeprefix(f"{home.location()}").lstrip("/"))
    assert json.loads(data)["manifest"]["attempt"] == report.attempt


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 3", 3), ("exit 75", 75), ("kill -KILL $$", 137), ("kill -TERM $$", 143)],
)
def test_the_exit_code_is_passed_on_and_nothing_is_committed(volume: Bench, script: str, code: int) -> None:
    result = volume.shell(f"echo x > $DATALAYER_OUT/default/x; {script}")
    assert (result.exit_code, result.report.command_exit_code, result.report.state) == (code, code, "failed")
    assert result.report.error is not None
    assert (result.report.error.type, result.report.error.retryable) == ("CommandFailed", True)
    with pytest.raises(NotPublishedError):
        volume.files()
    assert volume.staged() == []


def test_a_command_that_cannot_be_started(volume: Bench, tmp_path: Path) -> None:
    assert volume.run(volume.context(), "/no/such/program").exit_code == 127
    plain = tmp_path / "plain"
    plain.write_text("not executable")
    assert volume.run(volume.context(), str(plain)).exit_code == 126
    result = volume.run(volume.context())
    assert result.exit_code == 78
    assert "no command" in str(result.report.error)


def test_a_missing_input_is_an_error_before_the_command_starts(bench: Bench, tmp_path: Path) -> None:
    result = bench.shell(f"touch {tmp_path}/started", bench.context(inputs={"extract": InputSpec()}))
    assert result.exit_code == 66
    assert result.report.error is not None
    assert result.report.error.type == "NotPublishedError"
    assert "/team/dag/extract/20130101T000000Z" in result.report.error.message
    assert not (tmp_path / "started").exists()
    assert result.report.command_exit_code is None
    # Not even a number was taken.
    assert result.report.attempt is None


def test_an_unreachable_store_ends_with_75(versitygw: S3Server, tmp_path: Path) -> None:
    config = s3_config(versitygw, "nowhere", f"http://127.0.0.1:{free_port()}", timeout=1, deadline=2)
    result = Bench(DataLayer(config), tmp_path / "work").shell("true")
    assert result.exit_code == 75
    assert result.report.error is not None
    assert result.report.error.retryable


def test_wrong_credentials_end_with_77(versitygw: S3Server, tmp_path: Path) -> None:
    config = s3_config(versitygw, versitygw.new_bucket(), secret_access_key="wrong")
    result = Bench(DataLayer(config), tmp_path / "work").shell("true")
    assert (result.exit_code, result.report.state) == (77, "failed")


def test_a_declared_output_without_a_file_is_an_error(bench: Bench) -> None:
    result = bench.shell("echo x > $DATALAYER_OUT/default/x", bench.context(outputs=("default", "second")))
    assert result.exit_code == 65
    assert "output 'second'" in str(result.report.error)
    with pytest.raises(NotPublishedError):
        bench.files()
    assert bench.staged() == []


def test_zero_rows_are_fine(bench: Bench) -> None:
    job = """
import pyarrow
from datalayer import open_task
open_task().output().write_table(pyarrow.table({"n": pyarrow.array([], pyarrow.int64())}))
"""
    assert bench.run(bench.context(), sys.executable, "-c", job).exit_code == 0
    output = bench.layer.resolve(bench.key("job"))["default"]
    assert output.output.rows == 0
    assert output.output.schema is not None
    assert (output.output.schema[0].name, output.output.schema[0].type) == ("n", "int64")
    assert output.dataset().count_rows() == 0


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("ln -s /etc/passwd $DATALAYER_OUT/default/leak", "symbolic link"),
        ("mkdir $DATALAYER_OUT/default/d; ln -s /etc $DATALAYER_OUT/default/d/etc", "symbolic link"),
        ("mkfifo $DATALAYER_OUT/default/pipe", "special file"),
        ("echo x > $DATALAYER_OUT/stray", "no declared output"),
        ("rm -r $DATALAYER_OUT/default; ln -s /etc $DATALAYER_OUT/default", "leave the folder"),
        ("rm -r $DATALAYER_OUT/default; echo x > $DATALAYER_OUT/default", "leave the folder"),
        ("rm -r $DATALAYER_OUT/default", "leave the folder"),
        ("printf x > \"$DATALAYER_OUT/default/new$(printf '\\nline')\"", "control character"),
        ("printf x > \"$DATALAYER_OUT/default/$(printf 'no-utf8-\\377')\"", "not valid Unicode"),
    ],
)
def test_what_cannot_be_committed_is_refused(bench: Bench, script: str, said: str) -> None:
    result = bench.shell(f"echo x > $DATALAYER_OUT/default/x; {script}")
    assert result.exit_code == 65, result.report.error
    assert said in str(result.report.error)
    with pytest.raises(NotPublishedError):
        bench.files()


def test_hostile_file_names_come_through_as_they_are(bench: Bench) -> None:
    names = [
        "%2e%2e",
        "..x",
        "a=b/part 0%.parquet",
        "n\u00e9",
        "ne\u0301",
        "-rf",
        "*",
        "$HOME",
        "'\"",
        "#?&+ ",
        "_x",
        ".hid",
    ]
    job = (
        "import json, os, pathlib, sys\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    path = pathlib.Path(os.environ['DATALAYER_OUT'], 'default', name)\n"
        "    path.parent.mkdir(exist_ok=True)\n"
        "    path.write_text(name)\n"
    )
    assert bench.run(bench.context("extract"), sys.executable, "-c", job, json.dumps(names)).exit_code == 0
    assert bench.files("extract") == {name: name.encode() for name in names}
    copy = bench.shell(
        "cp -r -L $DATALAYER_IN/extract/default/. $DATALAYER_OUT/default/",
        bench.context("job", {"extract": InputSpec()}),
    )
    assert copy.exit_code == 0, copy.report.error
    assert bench.files("job") == bench.files("extract")


def test_a_folder_that_a_program_made_anew_is_taken_too(volume: Bench) -> None:
    script = "cd $DATALAYER_OUT; rm -r default; mkdir default; echo x > default/x"
    assert volume.shell(script).exit_code == 0
    assert volume.files() == {"x": b"x\n"}


def test_what_a_job_leaves_running_neither_holds_us_up_nor_goes_on(volume: Bench, tmp_path: Path) -> None:
    result = volume.shell(f"sleep 1000 & echo $! > {tmp_path}/pid; echo x > $DATALAYER_OUT/default/x")
    assert result.exit_code == 0
    pid = int((tmp_path / "pid").read_text())
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        time.sleep(0.01)


def test_a_process_that_left_the_group_does_not_hold_us_up(volume: Bench, tmp_path: Path) -> None:
    script = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000' & while ! test -s {tmp_path}/pid; do sleep 0.01; done"
    assert volume.shell(f"{script}; echo x > $DATALAYER_OUT/default/x").exit_code == 0
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_failed_job_of_the_same_owner_starts_a_new_attempt(bench: Bench) -> None:
    context = bench.context(owner="ti-1")
    assert bench.shell("echo old > $DATALAYER_OUT/default/old; exit 1", context).report.attempt == 1
    result = bench.shell("echo x > $DATALAYER_OUT/default/x", context)
    assert (result.exit_code, result.report.attempt) == (0, 2)
    assert bench.files() == {"x": b"x\n"}


def test_an_earlier_start_of_the_same_owner_is_fenced_even_if_it_lives(bench: Bench) -> None:
    earlier = bench.layer.publish(bench.key("job"), owner="ti-1")
    earlier.output().put("of an earlier start", b"x")
    result = bench.shell("echo x > $DATALAYER_OUT/default/x", bench.context(owner="ti-1"))
    assert (result.exit_code, result.report.attempt) == (0, 2)
    assert bench.files() == {"x": b"x\n"}
    with pytest.raises(CommitConflictError):
        earlier.commit()


def test_a_job_that_has_committed_is_not_run_again_for_the_same_owner(bench: Bench, tmp_path: Path) -> None:
    context = bench.context(owner="ti-1")
    first = bench.shell("echo x > $DATALAYER_OUT/default/x", context)
    again = bench.shell(f"touch {tmp_path}/started", context)
    assert (again.exit_code, again.report.state, again.report.digest) == (0, "succeeded", first.report.digest)
    assert not (tmp_path / "started").exists()
    # Superseded since, its own commit is no success any more.
    bench.publish(bench.key("job"), {"x": b"newer"})
    assert bench.shell("true", context).exit_code == 65


def test_a_claimed_attempt_is_the_one_that_is_produced(bench: Bench) -> None:
    claim = bench.layer.publish(bench.key("job"), owner="ti-1").claim
    context = bench.context(attempt=AttemptRef(claim.attempt, claim.nonce), owner="ti-1")
    bench.layer.data.put(f"{bench.key('job').path}/attempts/1/default/of an earlier start", b"x")
    result = bench.shell("echo x > $DATALAYER_OUT/default/x", context)
    assert (result.exit_code, result.report.attempt) == (0, 1)
    assert bench.files() == {"x": b"x\n"}
    assert bench.shell("exit 1", context).exit_code == 0  # Committed: not run again.
    other = bench.context(attempt=AttemptRef(claim.attempt, "another nonce"))
    result = bench.shell("echo x > $DATALAYER_OUT/default/x", other)
    assert result.exit_code == 65
    assert "not claimed by this context" in str(result.report.error)


def test_the_report_goes_where_the_environment_says(
    volume: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "here" / "report.json"
    monkeypatch.setenv("DATALAYER_REPORT", str(path))
    # The command does not inherit the variable: a run inside it would write over the report.
    result = volume.shell("test -z ${DATALAYER_REPORT-}; echo x > $DATALAYER_OUT/default/x")
    assert (result.exit_code, result.report_path) == (0, path)
    assert decode_report(path.read_bytes()) == result.report
    assert [found.name for found in path.parent.iterdir()] == ["report.json"]


def test_without_a_work_folder_nothing_is_left(volume: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    result = run(volume.context(), ["sh", "-c", "echo x > $DATALAYER_OUT/default/x"], layer=volume.layer)
    assert (result.exit_code, result.report_path) == (0, None)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_context_a_job_sees_is_pinned_and_holds_no_secret(s3_direct: Bench, tmp_path: Path) -> None:
    s3_direct.publish(s3_direct.key("extract"), {"x": b"x"})
    context = s3_direct.context(inputs={"extract": InputSpec(access="in-place")}, owner="ti-1")
    script = f"cp $DATALAYER_CONTEXT {tmp_path}/seen.json; ls $DATALAYER_IN > {tmp_path}/ls; echo x > $DATALAYER_OUT/default/x"
    assert s3_direct.shell(script, context).exit_code == 0
    text = (tmp_path / "seen.json").read_text()
    for connection in s3_direct.layer.config.connections.values():
        assert connection.secret_access_key is not None
        assert connection.access_key_id is not None
        assert connection.secret_access_key not in text
        assert connection.access_key_id not in text
    seen = read_context(tmp_path / "seen.json")
    assert seen.commit == "wrapper"
    assert seen.attempt is not None
    assert seen.attempt.number == 1
    upstream = s3_direct.layer.resolve(s3_direct.key("extract"))
    pins = seen.inputs["extract"].pins
    assert pins is not None
    assert (pins[0].key, pins[0].attempt, pins[0].digest, pins[0].tier) == (
        str(upstream.key),
        1,
        upstream.digest,
        "cold",
    )
    # Read in place, nothing was put below the input folder.
    assert (tmp_path / "ls").read_text() == ""
    # And a context for a wrapped job is not for another wrapper.
    result = s3_direct.shell("true", seen)
    assert result.exit_code == 78


def test_on_s3_nothing_is_listed_for_a_job_that_writes_through_the_sdk(s3_direct: Bench) -> None:
    job = "from datalayer import open_task; open_task().output().put('x', b'x')"
    result = s3_direct.run(s3_direct.context(), sys.executable, "-c", job)
    assert result.exit_code == 0
    assert s3_direct.files() == {"x": b"x"}
    # Claim and commit.
    assert result.report.receipt["cold"].calls == {"put": 2}


def test_an_attempt_that_was_claimed_just_now_is_not_looked_over(s3_direct: Bench) -> None:
    job = "from datalayer import open_task; open_task().output().put('x', b'x')"
    for task, fresh, asked in (("one", True, {"get": 1, "put": 1}), ("two", False, {"get": 3, "list": 1, "put": 1})):
        claim = claim_attempt(s3_direct.layer.home, s3_direct.key(task))
        told = s3_direct.context(task, attempt=AttemptRef(1, claim.nonce, fresh=fresh))
        before = s3_direct.layer.receipt.by_tier()
        result = s3_direct.run(told, sys.executable, "-c", job)
        assert result.exit_code == 0, result.report.error
        assert s3_direct.layer.receipt.since(before)["cold"].calls == asked


def test_a_file_that_the_job_left_open_is_an_error(bench: Bench) -> None:
    job = """
from datalayer import open_task
output = open_task().output()
output.put("whole", b"x")
file = output.open("half")
file.write(b"x")
"""
    result = bench.run(bench.context(), sys.executable, "-c", job)
    assert result.exit_code == 65
    assert "file 'half' and never closed" in str(result.report.error)
    dropped = "\ntry:\n    with output.open('dropped') as g: raise OSError\nexcept OSError: pass\nfile.close()\n"
    assert bench.run(bench.context(), sys.executable, "-c", job + dropped).exit_code == 0
    assert bench.files() == {"whole": b"x", "half": b"x"}


def test_files_of_the_sdk_and_of_a_program_are_committed_together(bench: Bench) -> None:
    job = """
import os, pathlib, pyarrow
from datalayer import open_task
open_task().output().write_table(pyarrow.table({"n": [1, 2]}), "sdk.parquet")
pathlib.Path(os.environ["DATALAYER_OUT"], "default", "program.txt").write_text("x")
"""
    assert bench.run(bench.context(), sys.executable, "-c", job).exit_code == 0
    output = bench.layer.resolve(bench.key("job"))["default"]
    assert set(output.files) == {"sdk.parquet", "program.txt"}
    assert all(entry.checksum for entry in output.files.values())


def test_a_folder_handed_to_an_engine_is_listed(bench: Bench) -> None:
    job = """
import pathlib
from datalayer import open_task
task = open_task()
output = task.output()
uri = output.spark_uri
if output.path is not None:
    pathlib.Path(output.path, "part-0").write_text("x")
else:
    task.layer.data.put(output.location.path.removeprefix(task.layer.data.root.path + "/") + "/part-0", b"x")
"""
    result = bench.run(bench.context(), sys.executable, "-c", job)
    assert result.exit_code == 0, result.report.error
    assert bench.files() == {"part-0": b"x"}


def test_bad_destinations_and_unknown_connections_are_errors_before_the_command(volume: Bench, tmp_path: Path) -> None:
    from datalayer.handoff.destinations import Destination, S3Place

    for place, said in (
        (S3Place("bucket", "path", "nobody"), "no connection named 'nobody'"),
        (S3Place("", "path"), "outputs.default.destinations[0].data.bucket"),
        (S3Place("bucket", "a/../b"), "outputs.default.destinations[0].data.path"),
    ):
        outputs = {"default": OutputSpec([Destination("s3", place)])}
        result = volume.shell(f"touch {tmp_path}/started", volume.context(outputs=outputs))
        assert result.exit_code == 78
        assert said in str(result.report.error)
    assert not (tmp_path / "started").exists()
