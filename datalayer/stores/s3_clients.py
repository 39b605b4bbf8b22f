"""The three clients of one S3 connection: obstore for bytes, boto3 for what only it can do, pyarrow for Arrow and Parquet.

All of them get the same endpoint, credentials and time limits. A request may take the connection's timeout, but never more than half of the
deadline, so that there is time for another try; retries begin only while the next one can still end within the deadline.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from datetime import timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datalayer.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow.fs
    from mypy_boto3_s3 import S3Client
    from obstore import GetResult
    from obstore.store import S3Store as ObstoreS3

    from datalayer.config import Connection
    from datalayer.stores.s3_hedging import Hedging

_CONNECT_SECONDS = 5.0
_MAX_BACKOFF_SECONDS = 5.0
_LONGEST_SECONDS = 86_400
_RETRIES = 10
_POOL = 64
_DEFAULT_REGION = "us-east-1"
# S3 needs 30 ms until an answer begins, and one of ten comes within 10; a store nearby one or two, and on a busy machine 7.
_FAR_SECONDS = 0.010
_LAST = 5


class S3Clients:
    """Clients for one bucket, made when first used.

    Raises:
        ConfigError: The endpoint is no http(s) URL or holds a password, a time limit is none, or only one half of a key pair is set.
    """

    def __init__(self, bucket: str, connection: Connection) -> None:
        self.bucket = bucket
        self.connection = connection
        # The clients would each look for these by rules of their own; all of them must reach the same service.
        self.endpoint = (
            connection.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        )
        self.region = connection.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if self.endpoint and "@" in self.endpoint:
            # Not shown: it would end up in logs with its password.
            raise ConfigError(
                "the endpoint holds a user or a password: leave them out, and set access_key_id and secret_access_key"
            )
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"endpoint {self.endpoint!r}: write a URL that begins with https:// or http://")
        for name, seconds in (("timeout", connection.timeout), ("deadline", connection.deadline)):
            if not 0 < seconds <= _LONGEST_SECONDS:
                raise ConfigError(
                    f"{name} {seconds} of a connection: write seconds, more than 0 and at most {_LONGEST_SECONDS}"
                )
        if bool(connection.access_key_id) != bool(connection.secret_access_key):
            raise ConfigError("a connection needs both access_key_id and secret_access_key, or neither")
        self.timeout = min(connection.timeout, connection.deadline / 2)
        self.deadline = connection.deadline
        self._told: Callable[[], None] = lambda: None
        self._hedges: Hedging | None = None
        self._lock = threading.Lock()
        self._waits: deque[float] = deque(maxlen=_LAST)

    @property
    def obstore(self) -> ObstoreS3:
        """The client for bytes. Its bucket's keys are literal and whole."""
        _refuse_after_fork()
        return self._obstore

    def get(self, key: str, options: Mapping[str, Any] | None = None) -> GetResult:
        """Ask for an object's bytes: the one way of this library to a GET. Where the connection says so, a slow answer is asked for twice."""
        asked: Any = options
        client, hedging = self.obstore, self._hedging() if self.connection.hedge else None
        # The client is made before the clock runs.
        clock = time.perf_counter()
        answer = hedging.get(client, key, asked or {}) if hedging else client.get(key, options=asked)
        self._waits.append(time.perf_counter() - clock)
        return answer

    @property
    def are_far(self) -> bool:
        """Whether the last answers took as long to begin as S3's do. Of a service that was never asked nothing is known: then not."""
        waits = sorted(self._waits)
        return bool(waits) and waits[len(waits) // 2] >= _FAR_SECONDS

    def tell_hedges(self, told: Callable[[], None]) -> None:
        """Have ``told`` called for each GET that is asked for twice. To be said before the first one."""
        self._told = told

    def _hedging(self) -> Hedging:
        from datalayer.stores.s3_hedging import Hedging

        # Several threads may be the first; all must learn from each other's answers.
        with self._lock:
            if self._hedges is None:
                self._hedges = Hedging(self._told)
            return self._hedges

    @cached_property
    def _obstore(self) -> ObstoreS3:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise ConfigError("s3:// needs the extra s3: pip install 'datalayer-tasks[s3]'") from error
        max_backoff = min(_MAX_BACKOFF_SECONDS, self.deadline / 10)
        config: dict[str, Any] = {
            "region": self.region or _DEFAULT_REGION,
            # Every PUT, and every part, carries its SHA-256, and is signed with it. Seen: versitygw 1.8 refuses a PUT whose bytes do not
            # match (XAmzContentSHA256Mismatch); moto 5.2 stores them unchecked. AWS documents the refusal (BadDigest) for PUTs and parts.
            "checksum_algorithm": "SHA256",
            "conditional_put": "etag",
        }
        if self.endpoint:
            config["endpoint"] = self.endpoint.rstrip("/")
            config["virtual_hosted_style_request"] = False
        return S3Store(
            self.bucket,
            config=config,  # type: ignore[arg-type]  # a TypedDict, built up
            client_options={
                "allow_http": bool(self.endpoint and self.endpoint.startswith("http://")),
                "timeout": timedelta(seconds=self.timeout),
                "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, self.timeout)),
            },
            retry_config={
                "max_retries": _RETRIES,
                "retry_timeout": timedelta(seconds=max(0.0, self.deadline - self.timeout - max_backoff)),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=max_backoff),
                    "base": 2,
                },
            },
            credential_provider=self._credentials(),
        )

    @cached_property
    def boto3(self) -> S3Client:
        """The client for listings, uploads and copies between buckets."""
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise ConfigError("s3:// needs the extra s3: pip install 'datalayer-tasks[s3]'") from error
        given = self.connection
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region or _DEFAULT_REGION,
            aws_access_key_id=given.access_key_id,
            aws_secret_access_key=given.secret_access_key,
            aws_session_token=given.session_token,
            config=Config(
                connect_timeout=min(_CONNECT_SECONDS, self.timeout),
                read_timeout=self.timeout,
                max_pool_connections=_POOL,
                retries={
                    "mode": "standard",
                    "total_max_attempts": max(2, min(_RETRIES, int(self.deadline / self.timeout))),
                },
                s3={"addressing_style": "path"} if self.endpoint else {},
            ),
        )

    @cached_property
    def arrow(self) -> pyarrow.fs.FileSystem:
        """The file system of pyarrow, over all buckets."""
        try:
            from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem
        except ImportError as error:
            raise ConfigError("s3:// needs the extra s3: pip install 'datalayer-tasks[s3]'") from error
        given = self.connection
        options: dict[str, Any] = {}
        if self.endpoint:
            scheme, _, options["endpoint_override"] = self.endpoint.rstrip("/").partition("://")
            options["scheme"] = scheme
        return S3FileSystem(
            access_key=given.access_key_id,
            secret_key=given.secret_access_key,
            session_token=given.session_token,
            # Without one pyarrow asks the service where the bucket is, with a request for each file system.
            region=self.region or _DEFAULT_REGION,
            connect_timeout=min(_CONNECT_SECONDS, self.timeout),
            request_timeout=self.timeout,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_RETRIES),
            **options,
        )

    def _credentials(self) -> Any:
        """Return what gives obstore its credentials, or None for its own search: environment, web identity, container, machine."""
        given = self.connection
        if given.access_key_id:
            # As values of its configuration, keys would be combined with a session token that another tool left in the environment.
            static = {
                "access_key_id": given.access_key_id,
                "secret_access_key": given.secret_access_key,
                "token": given.session_token,
                "expires_at": None,
            }
            return lambda: static
        if "AWS_ACCESS_KEY_ID" not in os.environ and (
            "AWS_PROFILE" in os.environ
            or Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser().exists()
        ):
            # The files of the AWS command line are known to boto3 alone.
            import boto3
            from obstore.auth.boto3 import Boto3CredentialProvider

            try:
                return Boto3CredentialProvider(boto3.session.Session())
            except ValueError:
                return None
        return None


@cache
def _first_user() -> int:
    return os.getpid()


def _refuse_after_fork() -> None:
    """Raise in a process that was forked after S3 was used in it: obstore's threads are not there, and a call would never end."""
    if _first_user() != os.getpid():
        raise StoreError(
            "this process was forked from one that had used S3 already, which the S3 client does not survive; "
            "start workers with multiprocessing's 'spawn' or 'forkserver' method, or use S3 only after the fork"
        )
