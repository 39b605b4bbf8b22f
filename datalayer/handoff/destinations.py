"""Destinations of an output, as the talk's ``job_config`` writes them."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from datalayer.addresses.location import Location
from datalayer.errors import ConfigError, InvalidKeyError

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


class S3Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """A folder of a bucket, and the connection that may write there."""

    bucket: str
    path: str
    aws_conn_id: str | None = None
    """A name in the configuration's ``connections``; without one, the AWS environment's own."""


class Destination(msgspec.Struct, frozen=True):
    """Where a copy of an output is delivered."""

    type: Literal["s3"]
    data: S3Place

    @property
    def location(self) -> Location:
        """The folder that the output's files are copied into."""
        return Location("s3", self.data.bucket, self.data.path)


def check_destination(destination: Destination, path: str) -> None:
    """Make sure that a destination can be written to.

    Args:
        destination: What to check.
        path: The field it stands in, for errors.

    Raises:
        ConfigError: Its bucket is no bucket name, or its path leads elsewhere.
    """
    place = destination.data
    if not _BUCKET.fullmatch(place.bucket):
        raise ConfigError(f"{path}.data.bucket: {place.bucket!r} is no bucket name")
    if _CONTROL.search(place.path):
        raise ConfigError(f"{path}.data.path: {place.path!r} holds a control character or a backslash")
    try:
        _ = destination.location
    except InvalidKeyError as error:
        raise ConfigError(f"{path}.data.path: {error}") from error
    if place.aws_conn_id == "":
        raise ConfigError(f"{path}.data.aws_conn_id: is empty; name a connection, or leave it out")
