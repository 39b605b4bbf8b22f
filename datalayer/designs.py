"""Storage designs: named answers to where a task's data lies and how a job gets at it.

=============  ==========================================================================================
``s3-poc``     outputs on S3; a job's inputs are downloaded before it runs, its outputs uploaded after it
``s3-direct``  outputs on S3, read and written there in place
``shared-fs``  outputs on a volume that every reader mounts, read and written in place
``hot-cold``   outputs on S3, written there in place and read from copies nearby: in Alluxio, or in a cache folder of the machine
=============  ==========================================================================================
"""

from __future__ import annotations

from typing import NamedTuple

from datalayer.errors import ConfigError
from datalayer.stores.base import Tier


class StorageDesign(NamedTuple):
    """One named configuration."""

    name: str
    data: Tier
    """The tier that outputs are written to."""
    reads: tuple[Tier, ...]
    """The tiers a reader tries, fastest first."""
    in_place: bool
    """Whether jobs read and write the tier itself; otherwise they get local copies, and their outputs are uploaded."""


_DESIGNS = (
    StorageDesign("s3-poc", Tier.COLD, (Tier.COLD,), in_place=False),
    StorageDesign("s3-direct", Tier.COLD, (Tier.COLD,), in_place=True),
    StorageDesign("shared-fs", Tier.SHARED, (Tier.SHARED, Tier.COLD), in_place=True),
    StorageDesign("hot-cold", Tier.COLD, (Tier.HOT, Tier.COLD), in_place=True),
)

DESIGNS = {design.name: design for design in _DESIGNS}


def storage_design(name: str) -> StorageDesign:
    """Return the design of that name.

    Raises:
        ConfigError: There is none.
    """
    try:
        return DESIGNS[name]
    except KeyError:
        raise ConfigError(f"design: unknown storage design {name!r}; the designs are {', '.join(DESIGNS)}") from None
