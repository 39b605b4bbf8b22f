"""From a tier's configuration to its store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from datalayer.addresses.location import Location
from datalayer.errors import ConfigError, InvalidKeyError

if TYPE_CHECKING:
    from datalayer.config import Config, TierConfig
    from datalayer.stores.base import Store, Tier


def open_store(config: Config, tier: Tier) -> Store:
    """Return the store of a configured tier. Nothing is contacted yet.

    Raises:
        ConfigError: The tier is not configured, or its url names no kind of store.
    """
    try:
        settings = config.tiers[tier.value]
    except KeyError:
        raise ConfigError(f"tiers.{tier.value}: not configured; add a url for it") from None
    return open_root(config, settings, tier, f"tiers.{tier.value}")


def open_root(config: Config, settings: TierConfig, tier: Tier, name: str) -> Store:
    """Return a store over any root, as a tier's; ``name`` is the configuration key that it comes from, for errors.

    Raises:
        ConfigError: The url names no kind of store.
    """
    try:
        # A tier's url without a scheme is a folder; dots in it are a person's shorthand, not part of a location.
        url = settings.url if "://" in settings.url or not settings.url else os.path.abspath(settings.url)  # noqa: PTH100  # pathlib keeps the dots
        root = Location.parse(url)
    except InvalidKeyError as error:
        raise ConfigError(f"{name}.url: {error}") from error
    if root.scheme == "file":
        from datalayer.stores.volume import VolumeStore

        return VolumeStore(root, tier=tier)
    if root.scheme == "s3":
        from datalayer.config import Connection
        from datalayer.stores.s3 import S3Store

        connection = config.connections[settings.connection] if settings.connection else Connection()
        return S3Store(root, tier=tier, connection=connection)
    raise ConfigError(f"{name}.url: {root.scheme}:// is no kind of store; use s3:// or an absolute path")
