"""The pod of a task: the user's container as it is, and beside it the committer, a native sidecar that prepares inputs and commits outputs.

:class:`PodParts` adds our parts to a pod that is otherwise complete. It only adds: what a DAG author wrote for the pod stays as it is.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec
from kubernetes.client import models as k8s

from datalayer.errors import ConfigError
from datalayer.handoff.context import CONTEXT_VARIABLE, IN_VARIABLE, JOURNAL_VARIABLE, OUT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = "/datalayer"
"""Where the contract's directories appear, in every container that takes part."""
COMMITTER = "datalayer-committer"
"""The sidecar's name."""
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105  # a folder, no secret
DEFAULT_FS_GROUP = 10001
"""The group that a job of any user and the committer share."""

MANAGED_LABEL = "datalayer/managed"
TEAM_LABEL = "team"
KEY_ANNOTATION = "datalayer/key"
ATTEMPT_ANNOTATION = "datalayer/attempt"
NONCE_ANNOTATION = "datalayer/nonce"
DELIVERY_LABEL = "datalayer/delivery"
"""Of pods that only deliver."""
KEEP_ANNOTATION = "datalayer/keep"
"""That the author wants the pod kept: ``always``, or unless it succeeded (``failed``). A sweep leaves it."""
KEEP_ALWAYS, KEEP_FAILED = "always", "failed"

POD_VARIABLE = "DATALAYER_INTERNAL_POD_"

_DATA_VOLUME = "datalayer"
_SHARED_VOLUME = "datalayer-shared"
_TOKEN_VOLUME = "datalayer-token"  # noqa: S105  # a volume's name
_READY = f"{FOLDER}/ready"
# Preparing may copy for hours; what bounds it is whoever waits for the pod.
_PROBES = 7 * 24 * 3600
_PROBE = 30
"""Seconds for which one probe waits."""


