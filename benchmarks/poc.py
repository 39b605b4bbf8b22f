"""The POC's transfers, which know nothing of us: boto3 as a plain loop over one connection, and boto3's TransferManager."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.origin import POOL, Door

_CHUNK = 1 << 20
_PART = 16 << 20
THREADS = 16
"""Parts that the TransferManager has in flight. boto3's default is 10; more than 3 fill the emulated line."""

SERIAL = "boto3, one get_object and one put_object after the other, one connection"
PARALLEL = f"boto3 TransferManager (s3transfer): {THREADS} threads, parts of 16 MiB, pool {POOL}"


class Transfer:
    """Downloads and uploads whole files.

    Args:
        door: The way to the bucket.
        parallel: Whether the TransferManager does it.
    """

    def __init__(self, door: Door, *, parallel: bool) -> None:
        self.bucket = door.bucket
        self.client = door.boto3()
        self._parallel = parallel

    def warm_up(self, key: str) -> None:
        """Connect, as a client that has worked before is connected."""
        self.client.head_object(Bucket=self.bucket, Key=key)

    def download(self, key: str, path: Path) -> None:
        """Download an object into a file."""
        if self._parallel:
            self.client.download_file(self.bucket, key, str(path), Config=_config())
            return
        body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"]
        with path.open("wb", buffering=0) as file:
            for chunk in body.iter_chunks(_CHUNK):
                file.write(chunk)

    def upload(self, path: Path, key: str) -> None:
        """Upload a file."""
        if self._parallel:
            self.client.upload_file(str(path), self.bucket, key, Config=_config())
            return
        with path.open("rb") as file:
            self.client.put_object(Bucket=self.bucket, Key=key, Body=file)


def _config() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=THREADS)
