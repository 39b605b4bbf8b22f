"""What a pod with a committer does, whatever its image and user, and however it ends. On a real cluster, with pods written by hand."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datalayer import DataLayer
from datalayer.handoff.context import InputSpec
from tests.cluster.pods import COMMITTER, FOLDER, GROUP, SHELL, Bench, config
from tests.services.alluxio import AlluxioServer
from tests.services.kubernetes.client import Team
from tests.services.kubernetes.images import IMAGES
from tests.services.s3server import S3Server

pytestmark = pytest.mark.usefixtures("job_image", "shell_image")

WRITE = "echo made > $DATALAYER_OUT/default/made.txt"


def bench_of(design: str, team: Team, s3: S3Server, bucket: str, **rest: Any) -> Bench:
    keys = {"access_key_id": s3.root.access_key, "secret_access_key": s3.root.secret_key}
    if design == "shared-fs":
        if team.shared is None:
            pytest.skip("the cluster that was named shares no folder with this machine")
        rest["tiers"] = {"shared": {"url": str(team.shared)}}
        # As an administrator makes it: whoever writes there does so as one group, and so does this process.
        os.chown(team.shared, -1, GROUP)
        team.shared.chmod(0o2775)
    return Bench(team, DataLayer(config(design, f"s3://{bucket}/root", s3.endpoint, keys, **rest)))


@pytest.fixture
def bench(team_namespace: Team, cluster_s3: S3Server) -> Bench:
    return bench_of("s3-direct", team_namespace, cluster_s3, cluster_s3.new_bucket())


@pytest.fixture(params=["s3-poc", "s3-direct", "shared-fs", "hot-cold"])
def any_design(request: pytest.FixtureRequest, team_namespace: Team, cluster_s3: S3Server) -> Iterator[Bench]:
    bucket = cluster_s3.new_bucket()
    if request.param != "hot-cold":
        yield bench_of(request.param, team_namespace, cluster_s3, bucket)
        return
    alluxio: AlluxioServer = request.getfixturevalue("cluster_alluxio")
    with alluxio.mount(bucket, "root") as folder:
        hot = {"url": folder.url, "proxy": folder.proxy}
        yield bench_of(request.param, team_namespace, cluster_s3, bucket, hot=hot)


def test_an_image_that_knows_nothing_of_us_under_each_design(any_design: Bench) -> None:
    bench = any_design
    bench.publish("up", {"a.txt": b"input", "deep/b.txt": b"more"})
    script = "cat $DATALAYER_IN/up/default/a.txt $DATALAYER_IN/up/default/deep/b.txt > $DATALAYER_OUT/default/both.txt"
    inputs = {"up": InputSpec()}
    report = bench.run(
        "job", f"umask 022; mkdir $DATALAYER_OUT/default/deep; {script}; {WRITE}", bench.context("job", inputs)
    )
    assert report.state == "succeeded", report
    assert bench.files("job") == {"both.txt": b"inputmore", "made.txt": b"made\n"}
    assert report.digest == bench.layer.resolve(bench.key("job")).digest
    bench.team.wait("job")
    story = bench.team.logs("job", COMMITTER)
    assert "input up/default" in story
    assert "committed" in story


@pytest.mark.parametrize(
    "security",
    [{"runAsUser": 12345}, {"runAsUser": 12345, "runAsGroup": 12345}, {"runAsUser": 0}, {}],
    ids=["user", "user-and-group", "root", "image"],
)
@pytest.mark.parametrize("umask", ["022", "077"])
def test_a_job_of_any_user_and_umask(bench: Bench, security: dict[str, Any], umask: str) -> None:
    bench.publish("up", {"a.txt": b"input"})
    script = f"umask {umask}; mkdir -p $DATALAYER_OUT/default/deep; cp $DATALAYER_IN/up/default/a.txt $DATALAYER_OUT/default/deep/; id"
    report = bench.run("job", script, bench.context("job", {"up": InputSpec()}), base={"securityContext": security})
    assert report.state == "succeeded", report
    assert bench.files("job") == {"deep/a.txt": b"input"}


def test_an_image_with_an_entrypoint_and_a_user_of_its_own(bench: Bench, entrypoint_image: str) -> None:
    bench.publish("up", {"a.txt": b"input"})
    report = bench.run("job", None, bench.context("job", {"up": InputSpec()}), image=entrypoint_image)
    assert report.state == "succeeded", report
    assert bench.files("job") == {"copy.txt": b"input"}


def test_a_volume_that_is_too_small_for_the_inputs_is_named(bench: Bench) -> None:
    bench.publish("up", {"large": bytes(4 << 20)})
    pod = bench.pod("job", WRITE, bench.context("job", {"up": InputSpec()}))
    # In memory, where a limit is one that a write runs into. On a disk the node evicts the pod.
    pod["spec"]["volumes"][0]["emptyDir"] = {"medium": "Memory", "sizeLimit": "1Mi"}
    bench.team.apply(pod)
    report = bench.report("job")
    assert report.error is not None
    assert "/datalayer/in/up/default/large cannot be written: No space left on device" in report.error.message
    assert not bench.committed("job")


def test_a_committer_without_a_name_and_with_a_root_that_is_read_only(bench: Bench) -> None:
    bench.committer = {
        "securityContext": {
            "runAsUser": 54321,
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    }
    bench.publish("up", {"a.txt": b"input"})
    report = bench.run(
        "job", WRITE, bench.context("job", {"up": InputSpec()}), base={"securityContext": {"runAsUser": 12345}}
    )
    assert report.state == "succeeded", report


def test_a_file_that_nobody_else_may_read_is_named(bench: Bench) -> None:
    script = f"{WRITE}; chmod 600 $DATALAYER_OUT/default/made.txt"
    report = bench.run("job", script, base={"securityContext": {"runAsUser": 12345}})
    assert report.error is not None
    assert "/datalayer/out/default/made.txt belongs to user 12345" in report.error.message
    assert "runs as user 10001" in report.error.message
    assert not bench.committed("job")


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        (f"{WRITE}; exit 3", 3, "container 'base' ended with exit code 3"),
        (f"{WRITE}; tail /dev/zero", 137, "more memory than its limit"),
        (f"{WRITE}; echo 'no rows today' > /dev/termination-log; exit 4", 4, "no rows today"),
        ("true", 65, "no file was written"),
    ],
    ids=["exit", "out-of-memory", "message", "nothing-written"],
)
def test_a_job_that_does_not_end_well_commits_nothing(bench: Bench, script: str, code: int, words: str) -> None:
    report = bench.run("job", script, base={"resources": {"limits": {"memory": "64Mi"}}})
    assert (report.state, report.exit_code) == ("failed", code)
    assert report.error is not None
    assert words in report.error.message
    assert not bench.committed("job")
    assert words in bench.team.logs("job", COMMITTER)


@pytest.mark.parametrize("trap", ["trap 'exit 0' TERM; ", ""], ids=["ends-with-0", "does-not-listen"])
def test_a_pod_that_is_deleted_mid_write_commits_nothing(bench: Bench, trap: str) -> None:
    pod = bench.pod("job", f"{trap}{WRITE}; while true; do sleep 0.1; done", bench.context("job"))
    # It can be looked at when all of it has ended.
    pod["metadata"]["finalizers"] = ["datalayer.test/looks"]
    bench.team.apply(pod)
    try:
        bench.wait_running("job")
        bench.team.kubectl("delete", "pod", "job", "--grace-period=10", "--wait=false")
        # A job that does not listen uses up all the time there is.
        report = bench.report("job") if trap else None
        deadline = time.monotonic() + 60
        while "terminated" not in bench.status("job")["state"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        bench.team.kubectl("patch", "pod", "job", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    assert report is None or (report.state == "terminated" and "being deleted" in str(report.error))
    assert not bench.committed("job")


def test_a_pod_out_of_time_commits_nothing_though_its_job_ends_with_0(bench: Bench) -> None:
    script = f"trap 'exit 0' TERM; {WRITE}; while true; do sleep 0.1; done"
    report = bench.run("job", script, activeDeadlineSeconds=8)
    assert report.state == "terminated"
    assert report.error is not None
    assert "the node is ending the pod" in report.error.message
    assert not bench.committed("job")


def test_a_pod_that_is_evicted_commits_nothing_though_its_job_ends_with_0(bench: Bench) -> None:
    # More than the volume may hold: the kubelet evicts the pod.
    fill = "dd if=/dev/zero of=$DATALAYER_OUT/default/large bs=1M count=20 2>/dev/null"
    script = f"trap 'exit 0' TERM; {fill}; while true; do sleep 0.1; done"
    pod = bench.pod("job", script, bench.context("job"))
    pod["spec"]["volumes"][0]["emptyDir"] = {"sizeLimit": "10Mi"}
    bench.team.apply(pod)
    # It gives nobody time for a report.
    bench.team.wait("job", "Failed")
    assert bench.team.pod("job")["status"]["reason"] == "Evicted"
    assert not bench.committed("job")


def kill(bench: Bench, name: str, container: str) -> None:
    """Kill a container's processes from outside, as the kernel does when memory runs out."""
    wanted = bench.status(name, container)["containerID"].rpartition("/")[2]
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and wanted in (folder / "cgroup").read_text():
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue


