"""A workflow task's output, committed once and read in place, wherever it lives.

Names load on first use, so that ``import datalayer`` costs nothing and pulls in no SDK.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datalayer.addresses.keys import OutputKey, TaskKey
    from datalayer.addresses.location import Location
    from datalayer.addresses.runs import RunId
    from datalayer.config import Config
    from datalayer.errors import (
        AlreadyExistsError,
        CommitConflictError,
        CommitStateUnknownError,
        ConfigError,
        DataLayerError,
        HandoffError,
        InvalidKeyError,
        NotFoundError,
        NotPublishedError,
        NotSupportedError,
        PermissionDeniedError,
        PinnedError,
        PreconditionFailedError,
        ProtocolVersionError,
        PublishError,
        ResolutionError,
        StoreError,
        StoreFullError,
        StoreTimeoutError,
        StoreUnavailableError,
        TransientStoreError,
        VerificationError,
    )
    from datalayer.handoff.task import open_task
    from datalayer.layer import DataLayer
    from datalayer.stores.base import Tier

_ERRORS = (
    "AlreadyExistsError",
    "CommitConflictError",
    "CommitStateUnknownError",
    "ConfigError",
    "DataLayerError",
    "HandoffError",
    "InvalidKeyError",
    "NotFoundError",
    "NotPublishedError",
    "NotSupportedError",
    "PermissionDeniedError",
    "PinnedError",
    "PreconditionFailedError",
    "ProtocolVersionError",
    "PublishError",
    "ResolutionError",
    "StoreError",
    "StoreFullError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "TransientStoreError",
    "VerificationError",
)

_HOMES = {
    "Config": "datalayer.config",
    "DataLayer": "datalayer.layer",
    "Location": "datalayer.addresses.location",
    "OutputKey": "datalayer.addresses.keys",
    "RunId": "datalayer.addresses.runs",
    "TaskKey": "datalayer.addresses.keys",
    "Tier": "datalayer.stores.base",
    "open_task": "datalayer.handoff.task",
} | dict.fromkeys(_ERRORS, "datalayer.errors")

__all__ = [
    "AlreadyExistsError",
    "CommitConflictError",
    "CommitStateUnknownError",
    "Config",
    "ConfigError",
    "DataLayer",
    "DataLayerError",
    "HandoffError",
    "InvalidKeyError",
    "Location",
    "NotFoundError",
    "NotPublishedError",
    "NotSupportedError",
    "OutputKey",
    "PermissionDeniedError",
    "PinnedError",
    "PreconditionFailedError",
    "ProtocolVersionError",
    "PublishError",
    "ResolutionError",
    "RunId",
    "StoreError",
    "StoreFullError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "TaskKey",
    "Tier",
    "TransientStoreError",
    "VerificationError",
    "open_task",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'datalayer' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
