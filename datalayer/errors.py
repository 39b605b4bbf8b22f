"""Every error this library raises, in one tree.

::

    DataLayerError                         .retryable = False unless said otherwise
    ├─ ConfigError (ValueError)
    ├─ InvalidKeyError (ValueError)
    ├─ StoreError                          carries tier, location
    │  ├─ NotFoundError (FileNotFoundError)
    │  ├─ AlreadyExistsError (FileExistsError)
    │  ├─ PermissionDeniedError (PermissionError)
    │  ├─ PreconditionFailedError
    │  ├─ NotSupportedError
    │  ├─ StoreFullError (OSError)
    │  ├─ PinnedError
    │  └─ TransientStoreError              retryable
    │     ├─ StoreTimeoutError (TimeoutError)
    │     └─ StoreUnavailableError (ConnectionError)
    ├─ ResolutionError (LookupError)       carries key, misses
    │  └─ NotPublishedError
    ├─ PublishError
    │  ├─ VerificationError
    │  ├─ CommitConflictError
    │  └─ CommitStateUnknownError          retryable
    └─ HandoffError
       ├─ PodStatusUnknownError            retryable
       └─ ProtocolVersionError

``retryable`` tells a scheduler whether the same work can succeed when it is simply run again.
Every error pickles: what it carries beside its message are optional keywords.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class DataLayerError(Exception):
    """Base of all errors of this library; ``retryable`` says whether running again can help."""

    retryable: bool = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        # KeyError and OSError, which some subclasses also are, would print something else.
        return self.message


class ConfigError(DataLayerError, ValueError):
    """A configuration key is unknown, given twice, or has a value that cannot be used."""


class InvalidKeyError(DataLayerError, ValueError):
    """An id, key, file name or location that cannot be addressed."""


class StoreError(DataLayerError):
    """A store could not do what was asked; ``location`` says where, ``tier`` on which tier."""

    def __init__(self, message: str = "", *, tier: str | None = None, location: str | None = None) -> None:
        super().__init__(message)
        self.tier = tier
        self.location = location


class NotFoundError(StoreError, FileNotFoundError):
    """There is no object at the location."""


class AlreadyExistsError(StoreError, FileExistsError):
    """An exclusive put found an object already there."""


class PermissionDeniedError(StoreError, PermissionError):
    """The store knows the caller, or refuses to, and does not allow the request."""


class PreconditionFailedError(StoreError):
    """A compare-and-put found another version than the one named."""


class NotSupportedError(StoreError):
    """The store has no such capability; nothing was tried."""


class StoreFullError(StoreError, OSError):
    """The store has no room left for the bytes (ENOSPC, EDQUOT)."""


class PinnedError(StoreError):
    """Copies that somebody has pinned were to be dropped; nothing was."""


class TransientStoreError(StoreError):
    """The request failed in a way that may pass; retries within the deadline did not help."""

    retryable = True


class StoreTimeoutError(TransientStoreError, TimeoutError):
    """The store did not answer within the deadline; a write may still have been applied."""


class StoreUnavailableError(TransientStoreError, ConnectionError):
    """The store could not be reached, or answered that it is unavailable."""


class ResolutionError(DataLayerError, LookupError):
    """No tier can serve the key; ``misses`` says for each tier why not."""

    def __init__(self, message: str = "", *, key: str | None = None, misses: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.key = key
        self.misses = tuple(misses)


class NotPublishedError(ResolutionError):
    """No attempt of the task has committed."""


class PublishError(DataLayerError):
    """An attempt could not be published; nothing of it is visible."""

    def __init__(self, message: str = "", *, key: str | None = None, attempt: int | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.attempt = attempt


class VerificationError(PublishError):
    """Bytes in a store are not the ones that were written, or not the ones a manifest names."""


class CommitConflictError(PublishError):
    """Another attempt holds the head, or this attempt was fenced: it must not commit any more."""


class CommitStateUnknownError(PublishError):
    """The store did not say whether the commit was applied. Resolve the key to find out."""

    retryable = True


class HandoffError(DataLayerError):
    """The hand-over between whoever starts a job and the job is broken."""


class PodStatusUnknownError(HandoffError):
    """The API server did not say how the pod is; nothing was committed for that reason."""

    retryable = True


class ProtocolVersionError(HandoffError):
    """A document's major version is newer than this library reads."""