def on_this_machine(bench: Bench) -> None:
    if bench.team.shared is None:
        pytest.skip("the cluster that was named is on another machine")


def test_a_job_that_is_killed_commits_nothing(bench: Bench) -> None:
    on_this_machine(bench)
    bench.start("job", f"{WRITE}; while true; do sleep 0.1; done")
    bench.wait_running("job")
    kill(bench, "job", "base")
    report = bench.report("job")
    assert (report.state, report.exit_code) == ("failed", 137)
    assert "ended by signal 9" in str(report.error)
    assert not bench.committed("job")


def test_a_committer_that_is_killed_while_the_job_runs_commits_all_the_same(any_design: Bench) -> None:
    bench = any_design
    on_this_machine(bench)
    bench.publish("up", {"a.txt": b"input"})
    wait = f"until [ -e {FOLDER}/go ]; do sleep 0.1; done"
    script = f"{WRITE}; {wait}; cp $DATALAYER_IN/up/default/a.txt $DATALAYER_OUT/default/"
    bench.start("job", script, bench.context("job", {"up": InputSpec()}))
    bench.wait_running("job")
    kill(bench, "job", COMMITTER)
    deadline = time.monotonic() + 60
    while bench.status("job").get("restartCount", 0) < 1 or "running" not in bench.status("job")["state"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    bench.team.kubectl("exec", "job", "-c", "base", "--", "touch", f"{FOLDER}/go")
    report = bench.report("job")
    assert report.state == "succeeded", report
    assert bench.files("job") == {"made.txt": b"made\n", "a.txt": b"input"}


def test_a_missing_input_fails_before_the_job_begins_and_says_so_again(bench: Bench) -> None:
    bench.start("job", WRITE, bench.context("job", {"up": InputSpec()}))
    report = bench.report("job", seconds=60)
    assert report.exit_code == 66
    assert report.error is not None
    assert "input 'up'" in report.error.message
    deadline = time.monotonic() + 60
    while bench.status("job")["restartCount"] < 1:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert bench.report("job") == report
    assert "running" not in bench.status("job", "base")["state"]


def test_a_missing_right_is_named_before_the_job_begins(bench: Bench) -> None:
    report = bench.run("job", WRITE, account="default")
    assert report.error is not None
    assert 'rule {apiGroups: [""], resources: ["pods"], verbs: [get]}' in report.error.message
    assert "running" not in bench.status("job", "base").get("state", {})


def test_beside_a_container_that_never_ends_the_commit_comes_all_the_same(bench: Bench) -> None:
    other = {"name": "other", "image": SHELL, "command": ["sh", "-c", "while true; do sleep 0.2; done"]}
    report = bench.run("job", WRITE, containers=[other])
    assert report.state == "succeeded", report
    assert bench.files("job") == {"made.txt": b"made\n"}


def test_a_base_that_cannot_be_started_is_told_apart(bench: Bench) -> None:
    report = bench.run("job", None, base={"command": ["/no/such/program"]})
    assert report.error is not None
    assert "/no/such/program" in report.error.message
    assert not bench.committed("job")


def test_the_pod_of_the_docs(bench: Bench) -> None:
    page = (Path(__file__).parents[2] / "docs" / "job-contract.md").read_text()
    text = page.split("```yaml\n")[1].split("```")[0]
    pod = json.loads(bench.team.kubectl("create", "--dry-run=client", "-o", "json", "-f", "-", stdin=text))
    bench.publish("words", {"list.txt": b"one\nthree\nten\n"})
    context = bench.context("longest", {"words": InputSpec()})
    (committer,), (base,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    packed = base64.b64encode(gzip.compress(context.encode())).decode()
    assert committer["env"][0] == {"name": "DATALAYER_INTERNAL_CONTEXT_0", "value": "…"}
    committer["env"][0]["value"] = packed
    for container, image in ((committer, "job"), (base, "shell")):
        container |= {"image": IMAGES[image].tag, "imagePullPolicy": "IfNotPresent"}
    longest = "awk 'length > n { n = length; word = $0 } END { print word }' $DATALAYER_IN/words/default/list.txt"
    base["command"] = ["sh", "-euc", f"{longest} > $DATALAYER_OUT/default/longest.txt"]
    bench.team.apply(pod)
    assert bench.report("longest").state == "succeeded"
    assert bench.files("longest") == {"longest.txt": b"three\n"}
