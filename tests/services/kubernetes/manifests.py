"""What a team's namespace holds before its first pod, as the administrator of a cluster would make it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

ACCOUNT = "datalayer"
"""The ServiceAccount of committers and Spark drivers."""
SECRET = "datalayer-s3"
SHARED = "shared"
"""The claim of the volume that all pods of the team may write to."""
# A committer looks at its own pod. A Spark driver makes its executors, with what they need.
_DRIVER = ["pods", "configmaps", "services", "persistentvolumeclaims"]
_DRIVER_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def team_objects(namespace: str, shared: Path | None, secret: Mapping[str, str]) -> list[dict[str, Any]]:
    """The objects of a team's namespace, itself first.

    Args:
        namespace: Its name.
        shared: The folder of the node for the claim ``shared``; without one there is no claim.
        secret: What the Secret holds.
    """
    core, rbac = "v1", "rbac.authorization.k8s.io"
    inside = {"namespace": namespace}
    rules = [{"apiGroups": [""], "resources": _DRIVER, "verbs": _DRIVER_VERBS}]
    role = {"name": ACCOUNT, **inside}
    objects: list[dict[str, Any]] = [
        {"apiVersion": core, "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": core, "kind": "ServiceAccount", "metadata": role},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": role, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": role,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", **role}],
        },
        {"apiVersion": core, "kind": "Secret", "metadata": {"name": SECRET, **inside}, "stringData": dict(secret)},
    ]
    return [*objects, *(_shared_volume(namespace, shared) if shared else [])]


def _shared_volume(namespace: str, folder: Path) -> list[dict[str, Any]]:
    name = f"{namespace}-{SHARED}"
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {
        **common,
        "capacity": size,
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": namespace, "name": SHARED},
        "hostPath": {"path": str(folder), "type": "Directory"},
    }
    claim = {**common, "volumeName": name, "resources": {"requests": size}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": SHARED, "namespace": namespace},
            "spec": claim,
        },
    ]
