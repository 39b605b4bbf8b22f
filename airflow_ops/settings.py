"""``[datalayer]`` of Airflow's configuration: how this deployment starts jobs. Read when asked for, never at import."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from datalayer.errors import ConfigError

SECTION = "datalayer"
_ENVIRONMENT = "AIRFLOW__DATALAYER__"
# Airflow takes a value from a command's output or a secrets backend where a key has one of these endings.
_INDIRECT = ("_cmd", "_secret")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The section's values. Each key is also ``AIRFLOW__DATALAYER__<KEY>`` in the environment."""

    team: str | None = None
    """The team of every DAG that no bundle, folder or run names one for."""
    launcher: Literal["kubernetes", "process"] = "kubernetes"
    """Where jobs run: in pods, or as processes of the worker (for ``dag.test()`` on one machine)."""
    config_file: str | None = None
    """The worker's ``datalayer.toml``; by default the one that ``DataLayer.from_env()`` finds."""
    committer_image: str | None = None
    """The image of the container that prepares a job's inputs and commits its outputs."""
    credentials_secret: str | None = None
    """A Secret of the team's namespace whose keys become environment variables of the job: ``AWS_ACCESS_KEY_ID`` and so on."""
    volume_claim: str | None = None
    """The PersistentVolumeClaim, in the team's namespace, of the shared tier."""
    commit_timeout: float = 3600.0
    """Seconds that a pod may take for its commit once it was told to end."""
    quota_wait: float = 600.0
    """Seconds that a task waits, at most, for a quota to have room for its pod."""
    process_folders: dict[str, str] = {}
    """For the launcher ``process``: folders of the image, and where they lie on this machine."""


def settings() -> Settings:
    """Return the settings in force.

    Raises:
        ConfigError: A key is unknown or a value does not fit; the message names the key.
    """
    from airflow.sdk.configuration import conf

    known = Settings.__struct_fields__
    for key in sorted(_keys(conf)):
        spelled = {key, *(key.removesuffix(ending) for ending in _INDIRECT)}
        if spelled.isdisjoint(known):
            raise ConfigError(f"[{SECTION}] {key}: unknown key; the keys are {', '.join(known)}")
    values: dict[str, Any] = {}
    for name in known:
        # Provider defaults are written down for people; an empty value means that nothing is set.
        text = conf.get(SECTION, name, fallback=None)
        if text not in {None, ""}:
            values[name] = _document(name, text) if name == "process_folders" else text
    try:
        found = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"[{SECTION}] {_field_of(values) or 'settings'}: {error}") from error
    for name in ("commit_timeout", "quota_wait"):
        if getattr(found, name) < 0:
            raise ConfigError(f"[{SECTION}] {name}: write seconds, 0 or more")
    if found.config_file is not None and not Path(found.config_file).is_file():
        raise ConfigError(f"[{SECTION}] config_file: {found.config_file!r} is no file on this machine")
    return found


def _keys(conf: Any) -> set[str]:
    """Return the keys that somebody wrote: in the file, or in the environment."""
    written = set(conf.options(SECTION)) if conf.has_section(SECTION) else set()
    return written | {name[len(_ENVIRONMENT) :].lower() for name in os.environ if name.startswith(_ENVIRONMENT)}


def _document(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"[{SECTION}] {name}: is no JSON: {error}") from error


def _field_of(values: dict[str, Any]) -> str | None:
    """Return the first key whose value does not fit by itself."""
    for name, value in values.items():
        try:
            msgspec.convert({name: value}, Settings, strict=False)
        except msgspec.ValidationError:
            return name
    return None
