"""F17: the pod vanishes, or its creation is answered twice. It is known by name and claim; the manifest decides."""

from __future__ import annotations

import pytest

from tests.cluster.operating import Place, Tasks, wait_until

SLOW = """
with DAG("faults", start_date=START) as dag:
    ExecutionEnvironmentOperator(
        task_id="job", image=SHELL, cmds=sh("echo 1 > $DATALAYER_OUT/default/one; sleep {seconds}"), **ARGS
    )
"""
LOST_ANSWER = """
import airflow_ops.operators.waiting as waiting
from kubernetes.client import CoreV1Api
from urllib3.exceptions import ProtocolError

whole = CoreV1Api.create_namespaced_pod
lost = []

def create(self, *args, **kwargs):
    found = whole(self, *args, **kwargs)
    if not lost:
        lost.append(found)
        raise ProtocolError("the connection was closed")
    return found

CoreV1Api.create_namespaced_pod = create
"""


@pytest.mark.parametrize("how", [["--grace-period=0", "--force"], ["--grace-period=5"]], ids=["by-force", "with-grace"])
def test_f17_a_pod_that_vanishes_while_its_job_runs_has_committed_nothing(
    place: Place, tasks: Tasks, how: list[str]
) -> None:
    started = tasks.start(place, SLOW.format(seconds=600))
    pod = wait_until(place.running, "the pod runs")
    place.team.kubectl("delete", "pod", pod["metadata"]["name"], *how)
    assert started.wait() in {"failed", "up_for_retry"}, started.story()
    assert place.head("faults", "job") is None
    place.assert_nothing_left()


def test_f17_a_pod_that_is_deleted_is_not_given_its_hour(place: Place, tasks: Tasks) -> None:
    deaf = "trap '' TERM; echo 1 > $DATALAYER_OUT/default/one; while true; do sleep 1; done"
    source = SLOW.replace("echo 1 > $DATALAYER_OUT/default/one; sleep {seconds}", deaf)
    started = tasks.start(place, source)
    pod = wait_until(place.running, "the pod runs")
    place.team.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    wait_until(started.result.exists, "the task ends")
    assert started.wait() in {"failed", "up_for_retry"}, started.story()
    assert "was deleted before its job had ended" in started.error
    assert place.head("faults", "job") is None
    place.assert_nothing_left()


def test_f17_a_pod_that_vanishes_after_its_commit_has_succeeded(place: Place, tasks: Tasks) -> None:
    source = (
        SLOW.format(seconds=1)
        + """
import time
import airflow_ops.operators.pod_job as module

# A worker that looks away while the pod commits and somebody removes it.
def look(read, **kwargs):
    time.sleep(15)
    return read()

module.until_base_ended = look
"""
    )
    started = tasks.start(place, source)
    wait_until(lambda: place.head("faults", "job"), "the pod commits")
    place.team.kubectl("delete", "pods", "--all", "--grace-period=0", "--force")
    assert started.wait() == "success", started.story()
    assert place.text("faults", "job", "one") == "1\n"
    place.assert_nothing_left()


def test_f17_a_creation_whose_answer_is_lost_makes_one_pod(place: Place, tasks: Tasks) -> None:
    started = tasks.start(place, LOST_ANSWER + SLOW.format(seconds=8))
    wait_until(place.running, "the pod runs")
    assert len(place.pods()) == 1
    assert started.wait() == "success", started.story()
    assert "the answer to its creation was lost" in started.story()
    assert place.head("faults", "job") == 1
    place.assert_nothing_left()
