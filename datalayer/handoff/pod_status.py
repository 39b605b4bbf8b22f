"""What the API server says of the pod that this process is in: how the job's container ended, and whether the pod is being ended.

One GET of the own pod, with the token that is mounted beside this process. Kubernetes' own client is a large import for one request.
"""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from datalayer.errors import HandoffError, PodStatusUnknownError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_VARIABLE = "DATALAYER_INTERNAL_POD_NAME"
NAMESPACE_VARIABLE = "DATALAYER_INTERNAL_POD_NAMESPACE"
UID_VARIABLE = "DATALAYER_INTERNAL_POD_UID"
CONTAINER_VARIABLE = "DATALAYER_INTERNAL_POD_CONTAINER"

OUT_OF_MEMORY = "OOMKilled"
FAILED = "PodFailed"
"""The reason of a pod that the kubelet ends as a whole, where it names no other yet."""

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = 5.0
"""Seconds. The API server answers in milliseconds; one that hangs is asked again."""
_MAX_BYTES = 4 << 20
_DEFAULT_GRACE = 30


class ContainerEnd(NamedTuple):
    """How a container ended."""

    exit_code: int
    reason: str
    """Kubernetes' word: ``Completed``, ``Error``, ``OOMKilled``, ``StartError``."""
    message: str
    """What the container left as its termination message, or why it could not be started."""


class PodStatus(NamedTuple):
    """What the API server said of the pod."""

    end: ContainerEnd | None
    """How the job's container ended; None while it has not."""
    deleted: bool
    """The pod is being deleted, or is gone."""
    reason: str
    """Why the pod as a whole is being ended: ``Evicted``, ``DeadlineExceeded``, ``PodFailed``. Empty where it is not."""
    message: str
    """Kubernetes' explanation of the reason."""
    others: bool
    """Whether the pod has other containers beside the job's that it waits for, so that the job's end is not the pod's."""
    grace: int
    """Seconds between the pod's being told to end and its being killed."""


GONE = PodStatus(None, deleted=True, reason="", message="", others=False, grace=0)
"""A pod that is not there any more."""


class OwnPod:
    """Asks the API server about one pod.

    Args:
        name: The pod's name.
        namespace: Its namespace.
        uid: Its uid: another pod of the same name is another one.
        container: The name of the job's container.
        server: Host and port of the API server.
        account: The folder with the ServiceAccount's token and the server's certificate.
    """

    def __init__(
        self, name: str, namespace: str, uid: str, container: str, *, server: tuple[str, int], account: Path = _ACCOUNT
    ) -> None:
        self.name = name
        self.namespace = namespace
        self._uid = uid
        self._container = container
        self._server = server
        self._account = account

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> OwnPod:
        """Return the pod that the environment names.

        Raises:
            HandoffError: A variable is not set.
        """
        names = (NAME_VARIABLE, NAMESPACE_VARIABLE, UID_VARIABLE, CONTAINER_VARIABLE)
        if missing := [name for name in names if not environ.get(name)]:
            raise HandoffError(
                f"{', '.join(missing)} not set: this runs beside a job in a pod, and the operator that makes the pod sets it. "
                "To run a job on this machine use `datalayer run`"
            )
        host = environ.get("KUBERNETES_SERVICE_HOST")
        if not host:
            raise HandoffError("KUBERNETES_SERVICE_HOST is not set: this process is in no pod")
        port = int(environ.get("KUBERNETES_SERVICE_PORT_HTTPS") or environ.get("KUBERNETES_SERVICE_PORT") or 443)
        return cls(*(environ[name] for name in names), server=(host, port))

    def read(self, *, cached: bool = False, timeout: float = _TIMEOUT) -> PodStatus:
        """Return the pod's status: one request.

        Args:
            cached: Whether an answer from the server's cache will do, which may be some moments old and costs it little.
            timeout: Seconds for each step of the request.

        Raises:
            PodStatusUnknownError: The server did not answer, or not with a pod.
            HandoffError: It refuses to, or there is no token.
        """
        path = f"/api/v1/namespaces/{quote(self.namespace, safe='')}/pods/{quote(self.name, safe='')}"
        status, data = self._get(f"{path}?resourceVersion=0" if cached else path, timeout)
        if status == 404:
            return GONE
        if status == 403:
            raise HandoffError(
                f"the API server does not let this pod's ServiceAccount read pod {self.namespace}/{self.name}, so nobody could tell how the job "
                f'ends: {_words(data)}. Add to a Role in namespace {self.namespace} the rule {{apiGroups: [""], resources: ["pods"], '
                "verbs: [get]}, and bind it to the ServiceAccount"
            )
        if status != 200:
            # 401 among them: the kubelet may be renewing the token just now.
            raise PodStatusUnknownError(
                f"the API server answered {status} when asked for pod {self.namespace}/{self.name}: {_words(data)}"
            )
        try:
            return _status(json.loads(data), self._uid, self._container)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PodStatusUnknownError(
                f"the API server's answer for pod {self.namespace}/{self.name} is no pod: {error!r}"
            ) from error

    def _get(self, path: str, timeout: float) -> tuple[int, bytes]:
        # Read each time: the kubelet renews the token.
        try:
            token = (self._account / "token").read_text(encoding="ascii").strip()
            trust = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        except OSError as error:
            raise HandoffError(
                f"{error.filename or self._account / 'ca.crt'} cannot be read ({error.strerror}): mount the ServiceAccount's token into this "
                "container"
            ) from error
        host, port = self._server
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=trust)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read(_MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise PodStatusUnknownError(
                f"the API server at {host}:{port} cannot be reached: {str(error) or type(error).__name__}"
            ) from error
        finally:
            connection.close()


def _status(pod: Any, uid: str, container: str) -> PodStatus:
    if pod["metadata"]["uid"] != uid:
        return GONE
    spec, status = pod["spec"], pod.get("status") or {}
    end = None
    for one in status.get("containerStatuses") or ():
        if one["name"] == container:
            ended = (one.get("state") or {}).get("terminated")
            if ended is not None:
                end = ContainerEnd(int(ended["exitCode"]), ended.get("reason") or "", ended.get("message") or "")
    # Until the last container has ended the kubelet holds back the pod's phase and reason, and the ends of containers that it ended itself. What
    # it does not hold back is why the pod is not ready.
    failed = any(one.get("reason") == FAILED for one in status.get("conditions") or ())
    reason = status.get("reason") or (FAILED if failed or status.get("phase") == "Failed" else "")
    return PodStatus(
        end,
        deleted=bool(pod["metadata"].get("deletionTimestamp")),
        reason=reason,
        message=status.get("message") or "",
        others=len(spec["containers"]) > 1,
        grace=int(spec.get("terminationGracePeriodSeconds") or _DEFAULT_GRACE),
    )


def _words(data: bytes) -> str:
    """Return the message in the API server's answer, or the beginning of what it is instead."""
    try:
        return str(json.loads(data)["message"])
    except (ValueError, TypeError, KeyError):
        return ascii(data[:200].decode("utf-8", "replace"))
