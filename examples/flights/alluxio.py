"""A real Alluxio for the demo: the one that the tests use, in front of the demo's S3 server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from datalayer.config import HotConfig
from datalayer.errors import StoreUnavailableError
from examples.flights.server import ACCESS_KEY, REGION, SECRET_KEY


@contextlib.contextmanager
def running_alluxio(endpoint: str, bucket: str) -> Iterator[HotConfig]:
    """Run master, worker and proxy while the block runs, with the outputs of a bucket mounted, and tell what a configuration needs.

    Args:
        endpoint: The S3 server's URL.
        bucket: Of the outputs, which lie below ``outputs``.

    Raises:
        StoreUnavailableError: Alluxio did not start.
    """
    from tests.services.alluxio import AlluxioServer
    from tests.services.s3server import Credentials, S3Server

    s3 = S3Server(endpoint, Credentials(ACCESS_KEY, SECRET_KEY), os.getpid(), None, region=REGION)
    try:
        server = AlluxioServer(s3).__enter__()
    except (RuntimeError, OSError) as error:
        raise StoreUnavailableError(f"Alluxio did not start: {error}") from error
    with contextlib.ExitStack() as stack:
        stack.push(server.__exit__)
        folder = stack.enter_context(server.mount(bucket, "outputs"))
        yield HotConfig(url=folder.url, proxy=folder.proxy, mount=str(folder.mount) if folder.mount else None)
