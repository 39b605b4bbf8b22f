"""Configuration: one file, the environment over it, and explicit values over both.

::

    design = "s3-direct"

    [tiers.cold]
    url = "s3://bucket/prefix"
    connection = "lake"

    [tiers.shared]
    url = "/mnt/efs/datalayer"

    [connections.lake]
    endpoint = "https://s3.eu-west-1.amazonaws.com"

    [hot]
    url = "alluxio://alluxio-master:19998/outputs"
    proxy = "http://alluxio-proxy:39999"

    [[references]]
    prefix = "s3://raw/events/"
    connection = "lake"

The file is ``$DATALAYER_CONFIG``, else ``./datalayer.toml``, else ``~/.config/datalayer/datalayer.toml``, else none. An environment variable
names a key by its path, with two underscores between the parts: ``DATALAYER_DESIGN``, ``DATALAYER_TIERS__COLD__URL``,
``DATALAYER_CONNECTIONS__LAKE__ENDPOINT``. An unknown key is an error wherever it stands. A relative folder in the file is meant from where the
file lies, any other from the working directory.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from datalayer.designs import storage_design
from datalayer.errors import ConfigError
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "DATALAYER_"
# Variables of the job contract and of the test suite, which are no configuration keys.
_NOT_CONFIG = ("CONFIG", "CONTEXT", "IN", "OUT", "REPORT", "CACHE")
_NOT_CONFIG_PREFIXES = ("TEST_", "INTERNAL_")
_LONGEST_SECONDS = 3600
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?))?B?", re.IGNORECASE)
_DURABLE = ("CACHE_THROUGH", "THROUGH")
_NOT_DURABLE = {
    "MUST_CACHE": "holds data in Alluxio alone, where a worker's end loses it",
    "ASYNC_THROUGH": "writes to S3 some time after it has said that all is written",
}


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to reach an S3 service. What is not set is left to the AWS environment variables and the instance's own identity."""

    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    timeout: float = 30.0
    """Seconds one request may take."""
    deadline: float = 120.0
    """Seconds a call may take with all its retries."""
    hedge: bool = False
    """Whether a read that waits longer than nearly all before it is asked for a second time; of 100 reads at most 5 are."""

    def __repr__(self) -> str:
        # Never the secret: configurations end up in logs.
        return f"Connection(endpoint={self.endpoint!r}, region={self.region!r}, access_key_id={self.access_key_id!r})"

    def __rich_repr__(self) -> Any:
        yield "endpoint", self.endpoint


class TierConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One tier: the root of this deployment on it, and the connection that leads there."""

    url: str
    """``s3://bucket/prefix`` or a folder (absolute path or ``file://``)."""
    connection: str | None = None
    """A name in ``connections``; without one, the AWS environment's own."""