class PodParts(msgspec.Struct, frozen=True, kw_only=True):
    """What is added to a task's pod.

    It has the one method of Airflow's ``Secret`` that the pod's builder calls, so that it is added after all of the author's own parts and
    before the cluster's ``pod_mutation_hook``, which places the pod and has to see all of it.
    """

    committer_image: str
    base: str
    """The name of the user's container."""
    context: Mapping[str, str] = {}
    """The context as variables for the committer."""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    credentials_secret: str | None = None
    """A Secret of the pod's namespace whose keys become variables; None where the pod has an identity of its own."""
    volume_claim: str | None = None
    """A claim of the pod's namespace that is mounted at ``shared_path``."""
    shared_path: str | None = None
    grace: int = 3600
    """Seconds from the end of the job, or the pod's deletion, to its end by force: an upload fits in. More where the author set more."""
    command: Sequence[str] = ("datalayer", "pod")
    """What the committer runs."""
    committer_env: Sequence[k8s.V1EnvVar] = ()
    """More variables for the committer."""
    base_token: bool = False
    """Whether the user's container is given the ServiceAccount's token, too."""
    keep: str | None = None
    """Which ends the pod is kept after, as :data:`KEEP_ANNOTATION` has it."""

    def attach_to_pod(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        """Return a copy of a pod with our parts.

        Raises:
            ConfigError: The pod has a volume or container of a name that is ours, no container of the base's name, or no claim is configured
                for the shared volume.
        """
        pod = copy.deepcopy(pod)
        spec: k8s.V1PodSpec = pod.spec
        base = self._check_names(spec)
        pod.metadata.labels = {**(pod.metadata.labels or {}), **self.labels, MANAGED_LABEL: "true"}
        kept = {KEEP_ANNOTATION: self.keep} if self.keep else {}
        pod.metadata.annotations = {**(pod.metadata.annotations or {}), **self.annotations, **kept}

        mounts = [k8s.V1VolumeMount(name=_DATA_VOLUME, mount_path=FOLDER)]
        volumes = [
            k8s.V1Volume(name=_DATA_VOLUME, empty_dir=k8s.V1EmptyDirVolumeSource()),
            token_volume(),
        ]
        shared_volumes, shared = shared_mounts(self)
        volumes += shared_volumes
        mounts += shared
        token = k8s.V1VolumeMount(name=_TOKEN_VOLUME, mount_path=TOKEN_FOLDER, read_only=True)
        credentials = self._credentials()

        base.env = [*(base.env or []), *_job_variables()]
        # First, so that what the author takes from elsewhere wins.
        base.env_from = [*credentials, *(base.env_from or [])]
        base.volume_mounts = [*(base.volume_mounts or []), *mounts, *([token] if self.base_token else [])]
        committer = self._committer([*mounts, token], credentials, base.image_pull_policy, spec.security_context)
        # Before the author's own: they find the inputs prepared.
        spec.init_containers = [committer, *(spec.init_containers or [])]
        spec.volumes = [*(spec.volumes or []), *volumes]
        spec.security_context = with_fs_group(spec.security_context)
        # It bounds the upload after the job's end, too, which an author's few seconds would cut short.
        spec.termination_grace_period_seconds = max(spec.termination_grace_period_seconds or 0, self.grace)
        if spec.automount_service_account_token is None:
            # A job needs no way to the API server. The committer's is mounted by name.
            spec.automount_service_account_token = False
        return pod

    def _check_names(self, spec: k8s.V1PodSpec) -> k8s.V1Container:
        ours = {_DATA_VOLUME, _SHARED_VOLUME, _TOKEN_VOLUME}
        taken = [volume.name for volume in spec.volumes or [] if volume.name in ours]
        taken += [one.name for one in [*(spec.init_containers or []), *spec.containers] if one.name == COMMITTER]
        if taken:
            raise ConfigError(
                f"the pod has a part named {taken[0]!r} already; that name is the data layer's: rename yours"
            )
        for container in spec.containers:
            if container.name == self.base:
                return container
        known = ", ".join(container.name for container in spec.containers)
        raise ConfigError(
            f"the pod has no container {self.base!r} (it has: {known}): base_container_name names none of them"
        )

    def _credentials(self) -> list[k8s.V1EnvFromSource]:
        if self.credentials_secret is None:
            return []
        return [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=self.credentials_secret))]

    def _committer(
        self,
        mounts: list[k8s.V1VolumeMount],
        credentials: list[k8s.V1EnvFromSource],
        pull_policy: str | None,
        security: Any,
    ) -> k8s.V1Container:
        told = [k8s.V1EnvVar(name=name, value=value) for name, value in self.context.items()]
        return k8s.V1Container(
            name=COMMITTER,
            image=self.committer_image,
            image_pull_policy=own_pull_policy(pull_policy),
            security_context=own_security(security),
            command=[*self.command],
            restart_policy="Always",
            env=[
                *_job_variables(),
                *pod_variables(),
                k8s.V1EnvVar(name=f"{POD_VARIABLE}CONTAINER", value=self.base),
                *told,
                *self.committer_env,
            ],
            env_from=credentials,
            volume_mounts=mounts,
            # The user's container starts when its inputs are there. A look once a second would cost a second: this one waits by itself.
            startup_probe=k8s.V1Probe(
                _exec=k8s.V1ExecAction(command=["sh", "-c", f"until [ -e {_READY} ]; do sleep 0.1; done"]),
                period_seconds=1,
                timeout_seconds=_PROBE,
                failure_threshold=_PROBES // _PROBE,
            ),
            # A namespace with a quota refuses containers that say nothing.
            resources=k8s.V1ResourceRequirements(
                requests={"cpu": "50m", "memory": "128Mi"}, limits={"cpu": "1", "memory": "512Mi"}
            ),
            termination_message_path="/dev/termination-log",
            termination_message_policy="File",
        )


def shared_mounts(parts: PodParts) -> tuple[list[k8s.V1Volume], list[k8s.V1VolumeMount]]:
    """Return the volume of the shared tier and where it is mounted; nothing under a design without one.

    Raises:
        ConfigError: No claim is configured for it.
    """
    if parts.shared_path is None:
        return [], []
    if parts.volume_claim is None:
        raise ConfigError(
            f"the design keeps outputs on a volume at {parts.shared_path}, and no claim is configured for it: set volume_claim in "
            "Airflow's section [datalayer] to a ReadWriteMany PersistentVolumeClaim of the team's namespace"
        )
    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=parts.volume_claim)
    volume = k8s.V1Volume(name=_SHARED_VOLUME, persistent_volume_claim=claim)
    return [volume], [k8s.V1VolumeMount(name=_SHARED_VOLUME, mount_path=parts.shared_path)]


def own_pull_policy(policy: str | None) -> str | None:
    """Return the pull policy for an image of ours beside an author's image with this one: that the author's must be there says nothing of ours."""
    return policy if policy in {"IfNotPresent", "Always"} else None


