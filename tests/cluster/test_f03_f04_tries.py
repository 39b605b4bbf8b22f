"""F3 and F4: a retry beside a pod that still writes. It goes on with that pod, or the old pod's commit is refused."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cluster.operating import Place, Tasks, wait_until

OLD_AND_NEW = """
with DAG("faults", start_date=START) as dag:
    ExecutionEnvironmentOperator(
        task_id="job",
        image=SHELL,
        env_vars={"TRY": "{{ ti.try_number }}"},
        cmds=sh("echo $TRY > $DATALAYER_OUT/default/try; if [ $TRY = 1 ]; then sleep 25; fi"),
        durable=False,
        on_finish_action="keep_pod",
        **ARGS,
    )
"""


@pytest.mark.kills
def test_f03_the_commit_of_a_pod_that_finishes_last_is_refused(place: Place, tasks: Tasks) -> None:
    first = tasks.start(place, OLD_AND_NEW)
    old = wait_until(place.running, "the first pod runs")
    first.kill(signal.SIGKILL)
    first.wait()
    second = tasks.run(place, OLD_AND_NEW, attempt=2)
    assert second.state == "success", second.story()
    assert (place.head("faults", "job"), place.text("faults", "job", "try")) == (2, "2\n")

    def report() -> str:
        statuses = place.team.pod(old["metadata"]["name"])["status"]["initContainerStatuses"]
        states = [one.get(name, {}).get("terminated", {}) for one in statuses for name in ("state", "lastState")]
        return next((one["message"] for one in states if "message" in one), "")

    told = json.loads(wait_until(report, "the first pod's committer has ended"))
    assert (told["state"], told["error"]["type"]) == ("failed", "CommitConflictError")
    assert (place.head("faults", "job"), place.text("faults", "job", "try")) == (2, "2\n")
    place.team.kubectl("delete", "pods", "--all", "--grace-period=2")
    place.assert_nothing_left()


REATTACHED = """
with DAG("faults", start_date=START) as dag:
    ExecutionEnvironmentOperator(
        task_id="job",
        image=SHELL,
        cmds=sh("echo 1 > $DATALAYER_OUT/default/before; sleep 15; echo 2 > $DATALAYER_OUT/default/after"),
        **ARGS,
    )
"""


@pytest.mark.kills
@pytest.mark.parametrize("design", ["s3-direct", "shared-fs"])
def test_f04_a_worker_that_was_restarted_goes_on_with_the_same_pod_and_attempt(
    place: Place, tasks: Tasks, design: str
) -> None:
    place.use(design)
    first = tasks.start(place, REATTACHED)
    pod = wait_until(place.running, "the pod runs")
    first.kill(signal.SIGKILL)
    first.wait()
    second = tasks.run(place, REATTACHED, attempt=2)
    assert second.state == "success", second.story()
    assert f"(uid {pod['metadata']['uid']})" in second.story()
    assert place.head("faults", "job") == 1
    assert [place.text("faults", "job", name) for name in ("before", "after")] == ["1\n", "2\n"]
    place.assert_nothing_left()


def test_a_pod_that_somebody_planted_is_not_gone_on_with(place: Place, tasks: Tasks) -> None:
    first = tasks.start(place, REATTACHED)
    pod = wait_until(place.running, "the pod runs")
    first.kill(signal.SIGTERM)
    first.wait()
    labels, told = pod["metadata"]["labels"], pod["metadata"]["annotations"]
    planted = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "planted", "labels": labels, "annotations": {**told, "datalayer/nonce": "0" * 32}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {"name": "base", "image": pod["spec"]["containers"][0]["image"], "command": ["sleep", "600"]}
            ],
        },
    }
    place.team.apply(planted)
    place.team.wait("planted", "Running")
    second = tasks.run(place, REATTACHED, attempt=2)
    assert second.state == "success", second.story()
    assert "Pod planted has this task's labels and no claim of it" in second.story()
    # It was claimed anew.
    assert place.head("faults", "job") == 2
    place.team.kubectl("delete", "pod", "planted")
    place.assert_nothing_left()
