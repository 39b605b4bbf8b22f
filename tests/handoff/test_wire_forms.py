"""Documents of every version as they were written once: they must be read for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from datalayer import DataLayerError, ProtocolVersionError, TaskKey
from datalayer.commit import wire
from datalayer.commit.claims import Claim
from datalayer.commit.log import decode_committed
from datalayer.commit.manifest import Head, Manifest
from datalayer.delivery.lists import DeliveryList
from datalayer.handoff.context import decode_context
from datalayer.handoff.report import decode_report
from datalayer.handoff.schemas import SCHEMA_FOLDER, schemas
from datalayer.hot.ledger import Lease, WarmNote

GOLDEN = Path(__file__).parent / "golden"
KEY = TaskKey("aviation", "flights", "extract", "20130101T000000Z")

READERS: dict[str, Callable[[bytes], Any]] = {
    "task-context": decode_context,
    "task-report": decode_report,
    "manifest": lambda data: wire.decode(data, Manifest, "the manifest"),
    "head": lambda data: wire.decode(data, Head, "the head"),
    "claim": lambda data: wire.decode(data, Claim, "the claim", DataLayerError),
    "warmed": lambda data: wire.decode(data, WarmNote, "the note"),
    "lease": lambda data: wire.decode(data, Lease, "the lease"),
    "delivery-list": lambda data: wire.decode(data, DeliveryList, "the list"),
}


def golden(name: str, version: str = "1.0") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GOLDEN / f"{name}-{version}.json").read_bytes())
    return document


@pytest.mark.parametrize("name", READERS)
def test_a_document_of_version_1_0_is_read(name: str) -> None:
    document = golden(name)
    read = READERS[name](json.dumps(document).encode())
    assert read.version == "1.0"
    # Every value arrives: what is written again is what was read.
    again = json.loads(read.encode() if hasattr(read, "encode") else wire.encode(read))
    assert again == document


@pytest.mark.parametrize("name", ["manifest", "task-context"])
def test_a_document_that_says_packed_is_of_version_1_1(name: str) -> None:
    document = golden(name, "1.1")
    read = READERS[name](json.dumps(document).encode())
    assert read.version == "1.1"
    again = json.loads(read.encode() if hasattr(read, "encode") else wire.encode(read))
    assert again == document
    jsonschema.Draft202012Validator(json.loads((SCHEMA_FOLDER / f"{name}-1.0.json").read_bytes())).validate(document)


def test_what_is_packed_is_in_the_golden_manifest() -> None:
    manifest = READERS["manifest"](json.dumps(golden("manifest", "1.1")).encode())
    manifest.check(TaskKey.parse(manifest.key), "golden")
    output = manifest.outputs["default"]
    assert [(one.name, one.object, one.offset) for one in output.entries] == [
        ("a.csv", "_packs/5f0c2b91-00000", 0),
        ("b.csv", "_packs/5f0c2b91-00000", 10),
        ("day=1/c.csv", "_packs/5f0c2b91-00001", 0),
    ]
    assert [(one.name, one.length) for one in output.packs] == [
        ("_packs/5f0c2b91-00000", 16),
        ("_packs/5f0c2b91-00001", 5),
    ]


def test_a_context_is_of_the_version_that_says_it_all() -> None:
    document = {**golden("task-context", "1.1"), "version": "1.0"}
    context = decode_context(json.dumps(document).encode())
    assert json.loads(context.encode())["version"] == "1.1"
    assert json.loads(decode_context(json.dumps(golden("task-context")).encode()).encode())["version"] == "1.0"
    with pytest.raises(DataLayerError, match="pakced"):
        decode_context(json.dumps({**document, "version": "1.1", "outputs": {"default": {"pakced": True}}}).encode())


@pytest.mark.parametrize("name", READERS)
def test_a_newer_minor_version_is_read(name: str) -> None:
    newer = {**golden(name), "version": "1.9", "unheard_of": {"deep": [1]}}
    read = READERS[name](json.dumps(newer).encode())
    assert read.version == "1.9"


@pytest.mark.parametrize("name", READERS)
def test_a_newer_major_version_is_refused(name: str) -> None:
    with pytest.raises(ProtocolVersionError, match="has version 2.0; this library reads versions 1.x"):
        READERS[name](json.dumps({**golden(name), "version": "2.0"}).encode())


def test_the_head_holds_the_manifest_it_was_written_with() -> None:
    data = (GOLDEN / "head-1.0.json").read_bytes()
    committed = decode_committed(data, KEY, "the golden head")
    assert committed.manifest.attempt == 2
    assert committed.manifest.outputs["default"].rows == 336776
    newer = golden("head")
    newer["manifest"] |= {"version": "1.5", "unheard_of": 1}
    read = decode_committed(json.dumps(newer).encode(), KEY, "the golden head")
    # Kept, byte for byte, for those who know it.
    assert b"unheard_of" in read.raw
    newer["manifest"]["version"] = "2.0"
    with pytest.raises(ProtocolVersionError):
        decode_committed(json.dumps(newer).encode(), KEY, "the golden head")


def test_the_published_schemas_are_those_of_the_code() -> None:
    published = {path.name: path.read_bytes() for path in SCHEMA_FOLDER.iterdir()}
    assert published == schemas(), "a wire form was changed: run `make schemas`"


@pytest.mark.parametrize("name", ["task-context", "task-report", "manifest"])
def test_documents_fit_the_published_schemas(name: str) -> None:
    schema = json.loads((SCHEMA_FOLDER / f"{name}-1.0.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    document = golden(name)
    validator.validate(document)
    validator.validate({**document, "version": "1.3", "unheard_of": 1})
    for wrong in ({**document, "version": "2.0"}, {**document, "key": 7}, {"version": "1.0"}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(wrong)
