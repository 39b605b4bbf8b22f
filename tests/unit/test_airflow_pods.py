"""The pod of a task, as it is sent to the API server: our parts beside the author's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from airflow_ops.operators import pod_states
from airflow_ops.operators.execution_environment import ExecutionEnvironmentOperator, mapped
from airflow_ops.operators.pods import COMMITTER, PodParts, shared_path_of
from airflow_ops.operators.process import variables
from airflow_ops.operators.spark import SparkExecutionEnvironmentOperator
from airflow_ops.operators.waiting import quota_refusal
from datalayer.errors import ConfigError
from datalayer.handoff.report import ReportedError, TaskReport
from spark_env.kubernetes import (
    DriverPod,
    SparkOnPods,
    as_properties,
    data_conf,
    driver_conf,
    executor_template,
    submit_command,
)

PARTS = PodParts(
    committer_image="committer:1",
    base="base",
    context={"DATALAYER_INTERNAL_CONTEXT_0": "packed"},
    labels={"team": "aviation"},
    annotations={"datalayer/attempt": "3"},
    credentials_secret="keys",
)


def built(parts: PodParts | None = PARTS, **told: Any) -> dict[str, Any]:
    """The pod that the provider's builder makes of an operator's arguments, as the API spells it."""
    job = KubernetesPodOperator(task_id="job", image="team/job:1", name="job", namespace="team", **told)
    job.secrets = [parts] if parts else []  # type: ignore[list-item]  # it has a Secret's one method
    found: dict[str, Any] = ApiClient().sanitize_for_serialization(job.build_pod_request_obj(dry_run=True))
    return found


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    spec = pod["spec"]
    (found,) = [one for one in [*spec.get("initContainers", []), *spec["containers"]] if one["name"] == name]
    return dict(found)


def test_the_image_is_unchanged_and_the_committer_is_a_native_sidecar_before_all_others() -> None:
    pod = built(init_containers=[k8s.V1Container(name="mine", image="x")], cmds=["run"], arguments=["it"])
    assert [one["name"] for one in pod["spec"]["initContainers"]] == [COMMITTER, "mine"]
    committer, base = container(pod, COMMITTER), container(pod, "base")
    assert (base["image"], base["command"], base["args"]) == ("team/job:1", ["run"], ["it"])
    assert (committer["restartPolicy"], committer["command"]) == ("Always", ["datalayer", "pod"])
    assert "/datalayer/ready" in committer["startupProbe"]["exec"]["command"][-1]
    variables = {one["name"]: one.get("value") for one in base["env"]}
    assert variables["DATALAYER_OUT"] == "/datalayer/out"
    assert {"DATALAYER_INTERNAL_CONTEXT_0", "DATALAYER_INTERNAL_POD_UID"} <= {one["name"] for one in committer["env"]}
    assert pod["metadata"]["labels"]["datalayer/managed"] == "true"
    assert pod["metadata"]["annotations"]["datalayer/attempt"] == "3"


def test_only_the_committer_gets_the_token_and_no_secret_stands_in_the_pod() -> None:
    pod = built()
    assert pod["spec"]["automountServiceAccountToken"] is False
    mounts = {name: [one["name"] for one in container(pod, name)["volumeMounts"]] for name in ("base", COMMITTER)}
    assert mounts == {"base": ["datalayer"], COMMITTER: ["datalayer", "datalayer-token"]}
    assert container(pod, "base")["envFrom"] == [{"secretRef": {"name": "keys"}}]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, 10001),
        (k8s.V1PodSecurityContext(run_as_user=5), 10001),
        ({"runAsUser": 5}, 10001),
        ({"fsGroup": 7}, 7),
        (k8s.V1PodSecurityContext(fs_group=7), 7),
    ],
)
def test_a_group_is_set_where_the_author_sets_none(given: Any, expected: int) -> None:
    security = built(security_context=given)["spec"]["securityContext"]
    assert security["fsGroup"] == expected
    if given and not isinstance(given, dict) and given.run_as_user:
        assert security["runAsUser"] == 5


def test_what_the_author_wrote_for_the_pod_stays() -> None:
    template = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": {"mine": "1"}},
        "spec": {
            "securityContext": {"fsGroup": 12, "runAsUser": 5},
            "containers": [{"name": "base", "env": [{"name": "A", "value": "1"}]}],
            "volumes": [{"name": "mine", "emptyDir": {}}],
        },
    }
    pod = built(
        pod_template_dict=template,
        env_vars={"B": "2"},
        service_account_name="own",
        termination_grace_period=17,
        automount_service_account_token=True,
        affinity={"nodeAffinity": {}},
        container_resources=k8s.V1ResourceRequirements(limits={"cpu": "2"}),
    )
    spec, base = pod["spec"], container(pod, "base")
    assert spec["securityContext"] == {"fsGroup": 12, "runAsUser": 5}
    assert (spec["serviceAccountName"], spec["terminationGracePeriodSeconds"]) == ("own", 3600)
    assert spec["automountServiceAccountToken"] is True
    assert {"A", "B", "DATALAYER_IN"} <= {one["name"] for one in base["env"]}
    assert base["resources"] == {"limits": {"cpu": "2"}}
    assert "mine" in [one["name"] for one in spec["volumes"]]
    assert pod["metadata"]["labels"]["mine"] == "1"


@pytest.mark.parametrize(("own", "expected"), [(17, 3600), (None, 3600), (7200, 7200)])
def test_an_upload_has_the_time_of_a_commit_or_more_where_the_author_gives_more(own: int | None, expected: int) -> None:
    assert built(termination_grace_period=own)["spec"]["terminationGracePeriodSeconds"] == expected


def test_what_the_author_takes_from_elsewhere_wins_over_the_credentials() -> None:
    own = k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name="mine"))
    assert [one["secretRef"]["name"] for one in container(built(env_from=[own]), "base")["envFrom"]] == ["keys", "mine"]
    template = {"spec": {"containers": [{"envFrom": [{"secretRef": {"name": "mine"}}]}]}}
    (one,) = executor_template(template, labels={}, credentials_secret="keys")["spec"]["containers"]
    assert [item["secretRef"]["name"] for item in one["envFrom"]] == ["keys", "mine"]


@pytest.mark.parametrize(
    ("policy", "expected"), [("Never", None), ("Always", "Always"), ("IfNotPresent", "IfNotPresent")]
)
def test_an_image_that_must_be_there_already_says_nothing_of_the_committers(policy: str, expected: str | None) -> None:
    pod = built(image_pull_policy=policy)
    assert container(pod, "base")["imagePullPolicy"] == policy
    assert container(pod, COMMITTER).get("imagePullPolicy") == expected


@pytest.mark.parametrize("security", [None, {"runAsUser": 5}, k8s.V1PodSecurityContext(run_as_user=5)])
def test_the_committer_is_as_restricted_pods_want_it(security: Any) -> None:
    assert container(built(security_context=security), COMMITTER)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@pytest.mark.parametrize("security", [{"runAsUser": 0}, k8s.V1PodSecurityContext(run_as_user=0)])
def test_in_a_pod_of_roots_the_committer_is_root_too(security: Any) -> None:
    found = container(built(security_context=security), COMMITTER)["securityContext"]
    assert found["runAsNonRoot"] is False
    assert "capabilities" not in found


def test_the_shared_volume_is_mounted_where_the_tier_says() -> None:
    shared = PodParts(committer_image="c", base="base", volume_claim="claim", shared_path="/mnt/shared")
    pod = built(shared)
    for name in ("base", COMMITTER):
        assert {"name": "datalayer-shared", "mountPath": "/mnt/shared"} in container(pod, name)["volumeMounts"]
    with pytest.raises(ConfigError, match="volume_claim"):
        built(PodParts(committer_image="c", base="base", shared_path="/mnt/shared"))


@pytest.mark.parametrize(
    ("url", "expected"), [("/a/b", "/a/b"), ("file:///a", "/a"), ("s3://a/b", None), ("relative", None), (None, None)]
)
def test_where_a_volume_is_mounted(url: str | None, expected: str | None) -> None:
    assert shared_path_of(url) == expected


def test_names_of_ours_are_refused() -> None:
    with pytest.raises(ConfigError, match="'datalayer' already"):
        built(volumes=[k8s.V1Volume(name="datalayer", empty_dir=k8s.V1EmptyDirVolumeSource())])


def status(**states: Any) -> k8s.V1Pod:
    """A pod's status: `base` and `committer` as states, `phase`."""

    def one(name: str, state: dict[str, Any]) -> k8s.V1ContainerStatus:
        kinds: dict[str, Callable[..., Any]] = {
            "running": k8s.V1ContainerStateRunning,
            "waiting": k8s.V1ContainerStateWaiting,
            "terminated": k8s.V1ContainerStateTerminated,
        }
        now = k8s.V1ContainerState(**{kind: kinds[kind](**told) for kind, told in state.items() if kind in kinds})
        last = state.get("last")
        before = k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(**last) if last else None)
        return k8s.V1ContainerStatus(
            name=name,
            image="",
            image_id="",
            ready=False,
            restart_count=state.get("restarts", 0),
            state=now,
            last_state=before,
        )

    return k8s.V1Pod(
        status=k8s.V1PodStatus(
            phase=states.get("phase", "Running"),
            reason=states.get("reason"),
            init_container_statuses=[one(COMMITTER, states.get("committer", {}))],
            container_statuses=[one("base", states.get("base", {}))],
        )
    )


