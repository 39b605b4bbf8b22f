"""From what obstore and botocore raise to this library's errors: the one table for S3.

obstore has few error classes and puts the server's answer into the text, so the text is read: the HTTP status and S3's own error code. Only
those two go into our message; the SDK's text, with its request ids, stays reachable as the error's cause.
"""

from __future__ import annotations

import contextlib
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from datalayer.errors import (
    AlreadyExistsError,
    ConfigError,
    DataLayerError,
    InvalidKeyError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreError,
    StoreFullError,
    StoreTimeoutError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datalayer.addresses.location import Location
    from datalayer.stores.base import Tier

_SDKS = frozenset({"boto3", "botocore", "obstore", "s3transfer"})
_DEBUG = "\n\nDebug source"
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
_HTTP_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")
_REACHING = re.compile(r"Http error|HTTP error|error sending request|dispatch failure", re.IGNORECASE)

# Where a machine or a container gets its role's keys.
_CREDENTIAL_SERVICES = ("169.254.169.254", "169.254.170.2")

_CHECK_KEYS = "check access_key_id and secret_access_key of the connection, or the AWS environment variables"
_CHECK_REGION = "the bucket is in another region; set the connection's region"
_ONE_NAME = "this server cannot hold an object and a folder of one name; choose another name"
_AGAIN = "the service asks to try again later, and retries until the deadline did not help"

_Kind = type[StoreError] | type[ConfigError] | type[InvalidKeyError]

_BY_CODE: dict[str, tuple[_Kind, str]] = {
    "NoSuchKey": (NotFoundError, "no such object"),
    # Not NotFoundError: a reader would take it for an output that nobody has published yet.
    "NoSuchBucket": (ConfigError, "there is no such bucket; make it, or correct the url"),
    "NoSuchUpload": (
        StoreUnavailableError,
        "the upload is gone: a request whose answer was lost has completed it, or a sweep with too short a TTL has ended it",
    ),
    "AccessDenied": (
        PermissionDeniedError,
        "access is denied; ask for this action on this prefix in the bucket's or the role's policy",
    ),
    "AllAccessDisabled": (PermissionDeniedError, "all access to the bucket is disabled"),
    "SignatureDoesNotMatch": (
        PermissionDeniedError,
        f"the secret key does not belong to the access key; {_CHECK_KEYS}",
    ),
    "InvalidAccessKeyId": (PermissionDeniedError, f"the access key is not known to the service; {_CHECK_KEYS}"),
    "XAdminUserNotFound": (PermissionDeniedError, f"the access key is not known to the service; {_CHECK_KEYS}"),
    "ExpiredToken": (PermissionDeniedError, "the session's credentials have expired; get new ones"),
    "ExpiredTokenException": (PermissionDeniedError, "the session's credentials have expired; get new ones"),
    "InvalidToken": (PermissionDeniedError, "the session token is not valid; get new credentials"),
    "RequestTimeTooSkewed": (
        PermissionDeniedError,
        "this machine's clock is wrong by more than the service allows; set it",
    ),
    "PermanentRedirect": (ConfigError, _CHECK_REGION),
    "AuthorizationHeaderMalformed": (ConfigError, _CHECK_REGION),
    "IllegalLocationConstraintException": (ConfigError, _CHECK_REGION),
    "InvalidBucketName": (ConfigError, "this is no name that a bucket can have; correct the url"),
    "PreconditionFailed": (PreconditionFailedError, "another version is there"),
    "KeyTooLongError": (
        InvalidKeyError,
        "the object's key is longer than the service allows; use shorter ids or file names",
    ),
    "EntityTooLarge": (StoreError, "the object is larger than the service takes in one request; use a writer"),
    "QuotaExceeded": (StoreFullError, "the quota is used up; free some, or raise it"),
    "InsufficientStorage": (StoreFullError, "the service has no room left"),
    "XMinioStorageFull": (StoreFullError, "the service has no room left"),
    "RequestTimeout": (StoreTimeoutError, "the service waited too long for the request's bytes"),
    "BadDigest": (
        StoreUnavailableError,
        "the service received other bytes than were sent; check the network, and proxies on the way",
    ),
    "XAmzContentSHA256Mismatch": (
        StoreUnavailableError,
        "the service received other bytes than were sent; check the network, and proxies on the way",
    ),
    "ConditionalRequestConflict": (
        StoreUnavailableError,
        "conflicting writers kept the service from deciding; run it again",
    ),
    "OperationAborted": (StoreUnavailableError, "conflicting writers kept the service from deciding; run it again"),
    "ObjectParentIsFile": (StoreError, _ONE_NAME),
    "ExistingObjectIsDirectory": (StoreError, _ONE_NAME),
    "SlowDown": (StoreUnavailableError, _AGAIN),
    "ServiceUnavailable": (StoreUnavailableError, _AGAIN),
    "InternalError": (StoreUnavailableError, "the service failed, and retries until the deadline did not help"),
}

_BY_STATUS: dict[int, tuple[_Kind, str]] = {
    401: (PermissionDeniedError, f"the service wants credentials; {_CHECK_KEYS}"),
    403: (PermissionDeniedError, f"access is denied; {_CHECK_KEYS}, and the policy on this prefix"),
    404: (NotFoundError, "no such object (or no such bucket)"),
    412: (PreconditionFailedError, "another version is there"),
    409: (StoreUnavailableError, "conflicting writers kept the service from deciding; run it again"),
    429: (StoreUnavailableError, _AGAIN),
    507: (StoreFullError, "the service has no room left"),
}

_TIMED_OUT: tuple[_Kind, str] = (
    StoreTimeoutError,
    "no answer within the timeout; check the endpoint and the network, or raise the connection's timeout and deadline",
)
_UNREACHABLE: tuple[_Kind, str] = (
    StoreUnavailableError,
    "the endpoint cannot be reached; check the connection's endpoint (in a pod, 127.0.0.1 is the pod itself), and that the service is up",
)
_NO_CREDENTIALS: tuple[_Kind, str] = (
    PermissionDeniedError,
    f"no credentials were found; {_CHECK_KEYS}, or run where the machine has a role",
)


class Refusal(NamedTuple):
    """What a server, or the way to it, said no with."""

    status: int
    """HTTP status; 0 where there was no answer."""
    code: str
    """S3's error code, or empty."""


def refusal(error: BaseException) -> Refusal:
    """Return the status and code that an error of obstore or botocore carries."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's ClientError
        code = str(response.get("Error", {}).get("Code", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        return Refusal(status, "" if code.isdigit() else code)
    text = str(error).partition(_DEBUG)[0]
    status_found, code_found = _STATUS.search(text), _CODE.search(text)
    return Refusal(int(status_found[1]) if status_found else 0, (code_found[1] or code_found[2]) if code_found else "")


def s3_error(error: BaseException, location: Location, tier: Tier) -> DataLayerError:
    """Return the error to raise from what an SDK raised about a location."""
    status, code = refusal(error)
    if type(error).__name__ == "NoCredentialsError" or any(address in str(error) for address in _CREDENTIAL_SERVICES):
        kind, words = _NO_CREDENTIALS
    else:
        kind, words = _BY_CODE.get(code) or _BY_STATUS.get(status) or _otherwise(error, status)
    said = ", ".join(part for part in (f"HTTP {status}" if status else "", code) if part)
    message = f"{location}: {words}" + (f" ({said})" if said else "")
    if issubclass(kind, StoreError):
        return kind(message, tier=tier, location=str(location))
    return kind(message)


@contextlib.contextmanager
def s3_errors(location: Location, tier: Tier) -> Iterator[None]:
    """Map what the block raises; errors that are no SDK's pass as they are."""
    try:
        yield
    except DataLayerError:
        raise
    except Exception as error:  # obstore's and botocore's errors have no base of their own; others are raised on
        if not _is_sdk_error(error):
            raise
        raise s3_error(error, location, tier) from error


def _is_sdk_error(error: Exception) -> bool:
    # obstore raises FileNotFoundError itself.
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _SDKS


def already_there(location: Location, tier: Tier) -> AlreadyExistsError:
    """Return the error of an exclusive put that lost."""
    return AlreadyExistsError(f"{location} is there already", tier=tier, location=str(location))


def _otherwise(error: BaseException, status: int) -> tuple[_Kind, str]:
    name, text = type(error).__name__, str(error)
    kind = _HTTP_KIND.search(text)
    if status:
        failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return _BY_CODE["InternalError"] if failed else (StoreError, "the service refused the request")
    if (kind and kind[1] == "Timeout") or name in {"ConnectTimeoutError", "ReadTimeoutError"}:
        return _TIMED_OUT
    if (
        kind
        or _REACHING.search(text)
        or name in {"EndpointConnectionError", "ConnectionClosedError", "HTTPClientError"}
    ):
        return _UNREACHABLE
    return (ConfigError, _CHECK_REGION) if "LOCATION" in text else (StoreError, f"the request failed ({name})")
