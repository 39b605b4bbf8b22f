"""The committer of a pod: beside a job that another container runs, on what the API server says of its end.

Here the job is the test itself, and the API server a stand-in that errs on demand. tests/cluster has the real ones.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datalayer import DataLayer, NotPublishedError
from datalayer.addresses import layout
from datalayer.handoff.attempts import begin_attempt
from datalayer.handoff.context import AttemptRef, InputSpec, TaskContext, context_config
from datalayer.handoff.journal import FileJournal, Record
from datalayer.handoff.packing import context_environment
from datalayer.handoff.report import TaskReport, decode_report
from tests.behaviour.conftest import s3_config
from tests.behaviour.environment import environment_of
from tests.handoff.api_stand_in import ApiStandIn, ended_pod, running_pod
from tests.handoff.conftest import ROOT, Bench, s3_bench
from tests.services.faultproxy import Answer, Fault, FaultProxy
from tests.services.s3server import S3Server

PROCESS = Path(__file__).parent / "pod_process.py"


class Pod:
    """A pod's volume, its API server, and the committer as often as it is started."""

    def __init__(self, bench: Bench, home: Path) -> None:
        self.bench = bench
        self.home = home
        self.volume = home / "datalayer"
        self.volume.mkdir(parents=True)
        self.volume.chmod(0o2777)
        (home / "termination-log").write_text("longer than any report may be" * 200)
        self.api = ApiStandIn(home / "account")
        self.process: subprocess.Popen[str] | None = None
        self.said = ""

    def start(self, context: TaskContext | None = None, **rest: Any) -> None:
        context = context or self.bench.context(**rest)
        if context.attempt is None and context.commit == "self":
            context = self.claimed(context)
        told = msgspec.structs.replace(context, config=context_config(self.bench.layer.config))
        environ = {**environment_of(self.bench.layer), **context_environment(told), "PYTHONPATH": str(ROOT)}
        environ |= {"DATALAYER_INTERNAL_POD_CONTAINER": "base", "HOME": "/"}
        command = [sys.executable, str(PROCESS), str(self.home), str(self.api.port)]
        self.process = subprocess.Popen(
            command, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def claimed(self, context: TaskContext) -> TaskContext:
        """The context with an attempt that whoever makes the pod has claimed for it."""
        attempt = begin_attempt(self.bench.layer, context, [])
        return msgspec.structs.replace(context, attempt=AttemptRef(attempt.number, attempt.claim.nonce))

    def wait_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 60
        while not (self.volume / "ready").exists():
            assert self.process.poll() is None, self.ended()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def bell(self) -> None:
        """What the kubelet does when the job has ended, or the pod is to."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> TaskReport:
        assert self.process is not None
        self.said, _ = self.process.communicate(timeout=60)
        report = decode_report((self.home / "termination-log").read_bytes())
        assert self.process.returncode == report.exit_code, self.said
        return report

    def write(self, name: str = "data.txt", data: bytes = b"made", output: str = "default") -> Path:
        path = self.volume / "out" / output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def job(self, **rest: Any) -> TaskReport:
        """A whole job that ends well."""
        self.start(**rest)
        self.wait_ready()
        self.write()
        self.api.pod = ended_pod()
        self.bell()
        return self.ended()

    def nothing_committed(self) -> bool:
        try:
            self.bench.layer.resolve(self.bench.key("job"))
        except NotPublishedError:
            return not self.bench.staged()
        return False

    def stop(self) -> None:
        self.api.stop()
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def pod(bench: Bench, tmp_path: Path) -> Iterator[Pod]:
    made = Pod(bench, tmp_path / "pod")
    yield made
    made.stop()


@pytest.fixture
def on_volume(volume: Bench, tmp_path: Path) -> Iterator[Pod]:
    made = Pod(volume, tmp_path / "pod")
    yield made
    made.stop()


def test_a_job_that_knows_nothing_of_us_is_committed(pod: Pod) -> None:
    pod.bench.publish(pod.bench.key("up"), {"a.txt": b"input", "deep/b.txt": b"more"})
    pod.start(inputs={"up": InputSpec()})
    pod.wait_ready()
    assert (pod.volume / "in/up/default/a.txt").read_bytes() == b"input"
    assert (pod.volume / "in/up/default/deep/b.txt").read_bytes() == b"more"
    told = json.loads((pod.volume / "context.json").read_bytes())
    assert told["commit"] == "wrapper"
    pod.write("deep/made.txt", b"made")
    pod.api.pod = ended_pod()
    pod.bell()
    report = pod.ended()
    assert (report.state, report.exit_code, report.command_exit_code, report.attempt) == ("succeeded", 0, 0, 1)
    assert pod.bench.files() == {"deep/made.txt": b"made"}
    assert report.digest == pod.bench.layer.resolve(pod.bench.key("job")).digest
    assert "input up/default: /team/dag/up/20130101T000000Z@1 from" in pod.said
    assert "committed /team/dag/job/20130101T000000Z@1 default: 1 file, 4 B" in pod.said
    assert pod.api.asked[0] == "/api/v1/namespaces/team-a/pods/pod-1"


def test_what_the_job_writes_its_group_may_write(pod: Pod) -> None:
    pod.start()
    pod.wait_ready()
    out = pod.volume / "out/default"
    assert stat.S_IMODE(out.stat().st_mode) == 0o2775
    assert stat.S_IMODE(out.resolve().stat().st_mode) == 0o2775
    assert stat.S_IMODE((pod.volume / "journal").stat().st_mode) == 0o666


@pytest.mark.parametrize(
    ("status", "state", "code", "words"),
    [
        (ended_pod(3), "failed", 3, "container 'base' ended with exit code 3. Nothing was committed"),
        (ended_pod(143), "failed", 143, "ended by signal 15"),
        (ended_pod(137, "OOMKilled"), "failed", 137, "more memory than its limit. Raise the limit"),
        (ended_pod(0, "OOMKilled"), "failed", 137, "more memory than its limit"),
        (ended_pod(128, "StartError", "no such file: /entry"), "failed", 128, "no such file: /entry"),
    ],
)
def test_a_job_that_did_not_end_well_commits_nothing(
    on_volume: Pod, status: dict[str, Any], state: str, code: int, words: str
) -> None:
    on_volume.start()
    on_volume.wait_ready()
    on_volume.write()
    on_volume.api.pod = status
    on_volume.bell()
    report = on_volume.ended()
    assert (report.state, report.exit_code) == (state, code)
    assert report.error is not None
    assert words in report.error.message
    assert report.error.retryable
    assert words in on_volume.said
    assert on_volume.nothing_committed()


def with_status(pod: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {**pod, "status": {**pod["status"], **status}}


def deleted(pod: dict[str, Any]) -> dict[str, Any]:
    return {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (deleted(ended_pod()), "the pod is being deleted"),
        (deleted(running_pod()), "the pod is being deleted"),
        (
            with_status(ended_pod(), phase="Failed", reason="Evicted", message="The node was low on memory"),
            "Evicted: The node was low",
        ),
        (with_status(ended_pod(), phase="Failed", reason="DeadlineExceeded"), "DeadlineExceeded"),
        (with_status(ended_pod(), phase="Failed"), "PodFailed"),
        (with_status(running_pod(), conditions=[{"type": "Ready", "reason": "PodFailed"}]), "out of time"),
        ({**ended_pod(), "metadata": {"uid": "another pod of this name"}}, "the pod is being deleted"),
    ],
)
def test_a_pod_that_is_ended_as_a_whole_commits_nothing_though_the_job_ended_with_0(
    on_volume: Pod, status: dict[str, Any], words: str
) -> None:
    on_volume.start()
    on_volume.wait_ready()
    on_volume.write()
    on_volume.api.pod = status
    on_volume.bell()
    report = on_volume.ended()
    assert (report.state, report.exit_code) == ("terminated", 143)
    assert report.error is not None
    assert words in report.error.message
    assert report.error.retryable
    assert on_volume.nothing_committed()


def test_what_the_job_s_own_report_says_of_a_retry_is_taken_over(on_volume: Pod) -> None:
    own = b'{"version": "1.0", "state": "failed", "key": "/", "exit_code": 3, "error": {"type": "X", "message": "bad rows", "retryable": false}}'
    on_volume.start()
    on_volume.wait_ready()
    on_volume.api.pod = ended_pod(3, message=own.decode())
    on_volume.bell()
    report = on_volume.ended()
    assert report.error is not None
    assert not report.error.retryable
    assert "bad rows" in report.error.message


def test_a_signal_proves_nothing(on_volume: Pod) -> None:
    on_volume.start()
    on_volume.wait_ready()
    on_volume.bell()
    on_volume.api.wait_asked(4)
    on_volume.write()
    on_volume.api.pod = ended_pod()
    assert on_volume.ended().state == "succeeded"


def test_without_a_signal_it_looks_by_itself_where_other_containers_go_on(on_volume: Pod) -> None:
    on_volume.api.pod = running_pod(others=1)
    on_volume.start()
    on_volume.wait_ready()
    on_volume.write()
    on_volume.api.pod = ended_pod(others=1)
    assert on_volume.ended().state == "succeeded"
    assert on_volume.api.asked[-1].endswith("?resourceVersion=0")


@pytest.mark.parametrize("trouble", ["close", "garbage", 401, 500, 503])
def test_a_server_that_errs_for_a_while_is_asked_again(on_volume: Pod, trouble: int | str) -> None:
    on_volume.start()
    on_volume.wait_ready()
    on_volume.write()
    on_volume.api.trouble = trouble
    on_volume.bell()
    on_volume.api.wait_asked(4)
    on_volume.api.pod, on_volume.api.trouble = ended_pod(), None
    assert on_volume.ended().state == "succeeded"
    assert "asked again" in on_volume.said


def test_a_server_that_errs_until_the_pod_s_grace_is_over_means_no_commit(on_volume: Pod) -> None:
    on_volume.api.pod = running_pod(grace=12)
    on_volume.start()
    on_volume.wait_ready()
    on_volume.write()
    on_volume.api.pod, on_volume.api.trouble = ended_pod(), 503
    on_volume.bell()
    report = on_volume.ended()
    assert report.error is not None
    assert (report.exit_code, report.error.type, report.error.retryable) == (75, "PodStatusUnknownError", True)
    assert "Nothing was committed" in report.error.message
    assert on_volume.nothing_committed()


def test_a_missing_right_is_found_before_the_job_begins(on_volume: Pod) -> None:
    on_volume.api.trouble = 403
    on_volume.start()
    report = on_volume.ended()
    assert report.error is not None
    assert 'rule {apiGroups: [""], resources: ["pods"], verbs: [get]}' in report.error.message
    assert "Role in namespace team-a" in report.error.message
    assert (report.exit_code, report.error.retryable) == (78, False)
    assert not (on_volume.volume / "ready").exists()


def test_without_a_token_it_says_so_before_the_job_begins(on_volume: Pod) -> None:
    (on_volume.home / "account/token").unlink()
    on_volume.start()
    report = on_volume.ended()
    assert report.error is not None
    assert "mount the ServiceAccount's token" in report.error.message
    assert not (on_volume.volume / "ready").exists()


def test_what_cannot_be_prepared_fails_again_with_the_same_report(on_volume: Pod) -> None:
    context = on_volume.claimed(on_volume.bench.context(inputs={"up": InputSpec()}))
    on_volume.start(context)
    first = on_volume.ended()
    assert first.error is not None
    assert (first.exit_code, first.error.type) == (66, "NotPublishedError")
    assert "input 'up'" in first.error.message
    asked = len(on_volume.api.asked)
    # The kubelet starts it again, and by then the input may be there: too late, the operator has seen the failure.
    on_volume.bench.publish(on_volume.bench.key("up"), {"a": b"1"})
    on_volume.start(context)
    assert on_volume.ended() == first
    assert len(on_volume.api.asked) == asked
    assert not (on_volume.volume / "ready").exists()


def test_told_to_end_while_it_prepares_it_ends_at_once(on_volume: Pod) -> None:
    on_volume.api.trouble = "hang"
    on_volume.start()
    on_volume.api.wait_asked(1)
    on_volume.bell()
    report = on_volume.ended()
    assert (report.state, report.exit_code) == ("terminated", 143)
    assert on_volume.nothing_committed()


def test_a_pod_that_is_deleted_before_its_job_began_prepares_nothing(on_volume: Pod) -> None:
    on_volume.api.pod = deleted(running_pod())
    on_volume.start()
    assert on_volume.ended().state == "terminated"
    assert not (on_volume.volume / "in").exists()


def test_killed_while_the_job_runs_it_goes_on_waiting(pod: Pod) -> None:
    pod.bench.publish(pod.bench.key("up"), {"a.txt": b"input"})
    context = pod.claimed(pod.bench.context(inputs={"up": InputSpec()}))
    pod.start(context)
    pod.wait_ready()
    pod.write("early.txt", b"early")
    assert pod.process is not None
    pod.process.kill()
    pod.process.communicate()
    # A newer one is not read: what was prepared stays.
    pod.bench.publish(pod.bench.key("up"), {"a.txt": b"newer"})
    pod.start(context)
    pod.api.wait_asked(2)
    pod.write("late.txt", b"late")
    assert (pod.volume / "in/up/default/a.txt").read_bytes() == b"input"
    pod.api.pod = ended_pod()
    pod.bell()
    report = pod.ended()
    assert report.state == "succeeded"
    assert "started anew" in pod.said
    assert pod.bench.files() == {"early.txt": b"early", "late.txt": b"late"}
    lineage = pod.bench.layer.resolve(pod.bench.key("job")).manifest.inputs
    assert [(one.alias, one.attempt) for one in lineage] == [("up", 1)]


def test_killed_and_started_anew_after_the_job_ended_it_needs_no_signal(on_volume: Pod) -> None:
    context = on_volume.claimed(on_volume.bench.context())
    on_volume.start(context)
    on_volume.wait_ready()
    on_volume.write()
    assert on_volume.process is not None
    on_volume.process.kill()
    on_volume.process.communicate()
    on_volume.api.pod = ended_pod()
    on_volume.start(context)
    assert on_volume.ended().state == "succeeded"
    # And again, after all was done.
    on_volume.start(context)
    assert on_volume.ended().state == "succeeded"
    assert "done its work before" in on_volume.said


def test_what_the_job_does_to_the_volume_does_not_lead_a_committer_astray(on_volume: Pod) -> None:
    context = on_volume.claimed(on_volume.bench.context())
    on_volume.start(context)
    on_volume.wait_ready()
    on_volume.write()
    other = msgspec.structs.replace(context, key=str(on_volume.bench.key("other")))
    (on_volume.volume / "context.json").write_bytes(other.encode())
    (on_volume.volume / "ready").unlink()
    assert on_volume.process is not None
    on_volume.process.kill()
    on_volume.process.communicate()
    on_volume.start(context)
    on_volume.wait_ready()
    on_volume.api.pod = ended_pod()
    on_volume.bell()
    assert on_volume.ended().state == "succeeded"
    assert on_volume.bench.files() == {"data.txt": b"made"}


def test_started_anew_without_an_api_server_it_goes_on_waiting(on_volume: Pod) -> None:
    context = on_volume.claimed(on_volume.bench.context())
    on_volume.start(context)
    on_volume.wait_ready()
    assert on_volume.process is not None
    on_volume.process.kill()
    on_volume.process.communicate()
    on_volume.api.trouble = 503
    asked = len(on_volume.api.asked)
    on_volume.start(context)
    on_volume.api.wait_asked(asked + 2)
    on_volume.write()
    on_volume.api.pod, on_volume.api.trouble = ended_pod(), None
    on_volume.bell()
    assert on_volume.ended().state == "succeeded"


def test_started_anew_while_its_store_is_away_it_leaves_the_job_to_the_next_start(
    versitygw: S3Server, fault_proxy: FaultProxy, tmp_path: Path
) -> None:
    made = s3_config(versitygw, versitygw.new_bucket(), fault_proxy.endpoint, deadline=5, timeout=1)
    pod = Pod(Bench(DataLayer(made), tmp_path / "work"), tmp_path / "pod")
    try:
        context = pod.claimed(pod.bench.context())
        pod.start(context)
        pod.wait_ready()
        pod.write()
        assert pod.process is not None
        pod.process.kill()
        pod.process.communicate()
        fault_proxy.script(Fault(answer=Answer(503, "SlowDown")), times=-1)
        log = pod.home / "termination-log"
        before = log.read_bytes()
        pod.start(context)
        assert pod.process.wait(60) == 75
        # No report: who reads one takes it for the last word.
        assert log.read_bytes() == before
        pod.process.communicate()
        fault_proxy.reset()
        pod.api.pod = ended_pod()
        pod.start(context)
        assert pod.ended().state == "succeeded"
    finally:
        pod.stop()


def test_killed_while_it_prepared_it_prepares_again(on_volume: Pod) -> None:
    on_volume.bench.publish(on_volume.bench.key("up"), {"a.txt": b"input"})
    left = on_volume.volume / "in/up/default/half"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of an earlier start")
    report = on_volume.job(inputs={"up": InputSpec()})
    assert report.state == "succeeded"
    assert not left.exists()


def test_a_second_signal_for_a_pod_that_is_deleted_meanwhile_ends_the_upload(s3_direct: Bench, tmp_path: Path) -> None:
    pod = Pod(s3_direct, tmp_path / "pod")
    try:
        pod.start()
        pod.wait_ready()
        # Large enough that the signal comes while it is on its way.
        with (pod.volume / "out/default/large").open("wb") as large:
            large.truncate(3 << 30)
        pod.api.pod = ended_pod()
        pod.bell()
        pod.api.wait_asked(2)
        time.sleep(0.5)
        pod.api.pod = deleted(ended_pod())
        pod.bell()
        report = pod.ended()
        assert report.state == "terminated"
        assert pod.nothing_committed()
    finally:
        pod.stop()


def test_a_second_signal_for_a_pod_that_is_just_finishing_means_nothing(s3_direct: Bench, tmp_path: Path) -> None:
    pod = Pod(s3_direct, tmp_path / "pod")
    try:
        pod.start()
        pod.wait_ready()
        with (pod.volume / "out/default/large").open("wb") as large:
            large.truncate(256 << 20)
        pod.api.pod = ended_pod()
        pod.bell()
        pod.api.wait_asked(2)
        pod.bell()
        assert pod.ended().state == "succeeded"
    finally:
        pod.stop()


def test_outside_a_pod_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "nowhere"
    environ = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    ended = subprocess.run(
        [sys.executable, str(PROCESS), str(home), "1"], env=environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 78
    assert "in the environment" in ended.stdout
    assert not home.exists()


SPARK_LEFT = {
    "_SUCCESS": b"{}",
    "part-0.parquet": b"whole",
    ".part-0.parquet.crc": b"crc",
    "_temporary/0/part-1.parquet": b"unfinished",
    "year=2013/part-0.parquet": b"by year",
    "_group=1/part-0.parquet": b"by group",
    ".hidden/part-0.parquet": b"hidden",
}


def written_by_spark(pod: Pod, files: dict[str, bytes]) -> TaskReport:
    """A job of any language that wrote to the URI of its output, as its committer told Spark."""
    pod.start()
    pod.wait_ready()
    FileJournal(str(pod.volume / "journal")).add(Record("default", opened=True, engine=True))
    for name, data in files.items():
        pod.bench.layer.data.put(f"{layout.output_path(pod.bench.key('job'), 1, 'default')}/{name}", data)
    pod.api.pod = ended_pod()
    pod.bell()
    return pod.ended()


@pytest.fixture(params=["shared-fs", "s3-direct", "hot-cold"])
def in_place(request: pytest.FixtureRequest, tmp_path: Path, versitygw: S3Server) -> Iterator[Pod]:
    bench = request.getfixturevalue("volume") if request.param == "shared-fs" else None
    made = Pod(bench or s3_bench(versitygw, tmp_path / "work", request.param), tmp_path / "pod")
    yield made
    made.stop()


def test_what_spark_wrote_by_uri_is_adopted_without_its_markers(in_place: Pod) -> None:
    assert written_by_spark(in_place, SPARK_LEFT).state == "succeeded"
    assert in_place.bench.files() == {
        "part-0.parquet": b"whole",
        "year=2013/part-0.parquet": b"by year",
        "_group=1/part-0.parquet": b"by group",
    }
    resolved = in_place.bench.layer.resolve(in_place.bench.key("job"))["default"]
    assert len(resolved.data_files()) == 3


@pytest.mark.parametrize("success", [None, "other/_SUCCESS"])
def test_parts_without_the_success_of_their_job_are_not_committed(on_volume: Pod, success: str | None) -> None:
    files = {"part-0.parquet": b"half"} | ({success: b"{}"} if success else {})
    report = written_by_spark(on_volume, files)
    assert report.error is not None
    assert "left no _SUCCESS" in report.error.message
    assert "'part-0.parquet'" in report.error.message
    assert on_volume.nothing_committed()


def test_parts_below_a_folder_of_a_job_that_ended_well_and_files_of_others_are_committed(on_volume: Pod) -> None:
    files = {"a/_SUCCESS": b"{}", "a/year=1/part-0": b"1", "summary.json": b"{}"}
    assert written_by_spark(on_volume, files).state == "succeeded"
    assert set(on_volume.bench.files()) == {"a/year=1/part-0", "summary.json"}