def ended(state: str = "succeeded", *, retryable: bool = True) -> dict[str, Any]:
    error = None if state == "succeeded" else ReportedError("NotFoundError", "gone", retryable)
    report = TaskReport(
        state="succeeded" if state == "succeeded" else "failed", key="/a/b/c/d", exit_code=0, error=error
    )
    return {"exit_code": 0, "message": report.encode().decode()}


def test_a_pod_has_ended_when_the_committer_has_said_what_it_did() -> None:
    base = {"terminated": {"exit_code": 0}}
    assert not pod_states.has_ended(status(base=base, committer={"running": {}}), "base")
    assert pod_states.has_ended(status(base=base, committer={"terminated": ended()}), "base")
    # A sidecar that is started anew has said it before.
    assert pod_states.has_ended(status(base=base, committer={"running": {}, "last": ended()}), "base")
    assert not pod_states.has_ended(status(base={"running": {}}, committer={"running": {}}), "base")
    assert pod_states.has_ended(status(phase="Failed", committer={"terminated": {"exit_code": 137}}), "base")


def test_a_report_before_the_job_has_started_says_that_preparing_failed() -> None:
    waiting = {"waiting": {"reason": "PodInitializing"}}
    found = pod_states.preparing_failed(
        status(phase="Pending", base=waiting, committer={"waiting": {}, "last": ended("failed")}), "base"
    )
    assert found is not None
    assert found.error is not None
    assert found.error.message == "gone"
    assert (
        pod_states.preparing_failed(status(base={"running": {}}, committer={"last": ended("failed")}), "base") is None
    )


