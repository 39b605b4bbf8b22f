"""``DataLayer``: the facade over one configuration."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datalayer.addresses.keys import TaskKey, parse_short
from datalayer.addresses.location import Location
from datalayer.addresses.runs import LATEST
from datalayer.config import Config, Connection, HotConfig, TierConfig
from datalayer.designs import StorageDesign, storage_design
from datalayer.errors import ConfigError, InvalidKeyError, NotPublishedError
from datalayer.resolve.resolver import Resolver
from datalayer.stores.base import Store, Tier
from datalayer.stores.counting import CountingStore, Receipt
from datalayer.stores.opening import open_hot, open_root, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from datalayer.commit.manifest import Input, Producer
    from datalayer.commit.publisher import Attempt, Publisher
    from datalayer.hot.tier import HotTier
    from datalayer.resolve.resolution import Resolution
    from datalayer.stores.hot import HotStore
    from datalayer.taskfs import TaskFileSystem


class DataLayer:
    """Publishes and resolves task outputs under one configuration. Safe to share between threads.

    Args:
        config: The configuration; ``DataLayer.from_env()`` reads it from file and environment.
        stores: Stores to use for tiers instead of opening the configured ones.

    Raises:
        ConfigError: The configuration names no tier to work on.
    """

    def __init__(self, config: Config, *, stores: Mapping[Tier, Store] | None = None) -> None:
        self.config = config
        self.receipt = Receipt()
        """Calls and bytes of this layer so far, by tier."""
        self._stores: dict[Tier, Store] = {
            tier: CountingStore(store, self.receipt) for tier, store in (stores or {}).items()
        }
        self._hot: HotStore | None = None
        self._references: dict[str, Store] = {}
        self._lock = threading.Lock()
        self._filesystem: TaskFileSystem | None = None
        home = self.store(self.home_tier)
        remembered = None
        if config.cache:
            from datalayer.resolve.remembered import RememberedManifests

            remembered = RememberedManifests(Path(config.cache).expanduser(), home.root)
        self._resolver = Resolver(
            home, self.design.reads, self.store, self.reference_store, self._task_filesystem, remembered
        )

    @classmethod
    def from_env(cls, explicit: Mapping[str, Any] | None = None) -> DataLayer:
        """Return the layer of this environment. Explicit values win over ``DATALAYER_…`` variables, and those over the configuration file.

        Raises:
            ConfigError: A key is unknown, a value does not fit, or no tier is configured.
        """
        return cls(Config.load(explicit))

    @property
    def design(self) -> StorageDesign:
        """The storage design in force."""
        return storage_design(self.config.design)

    @property
    def home_tier(self) -> Tier:
        """The tier where manifests live."""
        if self.config.home or self.config.tiers:
            return self.config.home_tier
        return Tier.COLD if Tier.COLD in self._stores else self.design.data

    def store(self, tier: Tier) -> Store:
        """Return a tier's store.

        Raises:
            ConfigError: The tier is not configured.
        """
        if tier is Tier.HOT:
            return self.hot_store
        with self._lock:
            if tier not in self._stores:
                if not self.config.tiers:
                    message = (
                        "no tier is configured: set tiers.cold.url or tiers.shared.url in ./datalayer.toml, "
                        "~/.config/datalayer/datalayer.toml or the file that DATALAYER_CONFIG names, "
                        "or DATALAYER_TIERS__COLD__URL in the environment"
                    )
                    raise ConfigError(message)
                self._stores[tier] = CountingStore(open_store(self.config, tier), self.receipt)
            return self._stores[tier]

    @property
    def hot_store(self) -> HotStore:
        """The store of copies that the design reads from.

        Raises:
            ConfigError: The design has none.
        """
        if Tier.HOT not in self.design.reads:
            raise ConfigError(
                f"design: {self.design.name} has no hot tier; use the design hot-cold, and say where copies are held under [hot]"
            )
        cold = self.store(self.design.data)
        with self._lock:
            if self._hot is None:
                self._hot = open_hot(self.config, cold, self.receipt)
            return self._hot

    @property
    def hot(self) -> HotTier:
        """The hot tier's verbs: warm, pin, unpin, evict, status.

        Raises:
            ConfigError: The design has no hot tier.
        """
        from datalayer.hot.tier import HotTier  # Readers need none.

        return HotTier(self.home, self.hot_store, self._resolver, self.config.hot or HotConfig())

    @property
    def home(self) -> Store:
        """The store where manifests live and a commit happens."""
        return self.store(self.home_tier)

    @property
    def data(self) -> Store:
        """The store that outputs are written to under the design in force."""
        store = self.store(self.design.data)
        hot = self.config.hot or HotConfig()
        return self.hot_store.through if Tier.HOT in self.design.reads and hot.write_through else store

    def publish(
        self, key: TaskKey, *, owner: str | None = None, inputs: Iterable[Input] = (), producer: Producer | None = None
    ) -> Attempt:
        """Claim the next attempt of a task and return it: a context manager that commits when its block ends well.

        Args:
            key: The task.
            owner: The scheduler's id of the task instance; a claim it holds already is found again.
            inputs: What the attempt reads: ``[layer.resolve(upstream).pin("upstream")]``.
            producer: Who makes it.

        Raises:
            CommitConflictError: At the commit: a higher attempt has committed, or this one was fenced.
            InvalidKeyError: It is no key.
            StoreError: The home store failed.
        """
        _check_key(key)
        publisher = self.publisher(self._warm if self.warms_commits else None)
        return publisher.publish(key, owner=owner, inputs=inputs, producer=producer)

    def publisher(self, then: Callable[[TaskKey, int], None] | None = None) -> Publisher:
        """Return the publisher of this layer's home and data stores; ``then`` is called with what has committed."""
        from datalayer.commit.publisher import Publisher  # Readers need none, and start sooner.

        return Publisher(self.home, self.data, then)

    @property
    def warms_commits(self) -> bool:
        """Whether what is committed is to be warmed after it. A cache folder needs none of that: it makes its copy of what is written."""
        hot = self.config.hot or HotConfig()
        return Tier.HOT in self.design.reads and hot.alluxio and hot.write_through

    def _warm(self, key: TaskKey, attempt: int) -> None:
        self.hot.committed(key, attempt=attempt)

    def resolve(self, key: TaskKey, *, attempt: int | None = None, digest: str | None = None) -> Resolution:
        """Return the committed attempt of a task: one request, or none for a pinned one that is known already.

        Args:
            key: The task.
            attempt: Pin: this attempt, whether or not a later one has superseded it.
            digest: Pin: the manifest must have this digest.

        Raises:
            InvalidKeyError: It is no key.
            NotPublishedError: Nothing is committed there.
            VerificationError: The manifest is not valid, or not the pinned one.
        """
        _check_key(key)
        return self._resolver.resolve(key, attempt=attempt, digest=digest)

    def resolution_of(self, attempt: Attempt) -> Resolution:
        """Return what an attempt of this process has committed: no request.

        Raises:
            NotPublishedError: It has not.
        """
        if attempt.committed is None:
            raise NotPublishedError(
                f"attempt {attempt.number} of {attempt.key} has not committed", key=str(attempt.key)
            )
        return self._resolver.known(attempt.key, attempt.committed)

    def latest(self, team: str, dag_id: str, task_id: str, map_index: int | None = None) -> Resolution:
        """Return the newest committed run of a task by logical date; it lists the task's runs.

        Raises:
            NotPublishedError: No dated run has committed.
        """
        return self._resolver.latest(team, dag_id, task_id, map_index)

    def runs(self, team: str, dag_id: str, task_id: str, map_index: int | None = None) -> list[TaskKey]:
        """Return the keys of a task's dated runs, newest first, committed or not."""
        return self._resolver.runs(team, dag_id, task_id, map_index)

    def reference(self, key: TaskKey, uri: str, *, output: str = "default") -> Resolution:
        """Give data that already lies in a bucket or on a volume a task address, in place, and return its resolution.

        Args:
            key: The task whose output it becomes.
            uri: An object, or a folder of them. Each is pinned by its version and size.
            output: The output's name.

        Raises:
            ConfigError: No configured reference prefix covers the location.
            NotFoundError: Nothing lies there.
        """
        from datalayer.commit.reference import pin_location

        location = Location.parse(uri)
        store = self.reference_store(location)
        entries = pin_location(store, location)
        with self.publish(key) as attempt:
            attempt.refer(output, store.tier.value, location, entries)
        return self.resolve(key, attempt=attempt.number)

    def reference_store(self, location: Location) -> Store:
        """Return a store over the configured reference prefix that covers a location.

        Raises:
            ConfigError: None does.
        """
        for allowed in self.config.references:
            prefix = Location.parse(allowed.prefix)
            if location.is_within(prefix):
                with self._lock:
                    if allowed.prefix not in self._references:
                        store = open_root(
                            self.config,
                            TierConfig(url=allowed.prefix, connection=allowed.connection),
                            Tier.COLD,
                            "references",
                        )
                        self._references[allowed.prefix] = CountingStore(store, self.receipt)
                    return self._references[allowed.prefix]
        known = ", ".join(allowed.prefix for allowed in self.config.references) or "none"
        raise ConfigError(
            f"references: {location} lies below no allowed prefix (configured: {known}). Add [[references]] with a prefix that covers it"
        )

    def connection(self, name: str | None) -> Connection:
        """Return a connection by its name in the configuration; without a name, the AWS environment's own.

        Raises:
            ConfigError: There is none of that name.
        """
        if name is None:
            return Connection()
        try:
            return self.config.connections[name]
        except KeyError:
            known = ", ".join(sorted(self.config.connections)) or "none"
            raise ConfigError(
                f"connections: no connection named {name!r} (configured: {known}). Add [connections.{name}]"
            ) from None

    def __getitem__(self, address: str) -> Resolution:
        """Return what a short address names: ``layer["aviation/flights/extract@2013-01-01"]``, or ``…@latest``.

        Raises:
            InvalidKeyError: It is no short address.
            NotPublishedError: Nothing is committed there.
        """
        team, dag_id, task_id, run, map_index = parse_short(address)
        if run == LATEST:
            return self.latest(team, dag_id, task_id, map_index)
        return self.resolve(TaskKey(team, dag_id, task_id, run, map_index))

    def _task_filesystem(self) -> TaskFileSystem:
        if self._filesystem is None:
            from datalayer.taskfs import TaskFileSystem

            self._filesystem = TaskFileSystem(layer=self, skip_instance_cache=True)
        return self._filesystem


def _check_key(key: object) -> None:
    if not isinstance(key, TaskKey):
        raise InvalidKeyError(
            f"{key!r} is no TaskKey: write TaskKey(team, dag_id, task_id, run=…), or TaskKey.parse(text) for an address as it is "
            "printed. A short address is read with layer[text]"
        )
