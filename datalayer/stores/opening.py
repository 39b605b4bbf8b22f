"""From a tier's configuration to its store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from datalayer.addresses.location import Location
from datalayer.errors import ConfigError, InvalidKeyError

if TYPE_CHECKING:
    from datalayer.config import Config, TierConfig
    from datalayer.stores.base import Store, Tier
    from datalayer.stores.counting import Receipt
    from datalayer.stores.hot import HotStore


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


def open_hot(config: Config, cold: Store, receipt: Receipt) -> HotStore:
    """Return the store of copies of a cold store's files. Nothing is contacted yet.

    Args:
        config: Its ``hot`` says where they are held; without one, in a folder of this user's.
        cold: The store that outputs are committed on.
        receipt: Told of hits and misses.

    Raises:
        ConfigError: The url names no hot tier.
    """
    from datalayer.config import HotConfig

    hot = config.hot or HotConfig()
    if hot.alluxio:
        from datalayer.stores.alluxio import AlluxioStore

        return AlluxioStore(cold, receipt, hot)
    from datalayer.stores.node_cache import NodeCache, default_folder

    folder = Path((hot.url or "").removeprefix("file://")) if hot.url else default_folder()
    return NodeCache(cold, receipt, folder, budget=hot.budget_bytes)


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