def test_how_a_job_ended_is_told_in_words() -> None:
    killed = status(base={"terminated": {"exit_code": 137, "reason": "OOMKilled"}})
    assert "more memory than its limit" in pod_states.end_of_base(killed, "base")
    assert "Evicted" in pod_states.end_of_base(status(reason="Evicted"), "base")


@pytest.mark.parametrize(
    ("status_code", "body", "expected"),
    [
        (403, '{"message": "pods \\"a\\" is forbidden: exceeded quota: q"}', True),
        (403, '{"message": "no rights"}', False),
        (403, None, False),
        (500, '{"message": "exceeded quota"}', False),
    ],
)
def test_a_quota_is_told_from_other_refusals(status_code: int, body: str | None, expected: bool) -> None:
    error = ApiException(status=status_code)
    error.body = body
    assert (quota_refusal(error) is not None) is expected


def test_paths_of_the_image_are_those_of_this_machine() -> None:
    folders = {"/job": "/here", "/job/data": "/there/"}
    assert mapped("/job/a.py", folders) == "/here/a.py"
    assert mapped("/job/data/a", folders) == "/there/a"
    assert mapped("/jobs/a.py", folders) == "/jobs/a.py"
    assert mapped("see /job/a.py", folders) == "see /job/a.py"


def test_a_variable_that_only_a_pod_has_is_an_error_without_one() -> None:
    assert variables([k8s.V1EnvVar(name="A", value="1")]) == {"A": "1"}
    source = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path="metadata.name"))
    with pytest.raises(ConfigError, match="A takes its value from the pod"):
        variables([k8s.V1EnvVar(name="A", value_from=source)])


