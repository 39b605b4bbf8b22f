"""Spark in pods: the driver in the task's own pod, in client mode, and executors that belong to it. Pure functions from values to settings.

Two sides make them. Whoever builds the pod knows the image, the team and the sizes (:class:`SparkOnPods`), and hands that to the committer. That one
knows the pod's name and address, and where the data is, and writes all of it into one properties file beside the inputs.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from spark_env import alluxio
from spark_env.conf import bucket_conf, buckets, hadoop_conf, session_conf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datalayer.config import Config

PROPERTIES = "spark.conf"
"""The properties file's name, in the pod's own volume."""
EXECUTOR_TEMPLATE = "executor.json"
"""The name of the pod template of executors, in the same place."""
DRIVER_LABEL = "datalayer/driver"
"""The label of executors that names their driver's pod."""
JOB_PREFIX = "DATALAYER_INTERNAL_SPARK_"
"""Of the variables that tell the committer of the job: :class:`SparkOnPods` as JSON, packed."""
DRIVER_PORT, BLOCK_MANAGER_PORT = 7078, 7079

# Kubernetes' limit for a label's value; and Spark's own, which adds words and a number to it.
_MAX_LABEL, _MAX_PREFIX = 63, 47
_API_SERVER = "k8s://https://kubernetes.default.svc"
_EXECUTOR = "spark-kubernetes-executor"
_SQL_CLASS = "org.apache.spark.sql.hive.thriftserver.SparkSQLCLIDriver"
# Whatever entrypoint the image has gets this as a command; all of Spark's images pass commands on.
_SUBMIT = 'exec "${SPARK_HOME:-/opt/spark}/bin/spark-submit" "$@"'


