"""``TaskContext``: what a job is told. A JSON document, wire version 1.0, or 1.1 where an output is packed; ``$DATALAYER_CONTEXT`` names its file.

An unknown key is an error in a document of this version, because a person or an older operator meant something by it. In a document of a
newer minor version it is ignored, and not passed on. A newer major version is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from datalayer.addresses.encoding import encode_component
from datalayer.addresses.keys import DEFAULT_OUTPUT, TaskKey, check_output_name
from datalayer.commit import wire
from datalayer.errors import ConfigError, HandoffError, InvalidKeyError
from datalayer.handoff.destinations import Destination, check_destination
from datalayer.handoff.fields import convert, parse_json

if TYPE_CHECKING:
    from datalayer.config import Config
    from datalayer.layer import DataLayer

CONTEXT_VARIABLE = "DATALAYER_CONTEXT"
IN_VARIABLE = "DATALAYER_IN"
OUT_VARIABLE = "DATALAYER_OUT"
REPORT_VARIABLE = "DATALAYER_REPORT"
JOURNAL_VARIABLE = "DATALAYER_INTERNAL_JOURNAL"

_MAX_BYTES = 16 << 20


class Pin(msgspec.Struct, frozen=True, omit_defaults=True):
    """One upstream task instance, resolved: the attempt that is read, whatever commits after it."""

    key: str
    attempt: int
    digest: str
    tier: str | None = None
    """The tier that served it when it was resolved. For people and for placing the job."""


class InputSpec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One input of a job, known to it by its alias."""

    key: str | None = None
    """The upstream's address; ``latest`` may stand for its run. By default the task of the alias's name in the same team, DAG and run."""
    runs: list[str] | None = None
    """Several runs of that task, each in ``/<run>/`` below the alias."""
    map_indexes: list[int] | None = None
    """The indexes of a mapped upstream, each in ``/<map_index>/`` below the alias. All of them must have committed."""
    outputs: list[str] | None = None
    """Which outputs are read; by default all."""
    optional: bool = False
    """Whether an upstream that has not committed is simply absent."""
    access: Literal["directory", "in-place"] = "directory"
    """``in-place``: the job reads through the SDK or Spark, so nothing is put below ``$DATALAYER_IN`` where the design reads in place."""
    pins: list[Pin] | None = None
    """What was found, once somebody resolved it; the job reads exactly that."""


class OutputSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One output that a job must produce."""

    destinations: list[Destination] = []
    """Where a copy is delivered after the commit."""
    packed: bool = False
    """Whether its small files are laid together into packs when they are uploaded. On a mounted tier, where the job writes in place, they lie
    as it wrote them. Since 1.1."""


class AttemptRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """The attempt that was claimed for this job."""

    number: int
    nonce: str
    fresh: bool = False
    """Whether it was claimed just now for this very job, so that nothing can have been staged or committed under it."""


class ProducerSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who makes the outputs, for the manifest."""

    operator: str | None = None
    image: str | None = None


