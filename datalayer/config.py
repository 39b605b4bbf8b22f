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
    references: list[ReferencePrefix] = []
    """Where data may lie that an output refers to."""
    cache: str | None = None
    """A folder of this user's for resolved, pinned manifests; without one they are remembered by the process alone."""

    def __post_init__(self) -> None:
        design = storage_design(self.design)
        names = {tier.value for tier in Tier}
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
        if self.tiers and design.data.value not in self.tiers:
            raise ConfigError(f"tiers.{design.data.value}: the design {design.name!r} writes there, so it needs a url")
        if self.home and self.tiers and self.home not in self.tiers:
            raise ConfigError(f"home: the tier {self.home!r} is not configured; add [tiers.{self.home}]")

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
        environ = os.environ if environ is None else environ
        document = _from_file(environ)
        _merge(document, _from_environment(environ))
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


def _unknown_key(document: Mapping[str, Any], source: str) -> str | None:
    # msgspec leaves the names of tiers and connections out of what it says.
    tables: list[tuple[str, object, type[msgspec.Struct]]] = [("", document, Config)]
    kinds: tuple[tuple[str, type[msgspec.Struct]], ...] = (("tiers", TierConfig), ("connections", Connection))
    for table, kind in kinds:
        named = document.get(table)
        if isinstance(named, dict):
            tables += [(f"{table}.{name}.", values, kind) for name, values in named.items()]
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
    for tier in tiers.values() if isinstance(tiers, dict) else ():
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