class SparkOnPods(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is known of a Spark job before its pod is there."""

    name: str
    """The application's."""
    image: str
    executors: tuple[int, int]
    """The fewest and the most. Where they differ Spark asks for as many as it has work for."""
    cores: int = 1
    """Tasks at once, on each executor."""
    memory: str = "1g"
    """Of each executor's heap, as Spark writes it."""
    cpu: str | None = None
    """What an executor's pod asks for, as Kubernetes writes it; by default its cores."""
    pull_policy: str | None = None
    pull_secrets: tuple[str, ...] = ()
    template: dict[str, Any] = {}
    """The pod template of executors, as the API spells it."""
    conf: dict[str, str] = {}
    """The author's own settings, which win over ours."""


class DriverPod(msgspec.Struct, frozen=True):
    """The pod that the driver runs in."""

    name: str
    namespace: str
    address: str
    account: str


def submit_command(
    application: str, arguments: Sequence[str] = (), *, main_class: str | None = None, properties: str
) -> list[str]:
    """Return the command that runs an application: a Python file, a jar, or a file of SQL, which Spark's own command line for SQL runs.

    Args:
        application: Its path in the image; ``local:///job/report.py`` and ``/job/report.py`` are the same.
        arguments: For the application.
        main_class: Of a jar.
        properties: The path of the properties file.
    """
    path = application.removeprefix("local://")
    told = ["--properties-file", properties]
    if path.endswith(".sql"):
        # What comes first names the program; Spark's own word for "it is in Spark's jars" is spark-internal.
        return [
            "/bin/sh",
            "-c",
            _SUBMIT,
            "spark-submit",
            *told,
            "--class",
            _SQL_CLASS,
            "spark-internal",
            "-f",
            path,
            *arguments,
        ]
    if main_class is not None:
        told += ["--class", main_class]
    return ["/bin/sh", "-c", _SUBMIT, "spark-submit", *told, path, *arguments]


def driver_label(pod: str) -> str:
    """Return the value of :data:`DRIVER_LABEL` for a driver's pod: its name, which may be longer than a label's value."""
    return bounded(pod, _MAX_LABEL)


def bounded(name: str, limit: int) -> str:
    """Return a pod's name within a number of characters: as it is, or cut, with its digest, so that two stay two."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{re.sub('[-.]+$', '', name[: limit - 9])}-{digest}"


def driver_conf(job: SparkOnPods, pod: DriverPod, *, template: str) -> dict[str, str]:
    """Return the settings under which a driver in a pod has executors made.

    Args:
        job: What was known before.
        pod: Where the driver is.
        template: The path of the executors' pod template.
    """
    fewest, most = job.executors
    prefix = "spark.kubernetes."
    settings = {
        "spark.app.name": job.name,
        "spark.master": _API_SERVER,
        "spark.submit.deployMode": "client",
        # Executors find the driver by its pod's address, so it needs no Service.
        "spark.driver.host": pod.address,
        "spark.driver.bindAddress": "0.0.0.0",  # noqa: S104  # the pod's own network
        "spark.driver.port": str(DRIVER_PORT),
        "spark.driver.blockManager.port": str(BLOCK_MANAGER_PORT),
        "spark.ui.enabled": "false",
        "spark.executor.cores": str(job.cores),
        "spark.executor.memory": job.memory,
        "spark.executor.instances": str(fewest),
        f"{prefix}namespace": pod.namespace,
        # They belong to it: the cluster removes them with it, whatever it dies of.
        f"{prefix}driver.pod.name": pod.name,
        f"{prefix}executor.podNamePrefix": bounded(pod.name.replace(".", "-"), _MAX_PREFIX),
        f"{prefix}authenticate.serviceAccountName": pod.account,
        f"{prefix}authenticate.executor.serviceAccountName": pod.account,
        f"{prefix}container.image": job.image,
        f"{prefix}container.image.pullPolicy": job.pull_policy or "IfNotPresent",
        f"{prefix}executor.podTemplateFile": template,
        f"{prefix}executor.podTemplateContainerName": _EXECUTOR,
        f"{prefix}executor.request.cores": job.cpu or str(job.cores),
        # One that lost its driver has nothing to wait for.
        "spark.network.timeout": "60s",
        "spark.executor.heartbeatInterval": "10s",
    }
    if job.pull_secrets:
        settings[f"{prefix}container.image.pullSecrets"] = ",".join(job.pull_secrets)
    if most > fewest:
        settings |= {
            "spark.dynamicAllocation.enabled": "true",
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",
            "spark.dynamicAllocation.initialExecutors": str(fewest),
            "spark.dynamicAllocation.minExecutors": str(fewest),
            "spark.dynamicAllocation.maxExecutors": str(most),
        }
    return settings


def data_conf(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings under which Spark reads and writes task data, without any secret: keys come from each pod's own environment.

    Args:
        config: The configuration of the job.
        environ: The environment, for endpoint and region where a connection names none.

    Raises:
        ConfigError: A bucket cannot be reached as the configuration has it.
    """
    settings = session_conf()
    hadoop = hadoop_conf()
    public = {name: value for name, value in environ.items() if not name.startswith(_SECRETS)}
    for bucket, connection in buckets(config).items():
        told = bucket_conf(bucket, msgspec.structs.replace(connection, **_NO_KEYS), public)
        provider = f"fs.s3a.bucket.{bucket}.aws.credentials.provider"
        hadoop |= told | {provider: ",".join(_POD_KEYS)}
    if alluxio.reads_alluxio(config):
        hadoop["fs.alluxio.impl"] = alluxio.CLIENT_CLASS
        options = alluxio.executor_conf()
        settings |= options
        settings |= {name.replace("spark.executor.", "spark.driver."): value for name, value in options.items()}
    return settings | {f"spark.hadoop.{name}": value for name, value in hadoop.items()}


_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# Not the profiles of the AWS command line: where a pod has no such file, asking for it ends Spark.
_POD_KEYS = (
    "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider",
    "software.amazon.awssdk.auth.credentials.WebIdentityTokenFileCredentialsProvider",
    "org.apache.hadoop.fs.s3a.auth.IAMInstanceCredentialsProvider",
)
_NO_KEYS: dict[str, Any] = {"access_key_id": None, "secret_access_key": None, "session_token": None}


def executor_template(
    author: Mapping[str, Any],
    *,
    labels: Mapping[str, str],
    credentials_secret: str | None = None,
    volumes: Sequence[Mapping[str, Any]] = (),
    mounts: Sequence[Mapping[str, Any]] = (),
    fs_group: int | None = None,
) -> dict[str, Any]:
    """Return the pod template of executors: the author's, with what they need of ours added.

    Args:
        author: As the API spells pods; empty for none. Its container named ``spark-kubernetes-executor``, or else its first, is the executor's.
        labels: Of each pod.
        credentials_secret: A Secret whose keys become variables.
        volumes: As the API spells them.
        mounts: Likewise.
        fs_group: The group that the pods of a task share.
    """
    metadata = dict(author.get("metadata") or {})
    spec = dict(author.get("spec") or {})
    containers = [dict(one) for one in spec.get("containers") or [{}]]
    own = next((one for one in containers if one.get("name") == _EXECUTOR), containers[0])
    own["name"] = _EXECUTOR
    if credentials_secret:
        # First, so that what the author takes from elsewhere wins.
        own["envFrom"] = [{"secretRef": {"name": credentials_secret}}, *(own.get("envFrom") or [])]
    if mounts:
        own["volumeMounts"] = [*(own.get("volumeMounts") or []), *mounts]
    if volumes:
        spec["volumes"] = [*(spec.get("volumes") or []), *volumes]
    security = dict(spec.get("securityContext") or {})
    if fs_group is not None:
        security.setdefault("fsGroup", fs_group)
    # An executor asks the API server for nothing.
    spec.setdefault("automountServiceAccountToken", False)
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**spec, "securityContext": security, "containers": containers},
    }


def as_properties(settings: Mapping[str, str]) -> str:
    """Return settings as a properties file, as ``java.util.Properties`` reads it."""
    return "".join(f"{_escaped(name, key=True)}={_escaped(value)}\n" for name, value in sorted(settings.items()))


_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}
_KEY_ESCAPES = {**_ESCAPES, "=": "\\=", ":": "\\:", " ": "\\ ", "#": "\\#", "!": "\\!"}


def _escaped(text: str, *, key: bool = False) -> str:
    escapes = _KEY_ESCAPES if key else _ESCAPES
    found = []
    for index, character in enumerate(text):
        if character in escapes:
            found.append(escapes[character])
        elif character == " " and index == 0:
            found.append("\\ ")
        elif " " <= character <= "~":
            found.append(character)
        else:
            # Java's characters are UTF-16's units.
            units = character.encode("utf-16-be")
            found += [f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)]
    return "".join(found)