class ReferencePrefix(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A location below which outputs may refer to data that already lies there."""

    prefix: str
    connection: str | None = None
    """A name in ``connections``; without one, the AWS environment's own."""


class HotConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where copies of committed outputs are held under the design ``hot-cold``."""

    url: str | None = None
    """A folder of this machine; or ``alluxio://master:19998/folder``, the Alluxio folder under which ``tiers.cold.url`` is mounted. By
    default a folder of this user's, in the system's place for caches."""
    proxy: str | None = None
    """Alluxio's proxy, ``http://host:39999``."""
    mount: str | None = None
    """Where Alluxio's FUSE shows that folder on this machine, if it does."""
    budget: str | int = "10GB"
    """Bytes of copies, at most: a number, or one with KB, MB, GB, TB (powers of 1,000) or KiB, MiB, GiB, TiB (of 1,024)."""
    write_type: str | None = None
    """In Alluxio's words: ``CACHE_THROUGH`` makes the copy of an output when it is written, ``THROUGH`` when it is first read or warmed. By
    default CACHE_THROUGH for a folder, THROUGH for Alluxio."""
    timeout: float = 1.5
    """Seconds that a request to Alluxio may take; then the cold tier is read instead."""

    def __post_init__(self) -> None:
        if self.write_type is not None:
            check_write_type("hot.write_type", self.write_type)
        if self.alluxio:
            if not self.proxy:
                raise ConfigError("hot.proxy: Alluxio is read through its proxy; set it to http://host:39999")
            if not self.proxy.startswith(("http://", "https://")) or "@" in self.proxy:
                raise ConfigError("hot.proxy: write a URL that begins with http:// or https://, without a user in it")
        elif self.url and "://" in self.url and not self.url.startswith("file://"):
            raise ConfigError(f"hot.url: {self.url!r} is no hot tier; use alluxio://master:19998/folder, or a folder")
        elif self.proxy or self.mount:
            raise ConfigError(f"hot.{'proxy' if self.proxy else 'mount'}: only with hot.url = alluxio://…")
        if not 0 < self.timeout <= _LONGEST_SECONDS:
            raise ConfigError(f"hot.timeout: write seconds, more than 0 and at most {_LONGEST_SECONDS}")
        if self.budget_bytes <= 0:
            raise ConfigError("hot.budget: write how many bytes of copies there may be, like 10GB")

    @property
    def alluxio(self) -> bool:
        """Whether copies are held by Alluxio, and not in a folder."""
        return self.url is not None and self.url.startswith("alluxio://")

    @property
    def write_through(self) -> bool:
        """Whether a copy is made of what is written."""
        return self.write_type == "CACHE_THROUGH" if self.write_type else not self.alluxio

    @property
    def budget_bytes(self) -> int:
        """Bytes of copies, at most.

        Raises:
            ConfigError: The budget is no number of bytes.
        """
        if isinstance(self.budget, int):
            return self.budget
        found = _SIZE.fullmatch(self.budget.strip())
        if found is None:
            raise ConfigError(f"hot.budget: {self.budget!r} is no number of bytes; write one like 500MB or 10GB")
        number, prefix, binary = found.groups()
        return int(float(number) * (1024 if binary else 1000) ** (" KMGT".index((prefix or " ").upper())))


def check_write_type(name: str, write_type: str) -> None:
    """Make sure that what is written under a write type of Alluxio's is durable when it is committed.

    Args:
        name: The setting that says it, for errors.
        write_type: In Alluxio's words.

    Raises:
        ConfigError: It is not, or there is no such write type.
    """
    if write_type in _NOT_DURABLE:
        raise ConfigError(
            f"{name}: {write_type} {_NOT_DURABLE[write_type]}, and an output is durable on the cold tier before it "
            f"is committed. Use {' or '.join(_DURABLE)}"
        )
    if write_type not in _DURABLE:
        raise ConfigError(f"{name}: unknown write type {write_type!r}; use {' or '.join(_DURABLE)}")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole configuration. ``Config.load()`` reads it; ``Config(...)`` builds one by hand.

    Raises:
        ConfigError: A value does not fit; the message names the key.
    """

    design: str = "s3-direct"
    tiers: dict[str, TierConfig] = {}
    connections: dict[str, Connection] = {}
    home: str | None = None
    """The tier where manifests live; by default cold where it is configured, else the design's own."""
    hot: HotConfig | None = None
    """Where copies are held; only read under a design that has a hot tier."""
    references: list[ReferencePrefix] = []
    """Where data may lie that an output refers to."""
    cache: str | None = None
    """A folder of this user's for resolved, pinned manifests; without one they are remembered by the process alone."""

    def __post_init__(self) -> None:
        design = storage_design(self.design)
        if Tier.HOT.value in self.tiers or self.home == Tier.HOT.value:
            raise ConfigError("tiers.hot: a hot tier holds copies only; configure it as [hot]")
        names = {tier.value for tier in Tier} - {Tier.HOT.value}
        for name in [*self.tiers, *([self.home] if self.home else [])]:
            if name not in names:
                raise ConfigError(
                    f"{'home' if name == self.home else f'tiers.{name}'}: unknown tier {name!r}; the tiers are {', '.join(sorted(names))}"
                )
        for name, tier in self.tiers.items():
            if tier.connection is not None and tier.connection not in self.connections:
                raise ConfigError(
                    f"tiers.{name}.connection: no connection named {tier.connection!r}; add [connections.{tier.connection}]"
                )
        for reference in self.references:
            if reference.connection is not None and reference.connection not in self.connections:
                raise ConfigError(
                    f"references: no connection named {reference.connection!r}; add [connections.{reference.connection}]"
                )
        self._check_copies_apart()
        if self.tiers and design.data.value not in self.tiers:
            raise ConfigError(f"tiers.{design.data.value}: the design {design.name!r} writes there, so it needs a url")
        if self.home and self.tiers and self.home not in self.tiers:
            raise ConfigError(f"home: the tier {self.home!r} is not configured; add [tiers.{self.home}]")

    def _check_copies_apart(self) -> None:
        copies = _folder(self.hot.url) if self.hot else None
        for name, tier in self.tiers.items():
            folder = _folder(tier.url)
            if copies and folder and (copies.is_relative_to(folder) or folder.is_relative_to(copies)):
                raise ConfigError(
                    f"hot.url: {copies} and tiers.{name}.url, {folder}, lie in each other; copies need a folder of their own"
                )

    @property
    def home_tier(self) -> Tier:
        """The tier where manifests live and a commit happens."""
        if self.home:
            return Tier(self.home)
        return Tier.COLD if Tier.COLD.value in self.tiers else storage_design(self.design).data

    @classmethod
    def load(cls, explicit: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None) -> Config:
        """Return the configuration from file, environment and ``explicit`` values; later ones win key by key.

        Args:
            explicit: Nested values, as the file has them.
            environ: The environment to read; by default this process's.

        Raises:
            ConfigError: A key is unknown or a value does not fit, or the named file cannot be read.
        """
        document = config_document(environ=environ)
        _merge(document, explicit or {})
        return cls.from_mapping(document)

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any], *, source: str = "configuration") -> Config:
        """Return the configuration that nested values spell.

        Raises:
            ConfigError: A key is unknown or a value does not fit.
        """
        try:
            return msgspec.convert(document, cls, strict=False)
        except msgspec.ValidationError as error:
            if isinstance(error.__cause__, ConfigError):
                raise error.__cause__ from None
            raise ConfigError(_unknown_key(document, source) or f"{source}: {error}") from error


