"""``ExecutionEnvironmentOperator``: a job in any image, whose inputs are there when it starts and whose outputs are committed when it ends well.

::

    extract = ExecutionEnvironmentOperator(task_id="extract", image="team/extract", tag="1.4")
    report = ExecutionEnvironmentOperator(task_id="report", image="team/report:2.0", inputs={"flights": extract.output})

It is Airflow's ``KubernetesPodOperator`` and takes every keyword of it. What the pod came to is decided by the manifest alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException

from airflow_ops import ending, metrics, story
from airflow_ops.enriching import Prepared, enrich
from airflow_ops.inputs import DataTask, Deliver
from airflow_ops.links import TaskOutputLink, note_output
from airflow_ops.operators.delivery import deliver_by_server, deliver_in_pod, wanted_deliveries
from airflow_ops.operators.pod_job import Launcher, PodJob
from airflow_ops.operators.pods import (
    ATTEMPT_ANNOTATION,
    KEY_ANNOTATION,
    NONCE_ANNOTATION,
    TEAM_LABEL,
    PodParts,
    keep_of,
    label_value,
    shared_path_of,
)
from airflow_ops.operators.process import run_process
from airflow_ops.operators.reattaching import origin_of
from airflow_ops.settings import Settings
from datalayer.errors import ConfigError, DataLayerError
from datalayer.handoff.context import ProducerSpec
from datalayer.handoff.packing import context_environment
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from airflow.sdk import Context

    from datalayer.handoff.context import TaskContext
    from datalayer.handoff.report import Delivered, TaskReport
    from datalayer.resolve.resolution import Resolution


class ExecutionEnvironmentOperator(DataTask, PodJob):
    """A job in any image, unchanged: it reads directories and writes directories, and what it wrote is committed when it ends with 0.

    Args:
        task_id: The task.
        image: The job's image, with its tag or without.
        tag: The image's tag.
        job_config: Inputs, outputs and destinations in the form of a document.
        inputs: Tasks whose outputs are read, by the name that the job knows each by: ``{"flights": extract.output}``. They become upstream.
        outputs: The names of the outputs; by default one, ``default``.
        deliver: Where copies of the outputs go after the commit: ``[S3Destination("bucket", "path/", "connection")]``, or that by output.
        launcher: ``kubernetes`` or ``process``; by default as Airflow's section ``[datalayer]`` says.
        **told: Everything that ``KubernetesPodOperator`` takes.

    Raises:
        ConfigError: An argument cannot be used.
    """

    operator_extra_links = (TaskOutputLink(),)
    template_fields: Sequence[str] = (*KubernetesPodOperator.template_fields, *DataTask.data_fields)

    def __init__(
        self,
        *,
        task_id: str,
        image: str | None = None,
        tag: str | None = None,
        job_config: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Iterable[str] | None = None,
        deliver: Deliver | None = None,
        launcher: Launcher | None = None,
        **told: Any,
    ) -> None:
        super().__init__(task_id=task_id, image=f"{image}:{tag}" if image and tag else image, **told)
        if launcher not in {None, "kubernetes", "process"}:
            raise ConfigError(f"launcher: {launcher!r} is none; use kubernetes or process")
        self.launcher = launcher
        self._prepared: Prepared | None = None
        self._report: TaskReport | None = None
        self._told: str | None = None
        self._origin: dict[str, str] = {}
        self._declare(job_config, inputs, outputs, deliver)

    def pre_execute(self, context: Context) -> None:
        """Resolve and pin the inputs, and claim the attempt. After a deferral its own are found again."""
        super().pre_execute(context)
        self._prepared = enrich(self, context, producer=ProducerSpec(operator=type(self).__name__, image=self.image))
        self._origin = origin_of(self._prepared, context)
        for line in story.of_inputs(self._prepared):
            self.log.info("%s", line)

    def execute(self, context: Context) -> Any:
        """Run the job, in a pod or as a process of this worker."""
        if self._killed:
            raise AirflowException(f"task {self.task_id!r} was told to end before its job was started")
        if self._launcher == "process":
            self._report = run_process(self, self._task, self._settings)
            return None
        run = super().execute
        return self._judged(lambda: run(context), context)

    def post_execute(self, context: Context, result: Any = None) -> None:
        """Make sure that the head names this try's attempt; then deliver, tell and count."""
        task = self._task
        resolution = ending.require_commit(task, self._report, self._told)
        for line in story.of_commit(resolution, self._report):
            self.log.info("%s", line)
        metrics.committed(task.key)
        if self._report is not None:
            metrics.moved(task.key, self._report.receipt)
        for line in story.of_deliveries(self._deliver(task, resolution)):
            self.log.info("%s", line)
        ending.note_assets(context, self.outlets, resolution)
        note_output(self, task.layer, resolution, context)
        super().post_execute(context, result)

    def _pod_parts(self, task: Prepared) -> PodParts:
        found, config = self._settings, task.layer.config
        if not found.committer_image:
            raise ConfigError(
                "committer_image is not set in Airflow's section [datalayer]: name the image that prepares inputs and commits outputs "
                "(docker/job of this project), or use launcher = process"
            )
        shared = (
            config.tiers.get(Tier.SHARED.value)
            if Tier.SHARED in {task.layer.design.data, *task.layer.design.reads}
            else None
        )
        return PodParts(
            committer_image=found.committer_image,
            base=self.base_container_name,
            context=context_environment(task.context),
            labels={TEAM_LABEL: label_value(task.key.team)},
            annotations={
                KEY_ANNOTATION: str(task.key),
                ATTEMPT_ANNOTATION: str(task.attempt),
                NONCE_ANNOTATION: task.claim.nonce,
                **self._origin,
            },
            credentials_secret=found.credentials_secret,
            volume_claim=found.volume_claim,
            shared_path=shared_path_of(shared.url) if shared else None,
            grace=int(found.commit_timeout),
            keep=keep_of(self.on_finish_action.value),
        )

    def process_command(self, found: Settings) -> list[str]:
        """Return the command for the launcher ``process``.

        Raises:
            ConfigError: There is none: an image's own entrypoint cannot be known here.
        """
        command = [*self.cmds, *self.arguments]
        if not command:
            raise ConfigError(
                f"task {self.task_id!r} names no cmds and no arguments, and what its image would run by itself cannot be known without a "
                "cluster: add cmds=[…], which also holds in a pod"
            )
        return [mapped(part, found.process_folders) for part in command]

    def process_context(self, context: TaskContext) -> TaskContext:
        """Return what the job is told by the launcher ``process``."""
        return context

    def _deliver(self, task: Prepared, resolution: Resolution) -> list[Delivered]:
        done = list(self._report.delivered) if self._report is not None else []
        wanted = wanted_deliveries(task, done)
        if not wanted:
            return done
        try:
            found, left = deliver_by_server(task, resolution, wanted, self.log)
            done += found
            if left:
                done += deliver_in_pod(
                    self.client,
                    task,
                    left,
                    self._pod_parts(task),
                    namespace=self._namespace,
                    like=self.pod or self.pod_request_obj,
                    quota_wait=self._settings.quota_wait,
                    limit=self._settings.commit_timeout,
                    log=self.log,
                    stopped=lambda: self._killed,
                )
        except DataLayerError as error:
            raise ending.as_airflow(error) from error
        return done

    @property
    def _namespace(self) -> str:
        """The namespace that the task's pod was in."""
        pod = self.pod or self.pod_request_obj
        if pod is not None:
            return str(pod.metadata.namespace)
        return str(self.namespace or self.hook.get_namespace() or "default")


def mapped(text: str, folders: Mapping[str, str]) -> str:
    """Return a path of the image as it is on this machine; any other text as it is."""
    # The innermost of folders that lie in each other.
    for ours, local in sorted(folders.items(), reverse=True):
        folder = ours.rstrip("/")
        if text == folder or text.startswith(f"{folder}/"):
            return local.rstrip("/") + text[len(folder) :]
    return text
