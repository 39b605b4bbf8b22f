"""What the committer of a Spark job is told of its executors, and by which names they are known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.sdk.exceptions import AirflowFailException
from kubernetes.client import models as k8s

from airflow_ops.enriching import Prepared
from airflow_ops.operators.pods import COMMITTER
from airflow_ops.operators.spark import SparkExecutionEnvironmentOperator
from airflow_ops.settings import Settings
from datalayer import Config, DataLayer, TaskKey
from datalayer.handoff.context import TaskContext
from datalayer.handoff.packing import unpacked
from spark_env.kubernetes import JOB_PREFIX, DriverPod, SparkOnPods, driver_conf, driver_label

KEY = TaskKey(team="aviation", dag_id="dag", task_id="job", run="20260101T000000Z")
TEMPLATE: dict[str, Any] = {
    "spec": {
        "imagePullSecrets": [{"name": "registry"}],
        "securityContext": {"fsGroup": 12},
        "containers": [{"name": "base", "image": "team/spark:7", "imagePullPolicy": "Always"}],
    }
}


@pytest.fixture
def task(tmp_path: Path) -> Prepared:
    config = {"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path)}}}
    layer = DataLayer(Config.from_mapping(config))
    return Prepared(layer, TaskContext(key=str(KEY)), (), layer.publisher().publish(KEY).claim)


def variables(task: Prepared, **told: Any) -> dict[str, str]:
    """The committer's variables of the job."""
    job = SparkExecutionEnvironmentOperator(task_id="job", application="a.py", name="job", namespace="team", **told)
    job._prepared = task
    job.__dict__["_settings"] = Settings(committer_image="committer:1", volume_claim="claim")
    pod: k8s.V1Pod = job.build_pod_request_obj(dry_run=True)
    (committer,) = [one for one in pod.spec.init_containers if one.name == COMMITTER]
    return {one.name: one.value for one in committer.env if one.name.startswith(JOB_PREFIX)}


def told_of(task: Prepared, **told: Any) -> SparkOnPods:
    return msgspec.json.decode(unpacked(variables(task, **told), JOB_PREFIX, "it"), type=SparkOnPods)


def test_executors_are_as_the_pod_that_the_author_gets_whoever_wrote_it(task: Prepared) -> None:
    job = told_of(task, pod_template_dict=TEMPLATE)
    assert (job.image, job.pull_policy, job.pull_secrets) == ("team/spark:7", "Always", ("registry",))
    assert job.template["spec"]["securityContext"]["fsGroup"] == 12
    job = told_of(task, pod_template_dict=TEMPLATE, image="own:1")
    assert (job.image, job.pull_secrets) == ("own:1", ("registry",))


def test_they_run_the_image_that_the_clusters_hook_gives_the_driver(
    task: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hook(pod: k8s.V1Pod) -> None:
        pod.spec.containers[0].image = f"mirror/{pod.spec.containers[0].image}"

    monkeypatch.setattr("airflow.providers.cncf.kubernetes.operators.pod.pod_mutation_hook", hook)
    assert told_of(task, image="own:1").image == "mirror/own:1"


def test_a_job_without_an_image_is_an_error(task: Prepared) -> None:
    with pytest.raises(AirflowFailException, match="names the image"):
        told_of(task)


def test_no_setting_is_expanded_by_the_kubelet_or_too_long_for_linux(task: Prepared) -> None:
    conf = {"spark.a": "$(HOME)", **{f"spark.b{at}": f"{hash(str(at) * 9):x}" * 20 for at in range(2000)}}
    found = variables(task, image="own:1", conf=conf)
    assert all("$" not in value and len(value) < 128 << 10 for value in found.values())
    job = msgspec.json.decode(unpacked(found, JOB_PREFIX, "it"), type=SparkOnPods)
    assert job.conf == conf


@pytest.mark.parametrize("name", ["short", "a" * 62 + ".b", "a" * 250])
def test_names_made_of_the_drivers_name_are_within_the_limits(name: str) -> None:
    label = driver_label(name)
    assert re.fullmatch(r"[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?", label)
    settings = driver_conf(
        SparkOnPods(name="a", image="i", executors=(1, 1)), DriverPod(name, "t", "i", "a"), template="x"
    )
    prefix = settings["spark.kubernetes.executor.podNamePrefix"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,45}[a-z0-9])?", prefix)
    assert driver_label(name) != driver_label(f"{name}x")
