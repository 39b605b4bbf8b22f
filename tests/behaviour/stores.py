"""Stores that these tests break."""

from __future__ import annotations

from datalayer.addresses.location import Location
from datalayer.config import Connection
from datalayer.stores.s3 import S3Store
from tests.services.s3server import Credentials, S3Server


def s3_store(
    server: S3Server,
    bucket: str | None = None,
    *,
    endpoint: str | None = None,
    user: Credentials | None = None,
    timeout: float = 5,
    deadline: float = 20,
) -> S3Store:
    """A store on a bucket of a server, perhaps through a proxy, as the root user or another one."""
    user = user or server.root
    connection = Connection(
        endpoint=endpoint or server.endpoint,
        region=server.region,
        access_key_id=user.access_key,
        secret_access_key=user.secret_key,
        timeout=timeout,
        deadline=deadline,
    )
    return S3Store(Location.parse(f"s3://{bucket or server.new_bucket()}/root"), connection=connection)