def own_security(pod: Any) -> k8s.V1SecurityContext:
    """Return the security context of a container of ours in a pod with this one: as Pod Security's ``restricted`` wants it.

    It runs as the user that the pod names, to read what the job leaves, else as the image's, which is not root. In a pod of root's, which
    ``restricted`` refuses anyway, it keeps root's rights: folders that other users made are open to it as to the job.
    """
    user = pod.get("runAsUser") if isinstance(pod, dict) else getattr(pod, "run_as_user", None)
    is_root = user == 0
    return k8s.V1SecurityContext(
        allow_privilege_escalation=False,
        capabilities=None if is_root else k8s.V1Capabilities(drop=["ALL"]),
        run_as_non_root=not is_root,
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )


def keep_of(on_finish_action: str) -> str | None:
    """Return after which ends a pod is kept, by the provider's word for what becomes of a pod; None for none."""
    return {"keep_pod": KEEP_ALWAYS, "delete_active_pod": KEEP_ALWAYS, "delete_succeeded_pod": KEEP_FAILED}.get(
        on_finish_action
    )


def pod_variables() -> list[k8s.V1EnvVar]:
    """Return the variables that tell a container which pod it is in."""
    fields = {
        "NAME": "metadata.name",
        "NAMESPACE": "metadata.namespace",
        "UID": "metadata.uid",
        "IP": "status.podIP",
    }
    return [from_field(f"{POD_VARIABLE}{name}", path) for name, path in fields.items()]


def token_volume() -> k8s.V1Volume:
    """Return the volume with the ServiceAccount's token that only the containers which mount it can read."""
    sources = [
        k8s.V1VolumeProjection(
            service_account_token=k8s.V1ServiceAccountTokenProjection(path="token", expiration_seconds=3607)
        ),
        k8s.V1VolumeProjection(
            config_map=k8s.V1ConfigMapProjection(
                name="kube-root-ca.crt", items=[k8s.V1KeyToPath(key="ca.crt", path="ca.crt")]
            )
        ),
        k8s.V1VolumeProjection(
            downward_api=k8s.V1DownwardAPIProjection(
                items=[
                    k8s.V1DownwardAPIVolumeFile(
                        path="namespace", field_ref=k8s.V1ObjectFieldSelector(field_path="metadata.namespace")
                    )
                ]
            )
        ),
    ]
    return k8s.V1Volume(name=_TOKEN_VOLUME, projected=k8s.V1ProjectedVolumeSource(sources=sources))


def with_fs_group(context: Any) -> Any:
    """Return a pod's security context in which a group is set: the author's own if there is one."""
    if not context:
        return k8s.V1PodSecurityContext(fs_group=DEFAULT_FS_GROUP, fs_group_change_policy="OnRootMismatch")
    if isinstance(context, dict):
        # The client sends it as it is, so its keys are those of the API.
        return context if "fsGroup" in context else {**context, "fsGroup": DEFAULT_FS_GROUP}
    if context.fs_group is None:
        context.fs_group = DEFAULT_FS_GROUP
    return context


def fs_group_of(context: Any) -> int:
    """Return the group that the containers of a pod with this security context share."""
    found = with_fs_group(copy.deepcopy(context))
    return int(found["fsGroup"] if isinstance(found, dict) else found.fs_group)


def label_value(text: str) -> str:
    """Return a text as a label's value: Kubernetes takes few characters there."""
    from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value

    return str(make_safe_label_value(text))


def shared_path_of(url: str | None) -> str | None:
    """Return the folder at which a volume has to be mounted in a pod, so that a tier's root lies where its URL says."""
    if url is None:
        return None
    path = url.removeprefix("file://") if url.startswith("file://") else url
    return path if path.startswith("/") else None


def _job_variables() -> list[k8s.V1EnvVar]:
    places = {
        IN_VARIABLE: "in",
        OUT_VARIABLE: "out",
        CONTEXT_VARIABLE: "context.json",
        JOURNAL_VARIABLE: "journal",
    }
    return [k8s.V1EnvVar(name=name, value=f"{FOLDER}/{place}") for name, place in places.items()]


def from_field(name: str, path: str) -> k8s.V1EnvVar:
    """Return a variable that takes its value from a field of the pod."""
    source = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path=path))
    return k8s.V1EnvVar(name=name, value_from=source)
