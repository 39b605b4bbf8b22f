"""Listing through boto3, which gives keys as they are.

obstore would give ``a/b`` for the key ``a//b`` and for the folder marker ``a/b/`` that Hadoop writes, and fail on a listing that holds one key
with ``..`` in it: what others put into a bucket must neither look like an output's file nor stop a listing.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from datalayer.stores.base import ObjectInfo
from datalayer.stores.s3_errors import s3_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from mypy_boto3_s3 import S3Client

    from datalayer.addresses.location import Location
    from datalayer.stores.base import Tier


def list_keys(
    client: S3Client, bucket: str, start: str, location: Location, tier: Tier, *, one_level: bool = False
) -> Iterator[ObjectInfo | str]:
    """Yield the objects whose keys begin with ``start``, with whole keys as their paths, and on one level the prefixes of folders as text."""
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=start, Delimiter="/" if one_level else ""
    )
    for page in _mapped(pages, location, tier):
        for folder in page.get("CommonPrefixes", ()):
            yield folder["Prefix"]
        for found in page.get("Contents", ()):
            # A key that ends with a slash is some tool's marker for a folder.
            if not found["Key"].endswith("/"):
                yield ObjectInfo(
                    found["Key"], found["Size"], found.get("ETag", ""), found["LastModified"].astimezone(UTC)
                )


def abort_uploads(
    client: S3Client, bucket: str, start: str, older_than: timedelta, location: Location, tier: Tier
) -> list[str]:
    """Abort the multipart uploads below a prefix that began longer ago than that, by the service's clock, and return their keys."""
    aborted = []
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=start)
    for page in _mapped(pages, location, tier):
        now = _server_time(page) or datetime.now(UTC)
        for upload in page.get("Uploads", ()):
            if now - upload["Initiated"] > older_than:
                # One that is not there was completed, or aborted by another sweep, since it was listed.
                with s3_errors(location, tier), contextlib.suppress(client.exceptions.NoSuchUpload):
                    client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                aborted.append(upload["Key"])
    return aborted


def _mapped(pages: Any, location: Location, tier: Tier) -> Iterator[Any]:
    with s3_errors(location, tier):
        yield from pages


def _server_time(page: Any) -> datetime | None:
    from email.utils import parsedate_to_datetime

    date = page["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date) if date else None
