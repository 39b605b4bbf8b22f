"""F16: post-execute never runs. A sweep clears what is left, and may be repeated."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest
from kubernetes.client import CoreV1Api
from kubernetes.config import new_client_from_config

from airflow_ops.operators.sweeping import Swept, sweep_namespace
from tests.cluster.operating import Place, Tasks, wait_until
from tests.cluster.test_f01_worker_killed import SOURCE

SLOW = SOURCE.replace("sleep 2", "sleep 600")


def sweep(place: Place, age: timedelta = timedelta(0)) -> Swept:
    with new_client_from_config(str(place.team.cluster.kubeconfig)) as client:
        return sweep_namespace(CoreV1Api(client), place.team.namespace, place.layer, age=age)


@pytest.mark.kills
def test_f16_the_pod_of_a_worker_that_died_before_it_ended_is_swept(place: Place, tasks: Tasks) -> None:
    started = tasks.start(place, SOURCE, environment={"POINT": "committed", "NUMBER": str(int(signal.SIGKILL))})
    assert started.wait() == "killed"
    (pod,) = place.pods()
    place.team.wait(pod["metadata"]["name"])
    # Somebody may still watch a young one.
    assert sweep(place, timedelta(minutes=10)) == Swept([], [])
    assert sweep(place) == Swept([pod["metadata"]["name"]], [])
    place.assert_nothing_left()
    assert sweep(place) == Swept([], [])
    assert place.text("faults", "job", "one") == "1\n"


@pytest.mark.kills
def test_f16_a_running_pod_is_swept_only_when_a_later_attempt_was_claimed(place: Place, tasks: Tasks) -> None:
    started = tasks.start(place, SLOW)
    pod = wait_until(place.running, "the pod runs")
    started.kill(signal.SIGKILL)
    started.wait()
    assert sweep(place) == Swept([], [])
    with place.layer.publish(place.key("faults", "job")) as attempt:
        attempt.output().put("later", b"")
    assert sweep(place).pods == [pod["metadata"]["name"]]
    place.assert_nothing_left()
    assert place.head("faults", "job") == 2
