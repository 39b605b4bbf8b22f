"""What a reader makes of a manifest that is damaged, foreign or newer."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from datalayer import Config, DataLayer, ProtocolVersionError, ResolutionError, TaskKey, Tier, VerificationError
from datalayer.addresses import layout
from datalayer.commit import log, wire
from datalayer.commit.log import open_log
from datalayer.commit.manifest import digest_of
from datalayer.commit.verify import verify
from datalayer.resolve import resolution
from datalayer.stores.memory import MemoryStore


def head_of(layer: DataLayer, key: TaskKey) -> str:
    return layout.head_path(key) if layer.home.can_compare_and_put else layout.commit_path(key, 1)


def rewrite(layer: DataLayer, key: TaskKey, change: Callable[[dict[str, Any]], None]) -> None:
    path = head_of(layer, key)
    document = msgspec.json.decode(layer.home.get(path)[0])
    change(document)
    layer.home.put(path, msgspec.json.encode(document))


@pytest.fixture
def published(layer: DataLayer, key: TaskKey) -> DataLayer:
    with layer.publish(key) as attempt:
        attempt.output().put("a", b"12345")
    return layer


def test_every_truncation_is_a_typed_error(published: DataLayer, key: TaskKey) -> None:
    path = head_of(published, key)
    whole, _ = published.home.get(path)
    for length in range(0, len(whole), 7):
        published.home.put(path, whole[:length])
        with pytest.raises(VerificationError, match="is not a valid document"):
            published.resolve(key)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["manifest"]["outputs"]["default"]["entries"][0].update(name="../../../2/default/x"),
        lambda document: document["manifest"]["outputs"]["default"]["entries"][0].update(name="/etc/passwd"),
        lambda document: document["manifest"]["outputs"]["default"]["entries"][0].update(object="../claim.json"),
        lambda document: document["manifest"]["outputs"]["default"]["entries"][0].update(object="file:///etc/passwd"),
        lambda document: document["manifest"]["outputs"]["default"]["entries"][0].update(length=-1),
        lambda document: document["manifest"]["outputs"]["default"].update(files=2),
        lambda document: document["manifest"]["outputs"]["default"].update(entries=None),
        lambda document: document["manifest"]["outputs"]["default"].update(
            entries=None, index={"object": "../../x", "length": 1, "checksum": "sha256:0"}
        ),
        lambda document: document["manifest"]["outputs"].update({"..": document["manifest"]["outputs"]["default"]}),
        lambda document: document["manifest"].update(key="/other/flights/extract/20130101T000000Z"),
        lambda document: document["manifest"].update(attempt=0),
        lambda document: document["manifest"].update(outputs="none"),
        lambda document: document.update(version="one"),
        lambda document: document.update(version="²"),
        lambda document: document["manifest"].update(version="1" * 5000),
        lambda document: document["manifest"]["outputs"]["default"].update(
            files=2, bytes=10, entries=document["manifest"]["outputs"]["default"]["entries"] * 2
        ),
    ],
)
def test_a_manifest_that_lies_is_refused(
    published: DataLayer, key: TaskKey, change: Callable[[dict[str, Any]], None]
) -> None:
    rewrite(published, key, change)
    with pytest.raises(VerificationError):
        published.resolve(key)["default"].read_bytes("a")


DEEP = b"[" * 200_000 + b"]" * 200_000


@pytest.mark.parametrize(
    "document",
    [
        b'{"version": "1.0", "unknown": %s, "fenced": [], "manifest": null}' % DEEP,
        b'{"version": "1.0", "fenced": [], "manifest": %s}' % DEEP,
        b'{"version": "1.0\xff", "fenced": [], "manifest": null}',
    ],
)
def test_a12_deep_or_broken_json_is_refused(published: DataLayer, key: TaskKey, document: bytes) -> None:
    published.home.put(head_of(published, key), document)
    with pytest.raises(VerificationError, match="not a valid document"):
        published.resolve(key)
    # A claim decides nothing but that its number is taken.
    claim = f"{layout.attempt_path(key, 2)}/{layout.CLAIM}"
    published.home.put(claim, document)
    assert published.publish(key, owner="ti-1").number == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [({"kind": "table"}, "of the kind 'table'"), ({"tier": "tape"}, "of the tier 'tape'")],
)
def test_what_a_newer_version_may_add_says_so_where_it_is_read(
    published: DataLayer, key: TaskKey, change: dict[str, str], said: str
) -> None:
    rewrite(published, key, lambda document: document["manifest"]["outputs"]["default"].update(change))
    resolution = published.resolve(key)
    with pytest.raises(ResolutionError, match=f"{said}, which this library does not know. Upgrade"):
        resolution["default"]


ENTRY = b'{"name":"a","length":5}'


@pytest.mark.parametrize(
    "listed",
    [DEEP, b"[%s" % ENTRY, b'[{"name":"\xff","length":5}]', b"[%s,%s]" % (ENTRY, ENTRY), b"[]", b" " * (129 << 20)],
    ids=["deep", "cut", "no text", "twice", "empty", "bomb"],
)
def test_a12_an_index_that_lies_is_refused(key: TaskKey, listed: bytes) -> None:
    layer = DataLayer(Config(), stores={Tier.COLD: MemoryStore()})
    with layer.publish(key) as attempt:
        attempt.output().put("a", b"12345")
    data = gzip.compress(listed)
    index = {"object": "index/default.json.gz", "length": len(data), "checksum": digest_of(data)}
    layer.home.put(f"{layout.attempt_path(key, 1)}/{index['object']}", data)
    rewrite(layer, key, lambda document: document["manifest"]["outputs"]["default"].update(entries=None, index=index))
    with pytest.raises(VerificationError, match="the index .*default.json.gz"):
        _ = layer.resolve(key)["default"].files


def test_bytes_that_changed_under_the_manifest_are_seen(published: DataLayer, key: TaskKey) -> None:
    path = f"{layout.output_path(key, 1, 'default')}/a"
    hot = Tier.HOT in published.design.reads
    # By ranges that are compared with what was committed, more behind them is not seen, and does no harm.
    for damage in (b"12346", b"1234", b"023456" if hot else b"123456"):
        published.home.put(path, damage)
        if hot:  # The copy is still what was committed, and would be read.
            published.hot_store.evict([path])
        seen = "on tier .* lie|not the ones that were committed|ends at byte|ends before"
        with pytest.raises(VerificationError, match=seen):
            published.resolve(key)["default"].read_bytes("a")
        if len(damage) != 5:
            with pytest.raises(VerificationError, match=seen):
                published.resolve(key)["default"].open("a").read()


def test_a_newer_minor_version_is_read_and_kept_and_a_newer_major_is_refused(
    published: DataLayer, key: TaskKey
) -> None:
    def newer_minor(document: dict[str, Any]) -> None:
        document["version"] = document["manifest"]["version"] = "1.7"
        document["colour"] = document["manifest"]["colour"] = "red"

    rewrite(published, key, newer_minor)
    resolution = published.resolve(key)
    assert resolution["default"].read_bytes("a") == b"12345"
    assert b'"colour":"red"' in resolution.document
    assert open_log(published.home, key).fence(9)
    assert published.resolve(key).digest == resolution.digest
    if published.home.can_compare_and_put:
        assert msgspec.json.decode(published.home.get(head_of(published, key))[0])["colour"] == "red"
    with published.publish(key) as attempt:
        attempt.output().put("a", b"new")
    assert published.resolve(key, attempt=1).document == resolution.document
    for place in ("envelope", "manifest"):

        def newer_major(document: dict[str, Any], place: str = place) -> None:
            (document if place == "envelope" else document["manifest"])["version"] = "2.0"

        other = TaskKey("t", "d", place, key.run)
        with published.publish(other) as attempt:
            attempt.output().put("a", b"1")
        rewrite(published, other, newer_major)
        with pytest.raises(ProtocolVersionError, match=r"version 2\.0.*Upgrade"):
            published.resolve(other)


def test_files_that_are_parts_of_a_larger_object_are_read(layer: DataLayer, key: TaskKey) -> None:
    """Without a list of packs, as no writer of ours leaves it; the wire form allows it, so a reader must."""
    from datalayer.commit.manifest import Entry
    from datalayer.stores.checksum import checksum_of

    files = {"a": b"first", "b": b"", "c": b"second"}
    with layer.publish(key) as attempt:
        folder = layout.output_path(key, attempt.number, "default")
        layer.data.put(f"{folder}/pack", b"".join(files.values()))
        entries, offset = [], 0
        for name, data in files.items():
            entries.append(Entry(name, len(data), checksum_of([data])[0], object="pack", offset=offset))
            offset += len(data)
        attempt.output().adopt(entries)
    output = layer.resolve(key)["default"]
    assert {name: output.read_bytes(name) for name in output.files} == files
    assert {name: output.open(name).read() for name in output.files} == files
    assert dict(output.read_many()) == files
    layer.data.put(f"{folder}/pack", b"firstsecons")
    found = {(problem.kind, problem.file) for problem in verify(layer, layer.resolve(key)).problems}
    assert ("damaged", "c") in found
    assert ("damaged", "a") not in found


def test_a_document_is_scanned_once_and_its_digest_taken_where_somebody_asks(
    published: DataLayer, key: TaskKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[bytes] = []
    taken: list[bytes] = []

    class Scanning:
        def decode(self, data: bytes) -> Any:
            scans.append(bytes(data))
            return real.decode(data)

    real = wire._VERSIONED
    monkeypatch.setattr(wire, "_VERSIONED", Scanning())
    for module in (log, resolution):
        monkeypatch.setattr(module, "digest_of", lambda data: taken.append(data) or digest_of(data))  # type: ignore[func-returns-value]  # append gives None, so the digest follows
    found = published.resolve(key)
    assert (scans, taken) == ([], [])
    assert found.digest == found.digest == digest_of(found.document)
    assert taken == [found.document]
    assert published.resolve(key, attempt=1, digest=found.digest) is found
    with pytest.raises(VerificationError, match="is not the pinned one"):
        published.resolve(key, digest="sha256:0")
