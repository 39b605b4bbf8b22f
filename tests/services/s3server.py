"""S3 servers for tests: versitygw for whatever is about races and rights, moto for the breadth of the API."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_env.cache import made_once
from tests.services.process import HOST, ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

VERSITYGW = "v1.8.0"
REGION = "us-east-1"


@dataclass(frozen=True)
class Credentials:
    """The two halves of an access key."""

    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class S3Server:
    """A running S3 server and its root user."""

    endpoint: str
    root: Credentials
    pid: int
    folder: Path | None
    """Where the buckets lie as folders; None for a server that keeps them in memory."""
    binary: Path | None = None
    region: str = REGION
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @contextlib.contextmanager
    def client(self, user: Credentials | None = None, *, endpoint: str | None = None) -> Iterator[S3Client]:
        """A boto3 client of the root user or another one, that tries each request once; `endpoint` may be a proxy's."""
        import boto3
        from botocore.config import Config

        user = user or self.root
        client = boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name=self.region,
            aws_access_key_id=user.access_key,
            aws_secret_access_key=user.secret_key,
            config=Config(
                retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60, s3={"addressing_style": "path"}
            ),
        )
        with contextlib.closing(client):
            yield client

    def new_bucket(self, name: str = "bucket") -> str:
        """Make an empty bucket whose name begins with `name`, and return its whole name."""
        bucket = f"{name}-{next(self._numbers)}-{secrets.token_hex(3)}"
        with self.client() as client:
            client.create_bucket(Bucket=bucket)
        return bucket

    def add_user(self, name: str = "user") -> Credentials:
        """Make a user that has no rights on any bucket yet. versitygw only."""
        if self.binary is None:
            raise NotImplementedError("only versitygw has users here")
        user = Credentials(f"{name}-{next(self._numbers)}", secrets.token_hex(16))
        as_root = ["--access", self.root.access_key, "--secret", self.root.secret_key, "--endpoint-url", self.endpoint]
        create = ["create-user", "--access", user.access_key, "--secret", user.secret_key, "--role", "user"]
        done = subprocess.run(
            [str(self.binary), "admin", *as_root, *create], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"versitygw admin create-user: {done.stdout}{done.stderr}")
        return user

    def set_policy(self, bucket: str, *statements: dict[str, Any]) -> None:
        """Replace the bucket's policy by these statements."""
        with self.client() as client:
            client.put_bucket_policy(
                Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
            )

    def allow(self, user: Credentials, bucket: str, prefix: str = "") -> None:
        """Give a user all rights on the keys below `prefix` of a bucket, and on listing them, and nobody else any."""
        principal, arn = {"AWS": [user.access_key]}, f"arn:aws:s3:::{bucket}"
        self.set_policy(
            bucket,
            {"Effect": "Allow", "Principal": principal, "Action": "s3:*", "Resource": f"{arn}/{prefix}*"},
            {
                "Effect": "Allow",
                "Principal": principal,
                "Action": "s3:ListBucket",
                "Resource": arn,
                **({"Condition": {"StringLike": {"s3:prefix": f"{prefix}*"}}} if prefix else {}),
            },
        )


def versitygw_binary() -> Path:
    """Path of the versitygw program, built the first time.

    Raises:
        RuntimeError: there is no Go toolchain, or the build failed.
    """

    def build(folder: Path) -> None:
        if shutil.which("go") is None:
            raise RuntimeError("go is missing: apt-get install golang-go (versitygw needs 1.25 or newer)")
        module = f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}"
        done = subprocess.run(
            ["go", "install", module],
            env={**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"go install {module} failed with exit code {done.returncode}:\n{done.stderr}")

    return made_once(f"versitygw/{VERSITYGW}", build) / "versitygw"


@contextlib.contextmanager
def versitygw_server(log: Path | None = None, host: str = HOST, folder: Path | None = None) -> Iterator[S3Server]:
    """A versitygw process with its buckets and users in a temp folder of its own.

    Args:
        log: A file for what it prints.
        host: The address of this machine on which it is reached.
        folder: Where that temp folder is made; by default where temp folders are.
    """
    binary = versitygw_binary()
    root = Credentials("root-user", secrets.token_hex(16))
    with tempfile.TemporaryDirectory(prefix="versitygw-", dir=folder) as temp:
        buckets, users = Path(temp, "buckets"), Path(temp, "users")
        buckets.mkdir()
        users.mkdir()

        def command(port: int) -> list[str | Path]:
            common = ["--access", root.access_key, "--secret", root.secret_key, "--region", REGION, "--quiet"]
            served = ["--port", f"{host}:{port}", "--health", "/health", "--keep-alive"]
            # Without its cache of users, a policy or a user holds from the next request on.
            return [binary, *common, *served, "--iam-dir", users, "--iam-cache-disable", "posix", buckets]

        with ServerProcess(command, lambda port: _answers(host, port, "/health"), log=log) as server:
            yield S3Server(f"http://{host}:{server.port}", root, server.pid, buckets, binary)


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """A moto server process: no isolation, and no promise about races."""
    with ServerProcess(
        lambda port: [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)],
        lambda port: _answers(HOST, port, "/moto-api/"),
    ) as server:
        yield S3Server(f"http://{HOST}:{server.port}", Credentials("moto", "moto"), server.pid, None)


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    finally:
        connection.close()
