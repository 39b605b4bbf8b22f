"""What Alluxio answers, as far as it is looked at."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class _BlockInfo(msgspec.Struct):
    length: int = 0
    locations: list[msgspec.Raw] = []


class _FileBlock(msgspec.Struct):
    offset: int = 0
    block_info: _BlockInfo = msgspec.field(name="blockInfo", default_factory=_BlockInfo)


class FileStatus(msgspec.Struct, rename="camel"):
    """What Alluxio says of a file or a folder."""

    path: str
    length: int = 0
    """Bytes."""
    folder: bool = False
    pinned: bool = False
    ufs_path: str = ""
    """Where it lies in the store beneath."""
    file_block_infos: list[_FileBlock] = []

    @property
    def resident(self) -> int:
        """How many bytes of it Alluxio holds."""
        return sum(block.block_info.length for block in self.file_block_infos if block.block_info.locations)


class Usage(NamedTuple):
    """How full all workers of an Alluxio are."""

    used: int
    """Bytes, of whomever."""
    capacity: int
    """Bytes."""


class RestError(msgspec.Struct):
    """Why the proxy did not do what it was asked."""

    message: str = ""
    status_code: str = msgspec.field(name="statusCode", default="")


class ProxyInfo(msgspec.Struct):
    """What the proxy tells of itself."""

    configuration: dict[str, str | int | float | bool | None] = {}


class _Capacity(msgspec.Struct):
    used: int
    total: int


class MasterInfo(msgspec.Struct):
    """What a master tells of all workers."""

    capacity: _Capacity