class TierPlace(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tier's root, and the name of the connection that leads there."""

    url: str
    connection: str | None = None


class PrefixPlace(msgspec.Struct, frozen=True, omit_defaults=True):
    """A prefix that outputs may refer to."""

    prefix: str
    connection: str | None = None


class ConnectionPlace(msgspec.Struct, frozen=True, omit_defaults=True):
    """The public half of a connection. Keys and tokens have no field here: the job takes them from its own environment."""

    endpoint: str | None = None
    region: str | None = None
    timeout: float | None = None
    deadline: float | None = None


class HotPlace(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Where copies of committed outputs are held, as ``[hot]`` of the configuration has it."""

    url: str | None = None
    proxy: str | None = None
    mount: str | None = None
    budget: str | int | None = None
    write_type: str | None = None
    timeout: float | None = None


class ContextConfig(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The configuration a job works under, without secrets. It wins over the job's own file and environment, key by key."""

    design: str | None = None
    home: str | None = None
    tiers: dict[str, TierPlace] = {}
    hot: HotPlace | None = None
    references: list[PrefixPlace] = []
    connections: dict[str, ConnectionPlace] = {}
    cache: str | None = None


class TaskContext(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a job is told: which task it is, what it reads, what it must produce, and who commits."""

    version: str = wire.VERSION
    key: str
    owner: str | None = None
    """The scheduler's id of this try of the task instance."""
    attempt: AttemptRef | None = None
    """The claimed attempt; without one, whoever commits claims it."""
    inputs: dict[str, InputSpec] = {}
    outputs: dict[str, OutputSpec] = msgspec.field(default_factory=lambda: {DEFAULT_OUTPUT: OutputSpec()})
    config: ContextConfig | None = None
    readers: list[str] = []
    """The addresses of the task instances that will read the outputs: where the design has a hot tier they are pinned there for these."""
    producer: ProducerSpec | None = None
    commit: Literal["self", "wrapper"] = "self"
    """Who commits: the job itself (through ``open_task()``), or whoever started it. Never both."""

    @property
    def task_key(self) -> TaskKey:
        """The task's address."""
        return TaskKey.parse(self.key)

    def encode(self) -> bytes:
        """Return the document's bytes, indented for people."""
        # The version is a default, and defaults are left out.
        packed = self.version == wire.VERSION and any(output.packed for output in self.outputs.values())
        document = {"version": self.version, **msgspec.to_builtins(self)} | ({"version": wire.PACKED} if packed else {})
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def decode_context(data: bytes, what: str = "the context") -> TaskContext:
    """Return the context that JSON bytes spell.

    Raises:
        ConfigError: An alias or key is given twice, or a value cannot be used.
        HandoffError: The bytes are no context; the message names the field.
        ProtocolVersionError: It was written by a newer major version.
    """
    if len(data) > _MAX_BYTES:
        raise HandoffError(f"{what} has {len(data)} bytes; the limit is {_MAX_BYTES}")
    document = parse_json(data, what, HandoffError)
    if isinstance(document, dict) and "version" not in document and document.keys() <= {"input", "output"}:
        raise HandoffError(f"{what} looks like a job_config, which names no task: use --task KEY --job-config FILE")
    context = convert(document, TaskContext, what, HandoffError, strict=not is_newer_minor(data, what))
    check_context(context, what)
    return context


def read_context(path: Path) -> TaskContext:
    """Return the context in a file.

    Raises:
        HandoffError: The file cannot be read, and as for :func:`decode_context`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HandoffError(f"the context {path} cannot be read: {error.strerror}") from error
    return decode_context(data, f"the context {path}")


def check_context(context: TaskContext, what: str = "the context") -> None:
    """Make sure that every key, name and destination in a context can be used.

    Raises:
        ConfigError: One cannot; the message names the field.
    """
    path = what
    try:
        path = f"{what}.key"
        TaskKey.parse(context.key)
        for alias, spec in context.inputs.items():
            path = f"{what}.inputs.{alias}"
            encode_component(alias, "alias")
            for name in spec.outputs or ():
                check_output_name(name)
            for index, pin in enumerate(spec.pins or ()):
                path = f"{what}.inputs.{alias}.pins[{index}].key"
                TaskKey.parse(pin.key)
        for index, reader in enumerate(context.readers):
            path = f"{what}.readers[{index}]"
            TaskKey.parse(reader)
        for name, output in context.outputs.items():
            path = f"{what}.outputs.{name}"
            check_output_name(name)
            for index, destination in enumerate(output.destinations):
                path = f"{what}.outputs.{name}.destinations[{index}]"
                check_destination(destination, path)
    except InvalidKeyError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not context.outputs:
        raise ConfigError(f"{what}.outputs: a task needs at least one output; leave the key out for one named default")


def is_newer_minor(data: bytes, what: str) -> bool:
    """Whether a document's version is a newer minor one, so that keys may stand in it that this library does not know.

    Raises:
        ProtocolVersionError: It is a newer major one.
    """
    version = wire.decode(data, _Version, what, HandoffError).version
    minor = version.partition(".")[2]
    return minor.isdigit() and int(minor) > int(wire.PACKED.partition(".")[2])


class _Version(msgspec.Struct):
    version: str = wire.VERSION


def context_config(config: Config, *, cache: Path | None = None) -> ContextConfig:
    """Return the part of a configuration that a job may see: no keys, no tokens.

    Args:
        config: The whole configuration.
        cache: A folder of resolved manifests, where the configuration names none.
    """
    named = [tier.connection for tier in config.tiers.values()] + [prefix.connection for prefix in config.references]
    used = {name for name in named if name}
    return ContextConfig(
        design=config.design,
        home=config.home,
        tiers={name: TierPlace(tier.url, tier.connection) for name, tier in config.tiers.items()},
        hot=_hot(config),
        references=[PrefixPlace(place.prefix, place.connection) for place in config.references],
        connections={name: _public(config, name) for name in sorted(used)},
        cache=config.cache or (str(cache) if cache else None),
    )


def _hot(config: Config) -> HotPlace | None:
    hot = config.hot
    if hot is None:
        return None
    # The job may work in another folder than this process.
    url = hot.url if hot.url is None or "://" in hot.url else str(Path(hot.url).absolute())
    return HotPlace(
        url=url, proxy=hot.proxy, mount=hot.mount, budget=hot.budget, write_type=hot.write_type, timeout=hot.timeout
    )


def _public(config: Config, name: str) -> ConnectionPlace:
    connection = config.connections[name]
    # An endpoint may spell a user and a password.
    endpoint = None if connection.endpoint and "@" in connection.endpoint else connection.endpoint
    return ConnectionPlace(endpoint, connection.region, connection.timeout, connection.deadline)


def layer_for(context: TaskContext) -> DataLayer:
    """Return the layer a context asks for: its configuration over this process's environment and file.

    Raises:
        ConfigError: As for ``DataLayer.from_env``.
    """
    from datalayer.layer import DataLayer

    explicit: dict[str, Any] = msgspec.to_builtins(context.config) if context.config else {}
    return DataLayer.from_env(explicit)
