"""Contexts: read strictly, written without secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datalayer import Config, ConfigError, HandoffError, ProtocolVersionError
from datalayer.config import Connection, TierConfig
from datalayer.handoff.context import (
    AttemptRef,
    InputSpec,
    OutputSpec,
    Pin,
    TaskContext,
    context_config,
    decode_context,
    layer_for,
    read_context,
)
from datalayer.handoff.destinations import Destination, S3Place

KEY = "/team/dag/job/20130101T000000Z"


def decode(**fields: Any) -> TaskContext:
    return decode_context(json.dumps({"version": "1.0", "key": KEY, **fields}).encode())


def test_the_smallest_context() -> None:
    context = decode()
    assert str(context.task_key) == KEY
    assert context.outputs == {"default": OutputSpec()}
    assert (context.inputs, context.attempt, context.commit, context.config) == ({}, None, "self", None)
    assert decode(inputs={"extract": {}}).inputs["extract"] == InputSpec(access="directory", optional=False)


def test_what_is_written_reads_back_the_same() -> None:
    context = TaskContext(
        key=KEY,
        owner="ti",
        attempt=AttemptRef(3, "abc"),
        inputs={"e": InputSpec(runs=["latest"], pins=[Pin(KEY, 1, "sha256:00", "cold")], access="in-place")},
        outputs={"default": OutputSpec([Destination("s3", S3Place("bucket", "a/b", "lake"))]), "other": OutputSpec()},
        config=context_config(Config(tiers={"cold": TierConfig(url="s3://b")})),
        commit="wrapper",
    )
    assert decode_context(context.encode()) == context
    assert json.loads(context.encode())["version"] == "1.0"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"inptus": {}}, "the context.inptus: unknown key; the keys are version, key"),
        ({"inputs": {"e": {"run": []}}}, "the context.inputs.e.run: unknown key"),
        ({"inputs": {"e": {"pins": [{"key": KEY, "attempt": 1}]}}}, "the context.inputs.e.pins[0].digest: is missing"),
        ({"inputs": {"e": {"optional": "yes"}}}, "the context.inputs.e.optional: expected true or false, got 'yes'"),
        ({"inputs": {"e": {"map_indexes": [True]}}}, "the context.inputs.e.map_indexes[0]: expected a whole number"),
        ({"inputs": {"e": {"access": "fuse"}}}, "the context.inputs.e.access: expected 'directory' or 'in-place'"),
        ({"inputs": []}, "the context.inputs: expected an object, got []"),
        ({"outputs": {"o": {"destinations": {}}}}, "the context.outputs.o.destinations: expected a list"),
        (
            {"outputs": {"o": {"destinations": [{"type": "gcs", "data": {}}]}}},
            "the context.outputs.o.destinations[0].type: expected 's3'",
        ),
        (
            {"config": {"connections": {"c": {"secret_access_key": "x"}}}},
            "config.connections.c.secret_access_key: unknown",
        ),
        ({"owner": 7}, "the context.owner: expected text, got 7"),
        ({"key": None}, "the context.key: expected text"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(HandoffError) as caught:
        decode(**fields)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"key": "/team/dag/job/yesterday"}, "the context.key: run 'yesterday'"),
        ({"key": "/../dag/job/20130101T000000Z"}, "the context.key"),
        ({"inputs": {"": {}}}, "the context.inputs.: alias is empty"),
        ({"inputs": {"e": {"outputs": ["../x"]}}}, "the context.inputs.e: output name '../x'"),
        ({"inputs": {"e": {"pins": [{"key": "x", "attempt": 1, "digest": ""}]}}}, "inputs.e.pins[0].key"),
        ({"outputs": {}}, "the context.outputs: a task needs at least one output"),
        ({"outputs": {"../x": {}}}, "the context.outputs.../x: output name"),
        (
            {"outputs": {"o": {"destinations": [{"type": "s3", "data": {"bucket": "a/b", "path": ""}}]}}},
            "the context.outputs.o.destinations[0].data.bucket: 'a/b' is no bucket name",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(**fields)
    assert said in str(caught.value)


def test_two_inputs_with_one_alias_are_an_error() -> None:
    with pytest.raises(ConfigError, match="'e' is given twice"):
        decode_context(b'{"version": "1.0", "key": "%s", "inputs": {"e": {}, "e": {}}}' % KEY.encode())


@pytest.mark.parametrize("version", ["2.0", "10.3"])
def test_a_newer_major_version_is_refused(version: str) -> None:
    with pytest.raises(ProtocolVersionError, match=f"has version {version}; this library reads versions 1.x"):
        decode(version=version)


def test_a_newer_minor_version_is_read_without_what_is_unknown() -> None:
    context = decode(version="1.9", priority=5, inputs={"e": {"warm": True}})
    assert context.inputs == {"e": InputSpec()}
    # Its own version is told on: a wrapper writes a context of its own version.
    assert context.version == "1.9"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'"x"', b"[" * 100_000, b'{"key": "x"}', b"\xff", b'{"version": 1}']
)
def test_what_is_no_context_is_said(data: bytes) -> None:
    with pytest.raises(HandoffError):
        decode_context(data)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(HandoffError, match="cannot be read: No such file"):
        read_context(tmp_path / "none.json")


def test_a_huge_context_is_refused() -> None:
    with pytest.raises(HandoffError, match="the limit is"):
        decode_context(b" " * (17 << 20))


def test_a_configuration_loses_its_secrets_and_gives_a_layer_again(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Connection(
        endpoint="http://127.0.0.1:1",
        region="r",
        access_key_id="AKID",
        secret_access_key="SECRET",
        session_token="TOKEN",
    )
    hidden = Connection(endpoint="http://user:PASSWORD@host")
    config = Config(
        tiers={"cold": TierConfig(url="s3://bucket/root", connection="lake")},
        references=[],
        connections={"lake": secret, "unused": secret, "hidden": hidden},
    )
    told = context_config(config, cache=Path("/cache"))
    text = TaskContext(key=KEY, config=told).encode().decode()
    assert not any(word in text for word in ("AKID", "SECRET", "TOKEN", "PASSWORD", "unused"))
    for name in ("DATALAYER_CONFIG", "DATALAYER_DESIGN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATALAYER_CONNECTIONS__LAKE__ACCESS_KEY_ID", "from the job's environment")
    monkeypatch.setenv("DATALAYER_CONNECTIONS__LAKE__SECRET_ACCESS_KEY", "from the job's environment")
    monkeypatch.setenv("DATALAYER_CONNECTIONS__LAKE__ENDPOINT", "http://elsewhere")
    layer = layer_for(decode_context(text.encode()))
    assert layer.config.tiers == config.tiers
    assert layer.config.connections["lake"].secret_access_key == "from the job's environment"
    assert layer.config.connections["lake"].endpoint == "http://127.0.0.1:1"
    assert layer.config.cache == "/cache"


def test_an_endpoint_with_a_password_is_left_out() -> None:
    config = Config(
        tiers={"cold": TierConfig(url="s3://b", connection="c")},
        connections={"c": Connection(endpoint="http://user:PASSWORD@host")},
    )
    assert context_config(config).connections["c"].endpoint is None
