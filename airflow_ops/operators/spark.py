"""``SparkExecutionEnvironmentOperator``: a Spark application on a task's data. The driver is the task's own pod, executors are pods beside it.

::

    report = SparkExecutionEnvironmentOperator(task_id="report", image="team/spark-job", tag="2.0", application="local:///job/report.py",
                                               inputs={"flights": extract.output}, executors=2)

The application reads ``spark.datalayer.input.flights.default`` and writes ``spark.datalayer.output.default``: URIs of the tiers themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from airflow_ops import ending
from airflow_ops.operators.execution_environment import ExecutionEnvironmentOperator, mapped
from airflow_ops.operators.pods import (
    COMMITTER,
    FOLDER,
    MANAGED_LABEL,
    TEAM_LABEL,
    PodParts,
    from_field,
    fs_group_of,
    label_value,
    shared_mounts,
)
from datalayer.errors import ConfigError
from datalayer.handoff.packing import packed
from spark_env.committer import ACCOUNT_VARIABLE
from spark_env.kubernetes import (
    DRIVER_LABEL,
    JOB_PREFIX,
    PROPERTIES,
    SparkOnPods,
    driver_label,
    executor_template,
    submit_command,
)

if TYPE_CHECKING:
    from airflow_ops.enriching import Prepared
    from airflow_ops.settings import Settings
    from datalayer.handoff.context import TaskContext


class SparkExecutionEnvironmentOperator(ExecutionEnvironmentOperator):
    """A Spark application: Python, a jar, or a file of SQL.

    Args:
        application: Its path in the image: ``local:///job/report.py``.
        application_args: For the application.
        main_class: Of a jar.
        executors: How many; ``(1, 10)`` for as many as there is work for, within these bounds.
        executor_cores: Tasks at once on each executor.
        executor_memory: Of each executor's heap, as Spark writes it.
        executor_cpu: What an executor's pod asks for, as Kubernetes writes it; by default its cores.
        executor_template: A pod template for executors, as the API spells it or as a ``V1Pod``.
        conf: Spark settings, which win over ours.
        **told: As for :class:`ExecutionEnvironmentOperator`. ``container_resources`` and the like are the driver's.

    Raises:
        ConfigError: An argument cannot be used.
    """

    template_fields: Sequence[str] = (
        *ExecutionEnvironmentOperator.template_fields,
        "application",
        "application_args",
        "main_class",
        "conf",
    )

    def __init__(
        self,
        *,
        application: str,
        application_args: Sequence[str] | None = None,
        main_class: str | None = None,
        executors: int | tuple[int, int] = 2,
        executor_cores: int = 1,
        executor_memory: str = "1g",
        executor_cpu: str | None = None,
        executor_template: Mapping[str, Any] | k8s.V1Pod | None = None,
        conf: Mapping[str, str] | None = None,
        **told: Any,
    ) -> None:
        super().__init__(**told)
        for name in ("cmds", "arguments"):
            if told.get(name):
                raise ConfigError(f"{name}: what runs is the application; give it application_args")
        fewest, most = (executors, executors) if isinstance(executors, int) else executors
        if not 1 <= fewest <= most:
            raise ConfigError(f"executors: {executors!r} is no number of executors; write 2, or (1, 10)")
        self.application = application
        self.application_args = list(application_args or ())
        self.main_class = main_class
        self.executors = executors
        self.executor_cores = executor_cores
        self.executor_memory = executor_memory
        self.executor_cpu = executor_cpu
        self.executor_template = executor_template
        self.conf = dict(conf or {})

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """Return the driver's pod."""
        self.arguments = submit_command(
            self.application, self.application_args, main_class=self.main_class, properties=f"{FOLDER}/{PROPERTIES}"
        )
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        if self._prepared is not None:
            try:
                self._tell_of_executors(pod, self._prepared)
            except ConfigError as error:
                raise ending.as_airflow(error) from error
        return pod

    def process_command(self, found: Settings) -> list[str]:
        """Return the command for the launcher ``process``: Spark in one process of this machine."""
        application = mapped(self.application.removeprefix("local://"), found.process_folders)
        told = ["--class", self.main_class] if self.main_class else []
        for name, value in self.conf.items():
            told += ["--conf", f"{name}={value}"]
        arguments = [mapped(one, found.process_folders) for one in self.application_args]
        return [sys.executable, "-m", "spark_env.submit", *told, application, *arguments]

    def process_context(self, context: TaskContext) -> TaskContext:
        """Return the context with every input in place, as Spark reads it in a pod."""
        inputs = {alias: msgspec.structs.replace(spec, access="in-place") for alias, spec in context.inputs.items()}
        return msgspec.structs.replace(context, inputs=inputs)

    def cleanup(self, pod: k8s.V1Pod, remote_pod: k8s.V1Pod | None, *told: Any, **more: Any) -> None:
        """As for any job; and executors that a driver left behind go with it."""
        try:
            super().cleanup(pod, remote_pod, *told, **more)
        finally:
            self._end_executors(remote_pod)

    def _pod_parts(self, task: Prepared) -> PodParts:
        return msgspec.structs.replace(
            super()._pod_parts(task),
            command=("python", "-m", "spark_env.committer"),
            committer_env=(from_field(ACCOUNT_VARIABLE, "spec.serviceAccountName"),),
            base_token=True,
        )

    def _tell_of_executors(self, pod: k8s.V1Pod, task: Prepared) -> None:
        """Tell the committer what executors are to be. From the pod as it will be: its image may be a template's, or the cluster's hook's."""
        job = self._job(task, ApiClient().sanitize_for_serialization(pod.spec))
        (committer,) = [one for one in pod.spec.init_containers if one.name == COMMITTER]
        variables = packed(msgspec.json.encode(job), JOB_PREFIX)
        committer.env = [*committer.env, *(k8s.V1EnvVar(name=name, value=value) for name, value in variables.items())]

    def _job(self, task: Prepared, spec: Mapping[str, Any]) -> SparkOnPods:
        (base,) = [one for one in spec["containers"] if one["name"] == self.base_container_name]
        if not base.get("image"):
            raise ConfigError(
                f"task {self.task_id!r}: neither image= nor its pod template names the image that driver and executors run"
            )
        parts = self._pod_parts(task)
        spell = ApiClient().sanitize_for_serialization
        volumes, mounts = shared_mounts(parts)
        fewest, most = (self.executors, self.executors) if isinstance(self.executors, int) else self.executors
        return SparkOnPods(
            name=f"{task.key.dag_id}.{task.key.task_id}",
            image=base["image"],
            executors=(fewest, most),
            cores=self.executor_cores,
            memory=self.executor_memory,
            cpu=self.executor_cpu,
            pull_policy=base.get("imagePullPolicy"),
            pull_secrets=tuple(one["name"] for one in spec.get("imagePullSecrets") or ()),
            template=executor_template(
                spell(self.executor_template) if self.executor_template is not None else {},
                labels={TEAM_LABEL: label_value(task.key.team), MANAGED_LABEL: "true"},
                credentials_secret=parts.credentials_secret,
                volumes=spell(volumes),
                mounts=spell(mounts),
                fs_group=fs_group_of(spec.get("securityContext")),
            ),
            conf={name: str(value) for name, value in self.conf.items()},
        )

    def _end_executors(self, pod: k8s.V1Pod | None) -> None:
        """Remove executors whose driver did not come to do it. The cluster does so too, where the driver's pod is removed."""
        if pod is None:
            return
        try:
            self.client.delete_collection_namespaced_pod(
                namespace=pod.metadata.namespace,
                label_selector=f"{DRIVER_LABEL}={driver_label(pod.metadata.name)}",
                grace_period_seconds=5,
            )
        except ApiException as error:
            self.log.warning("Executors of %s could not be removed: %s", pod.metadata.name, error.reason)