def test_arguments_that_cannot_be_used_are_errors_when_the_dag_is_parsed() -> None:
    with pytest.raises(ConfigError, match="launcher"):
        ExecutionEnvironmentOperator(task_id="a", image="i", launcher="docker")  # type: ignore[arg-type]  # the wrong type is what is tested
    with pytest.raises(ConfigError, match="both given"):
        ExecutionEnvironmentOperator(task_id="a", image="i", job_config={}, outputs=["x"])
    with pytest.raises(ConfigError, match="executors"):
        SparkExecutionEnvironmentOperator(task_id="a", image="i", application="a.py", executors=0)
    with pytest.raises(ConfigError, match="cmds"):
        SparkExecutionEnvironmentOperator(task_id="a", image="i", application="a.py", cmds=["x"])


# Spark --------------------------------------------------------------------------------------------------------------------------------


def test_an_application_is_python_a_jar_or_sql() -> None:
    tail = ["--properties-file", "/datalayer/spark.conf"]
    words = submit_command("local:///job/a.py", ["1"], properties="/datalayer/spark.conf")
    assert words[-4:] == [*tail, "/job/a.py", "1"]
    words = submit_command("/job/a.jar", main_class="jobs.A", properties="/datalayer/spark.conf")
    assert words[-5:] == [*tail, "--class", "jobs.A", "/job/a.jar"]
    words = submit_command("local:///job/a.sql", properties="/datalayer/spark.conf")
    assert words[-3:] == ["spark-internal", "-f", "/job/a.sql"]


def test_executors_belong_to_the_drivers_pod_and_find_it_by_its_address() -> None:
    job = SparkOnPods(name="a", image="i", executors=(1, 4), conf={})
    settings = driver_conf(job, DriverPod("pod", "team", "10.0.0.7", "account"), template="/datalayer/executor.json")
    assert settings["spark.kubernetes.driver.pod.name"] == "pod"
    assert settings["spark.driver.host"] == "10.0.0.7"
    assert settings["spark.submit.deployMode"] == "client"
    assert settings["spark.dynamicAllocation.maxExecutors"] == "4"
    fixed = driver_conf(SparkOnPods(name="a", image="i", executors=(2, 2)), DriverPod("p", "t", "i", "a"), template="x")
    assert "spark.dynamicAllocation.enabled" not in fixed
    assert fixed["spark.executor.instances"] == "2"


def test_no_key_stands_in_sparks_settings() -> None:
    from datalayer.config import Config

    keys = {"endpoint": "http://s3", "access_key_id": "AKIA", "secret_access_key": "hush"}
    config = Config.from_mapping(
        {"design": "s3-direct", "tiers": {"cold": {"url": "s3://b/t", "connection": "c"}}, "connections": {"c": keys}}
    )
    settings = data_conf(config, {"AWS_SECRET_ACCESS_KEY": "hush", "AWS_ACCESS_KEY_ID": "AKIA"})
    assert "hush" not in str(settings)
    assert settings["spark.hadoop.fs.s3a.bucket.b.endpoint"] == "http://s3"


def test_the_authors_template_of_executors_is_kept() -> None:
    author = {"spec": {"nodeSelector": {"a": "b"}, "containers": [{"name": "x", "env": [{"name": "A", "value": "1"}]}]}}
    found = executor_template(author, labels={"team": "aviation"}, credentials_secret="keys", fs_group=7)
    (one,) = found["spec"]["containers"]
    assert one["env"] == [{"name": "A", "value": "1"}]
    assert one["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert found["spec"]["nodeSelector"] == {"a": "b"}
    assert found["spec"]["securityContext"] == {"fsGroup": 7}
    assert "team" not in author.get("metadata", {})


def test_settings_survive_a_properties_file() -> None:
    text = as_properties({"spark.a:b c": "x=y\\z\n", "spark.z": " ü"})
    assert text == "spark.a\\:b\\ c=x=y\\\\z\\n\nspark.z=\\ \\u00fc\n"