def config_document(*, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the nested values of file and environment, not yet looked at as a whole: for who has connections of other sources to add.

    Args:
        environ: The environment to read; by default this process's.

    Raises:
        ConfigError: A key is unknown, or the named file cannot be read.
    """
    environ = os.environ if environ is None else environ
    document = _from_file(environ)
    _merge(document, _from_environment(environ))
    return document


def _folder(url: str | None) -> Path | None:
    """Return the folder of this machine that a url names, if it names one."""
    path = url.removeprefix("file://") if url else ""
    return Path(os.path.abspath(path)) if path and "://" not in path else None  # noqa: PTH100  # pathlib keeps the dots


def _unknown_key(document: Mapping[str, Any], source: str) -> str | None:
    # msgspec leaves the names of tiers and connections out of what it says.
    tables: list[tuple[str, object, type[msgspec.Struct]]] = [("", document, Config)]
    kinds: tuple[tuple[str, type[msgspec.Struct]], ...] = (("tiers", TierConfig), ("connections", Connection))
    for table, kind in kinds:
        named = document.get(table)
        if isinstance(named, dict):
            tables += [(f"{table}.{name}.", values, kind) for name, values in named.items()]
    tables.append(("hot.", document.get("hot"), HotConfig))
    references = document.get("references")
    if isinstance(references, list):
        tables += [(f"references[{at}].", values, ReferencePrefix) for at, values in enumerate(references)]
    for place, values, form in tables:
        for key in values if isinstance(values, dict) else ():
            if key not in form.__struct_fields__:
                return f"{source}: unknown key {f'{place}{key}'!r}; the keys are {', '.join(form.__struct_fields__)}"
    return None


def _from_file(environ: Mapping[str, str]) -> dict[str, Any]:
    import tomllib

    named = environ.get("DATALAYER_CONFIG")
    candidates = (
        [Path(named)] if named else [Path("datalayer.toml"), Path("~/.config/datalayer/datalayer.toml").expanduser()]
    )
    for path in candidates:
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError) as error:
            if named:
                raise ConfigError(f"DATALAYER_CONFIG names {named!r}, which is not there") from error
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the configuration file {path}: {error}") from error
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: {error}") from error
        # Checked alone first, so that an error names the file and not what was merged over it.
        if unknown := _unknown_key(document, str(path)):
            raise ConfigError(unknown)
        _anchor(document, path.absolute().parent)
        return document
    return {}


def _anchor(document: dict[str, Any], folder: Path) -> None:
    tiers = document.get("tiers")
    for tier in (*(tiers.values() if isinstance(tiers, dict) else ()), document.get("hot")):
        url = tier.get("url") if isinstance(tier, dict) else None
        if isinstance(url, str) and url and "://" not in url:
            tier["url"] = str(folder / url)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(_PREFIX):
            continue
        name = variable.removeprefix(_PREFIX)
        if name in _NOT_CONFIG or name.startswith(_NOT_CONFIG_PREFIXES):
            continue
        parts = name.lower().split("__")
        if parts[0] not in Config.__struct_fields__ or "" in parts:
            raise ConfigError(
                f"{variable}: unknown key {'.'.join(parts)!r}; the keys are {', '.join(Config.__struct_fields__)}"
            )
        place = document
        for part in parts[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{variable}: {part!r} has a value of its own already")
        place[parts[-1]] = value
    return document


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
