"""What a publisher may do, and what a reader sees meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from datalayer import (
    CommitConflictError,
    DataLayer,
    InvalidKeyError,
    NotFoundError,
    NotPublishedError,
    PublishError,
    ResolutionError,
    TaskKey,
    VerificationError,
)
from datalayer.addresses import layout
from datalayer.commit.claims import claim_once, find_claim
from datalayer.commit.publisher import MAX_INLINE_ENTRIES
from tests.behaviour.conftest import volume_layer


def publish(layer: DataLayer, key: TaskKey, **files: bytes) -> int:
    with layer.publish(key) as attempt:
        for name, data in files.items():
            attempt.output().put(name, data)
    return attempt.number


def staged(layer: DataLayer, key: TaskKey, attempt: int) -> list[str]:
    """Look behind the library: what lies in an attempt's folder, its claim left out."""
    folder = layout.attempt_path(key, attempt)
    return sorted(info.path for info in layer.home.list(folder) if not info.path.endswith(layout.CLAIM))


def test_nothing_is_visible_before_the_block_ends_well(layer: DataLayer, key: TaskKey) -> None:
    with layer.publish(key) as attempt:
        with attempt.output().open("a.bin") as file:
            file.write(b"x" * 100)
        with pytest.raises(NotPublishedError):
            layer.resolve(key)
    assert layer.resolve(key)["default"].read_bytes("a.bin") == b"x" * 100


def test_a_failed_block_leaves_nothing(layer: DataLayer, key: TaskKey) -> None:
    with pytest.raises(ZeroDivisionError), layer.publish(key) as attempt:
        attempt.output().put("a", b"1")
        with attempt.output("big").open("b") as file:
            file.write(b"x" * (12 << 20))
            raise ZeroDivisionError
    with pytest.raises(NotPublishedError):
        layer.resolve(key)
    assert staged(layer, key, 1) == []


def test_a_file_whose_writer_failed_is_not_committed_even_if_the_error_is_swallowed(
    layer: DataLayer, key: TaskKey
) -> None:
    with layer.publish(key) as attempt:
        attempt.output().put("good", b"1")
        with pytest.raises(ZeroDivisionError), attempt.output().open("half") as file:
            file.write(b"half")
            raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError), attempt.output().open("half.txt", "w") as text:
            text.write("half")
            raise ZeroDivisionError
    assert list(layer.resolve(key)["default"].files) == ["good"]
    assert [path.rpartition("/")[2] for path in staged(layer, key, 1)] == ["good"]


def test_a_file_that_was_never_closed_refuses_the_commit(layer: DataLayer, key: TaskKey) -> None:
    with pytest.raises(PublishError, match=r"'open.bin' was opened and never closed"), layer.publish(key) as attempt:
        attempt.output().open("open.bin").write(b"1")
    with pytest.raises(NotPublishedError):
        layer.resolve(key)


def test_a_rerun_supersedes_and_an_earlier_reader_keeps_its_view(layer: DataLayer, key: TaskKey) -> None:
    assert publish(layer, key, a=b"old", only_old=b"1") == 1
    before = layer.resolve(key)
    assert publish(layer, key, a=b"new") == 2
    after = layer.resolve(key)
    assert (before.attempt, after.attempt) == (1, 2)
    assert before["default"].read_bytes("a") == b"old"
    assert before["default"].read_bytes("only_old") == b"1"
    assert after["default"].read_bytes("a") == b"new"
    with pytest.raises(NotFoundError, match="has no file 'only_old'; it has a"):
        after["default"].open("only_old")


def test_a_pin_finds_a_superseded_attempt_in_a_new_process(layer: DataLayer, key: TaskKey) -> None:
    for number in range(1, 4):
        publish(layer, key, a=str(number).encode())
    fresh = DataLayer(layer.config, stores={layer.home_tier: layer.home})
    for number in range(1, 4):
        assert fresh.resolve(key, attempt=number)["default"].read_bytes("a") == str(number).encode()
    digest = fresh.resolve(key, attempt=2).digest
    assert layer.resolve(key, attempt=2, digest=digest).attempt == 2
    with pytest.raises(VerificationError, match="not the pinned one"):
        layer.resolve(key, attempt=3, digest=digest)
    with pytest.raises(NotPublishedError, match="attempt 4 of .* has not committed"):
        layer.resolve(key, attempt=4)


def test_several_outputs_and_what_the_manifest_says_of_them(layer: DataLayer, key: TaskKey) -> None:
    upstream = TaskKey("aviation", "flights", "upstream", key.run)
    publish(layer, upstream, a=b"1")
    with layer.publish(key, inputs=[layer.resolve(upstream).pin("upstream")]) as attempt:
        attempt.output().write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}))
        with attempt.output("text").open("sub/folder/readme.txt", "w") as file:
            file.write("gruß\n")
    resolution = layer.resolve(key)
    assert sorted(resolution) == ["default", "text"]
    table = resolution["default"]
    assert (table.output.rows, [field.name for field in table.output.schema or []]) == (2, ["a", "b"])
    assert table.dataset().to_table().to_pydict() == {"a": [1, 2], "b": ["x", "y"]}
    assert resolution["text"].read_bytes("sub/folder/readme.txt") == "gruß\n".encode()
    assert [(edge.alias, edge.key, edge.attempt) for edge in resolution.manifest.inputs] == [
        ("upstream", str(upstream), 1)
    ]
    with pytest.raises(ResolutionError, match="no output 'other'; it has default, text"):
        resolution["other"]


def test_an_output_without_a_file_is_an_error_and_zero_bytes_are_fine(layer: DataLayer, key: TaskKey) -> None:
    with pytest.raises(PublishError, match="has no output"), layer.publish(key):
        pass
    with pytest.raises(VerificationError, match="output 'empty' .* no file was written"), layer.publish(key) as attempt:
        attempt.output().put("a", b"1")
        attempt.output("empty")
    with pytest.raises(NotPublishedError):
        layer.resolve(key)
    assert publish(layer, key, a=b"") == 3
    assert layer.resolve(key)["default"].read_bytes("a") == b""


def test_names_that_cannot_be_committed_are_refused_before_a_byte_moves(layer: DataLayer, key: TaskKey) -> None:
    with layer.publish(key) as attempt:
        for name in ("../../escape", "/etc/passwd", "a\x00b", ""):
            with pytest.raises(InvalidKeyError):
                attempt.output().open(name)
        with pytest.raises(InvalidKeyError, match="S3 allows 1024"):
            attempt.output().put("/".join(["d" * 200] * 5), b"")
        with pytest.raises(ValueError, match="written once"):
            attempt.output().open("a", "ab")  # type: ignore[call-overload]  # what is tested
        attempt.output().put("fine", b"")
    assert list(layer.resolve(key)["default"].files) == ["fine"]


def test_an_output_of_many_files_has_an_index_and_the_head_stays_small(layer: DataLayer, key: TaskKey) -> None:
    count = MAX_INLINE_ENTRIES + 1
    with layer.publish(key) as attempt:
        output = attempt.output()
        from datalayer.commit.manifest import Entry

        # As another process of this attempt would have written them.
        output.adopt(Entry(f"part-{number:05}", 0, "crc32c:00000000") for number in range(count))
    resolution = layer.resolve(key)
    assert len(resolution.document) < 1000
    assert len(resolution["default"].files) == count
    index = f"{layout.attempt_path(key, 1)}/index/default.json.gz"
    data, _ = layer.home.get(index)
    layer.home.put(index, data[:-1])
    with pytest.raises(VerificationError, match="not the one that was committed"):
        _ = DataLayer(layer.config, stores={layer.home_tier: layer.home}).resolve(key)["default"].files


def test_a_task_instance_that_starts_again_fences_what_it_began(layer: DataLayer, key: TaskKey) -> None:
    first = layer.publish(key, owner="ti-1")
    first.output().put("left-over", b"1")
    other = layer.publish(key, owner="ti-2")
    with layer.publish(key, owner="ti-1") as again:
        assert again.number == 3
        again.output().put("a", b"2")
        first.output().put("more", b"1")
        with pytest.raises(CommitConflictError, match="fenced"):
            first.commit()
    assert list(layer.resolve(key)["default"].files) == ["a"]
    with pytest.raises(CommitConflictError, match="has committed attempt 3 .* already"):
        layer.publish(key, owner="ti-1")
    other.output().put("a", b"3")
    with pytest.raises(CommitConflictError, match="attempt 3 has committed"):
        other.commit()


def test_the_first_start_of_a_task_instance_fences_nobody_else(layer: DataLayer, key: TaskKey) -> None:
    one, two = layer.publish(key, owner="ti-1"), layer.publish(key, owner="ti-2")
    for attempt in (one, two):
        attempt.output().put("a", attempt.claim.owner.encode() if attempt.claim.owner else b"")
        attempt.commit()
    assert layer.resolve(key)["default"].read_bytes("a") == b"ti-2"


def test_a_reattached_task_finds_its_own_claim(layer: DataLayer, key: TaskKey) -> None:
    layer.publish(key, owner="ti-1").output().put("staged", b"1")
    layer.publish(key, owner="ti-2")
    claim = find_claim(layer.home, key, "ti-1")
    assert claim is not None
    with layer.publisher().attach(key, claim) as attempt:
        assert attempt.number == 1
        assert [path.rpartition("/")[2] for path in staged(layer, key, 1)] == ["staged"], "a live folder was wiped"
        attempt.output().put("a", b"2")
    assert layer.resolve(key).attempt == 1
    assert find_claim(layer.home, key, "ti-3") is None


def test_an_owner_claims_once(layer: DataLayer, key: TaskKey) -> None:
    first, fresh = claim_once(layer.home, key, "ti-1")
    assert (first.attempt, fresh) == (1, True)
    assert claim_once(layer.home, key, "ti-1") == (first, False)
    second, fresh = claim_once(layer.home, key, "ti-2")
    assert (second.attempt, fresh) == (2, True)
    assert claim_once(layer.home, key, "ti-2") == (second, False)
    assert claim_once(layer.home, key, "ti-1") == (first, False)


def test_wrong_types_are_told_what_to_give_instead(layer: DataLayer, key: TaskKey) -> None:
    publish(layer, key, a=b"1")
    with layer.publish(key) as attempt:
        with pytest.raises(TypeError, match=r"use open\(name, 'w'\) for text"):
            attempt.output().put("a", "text")  # type: ignore[arg-type]  # the wrong type is what is tested
        with pytest.raises(TypeError, match="mode 'w' for text"), attempt.output().open("b") as file:
            file.write("text")  # type: ignore[call-overload]  # what is tested
        with pytest.raises(TypeError, match=r"give resolution\.pin\(alias\)"):
            attempt.read(layer.resolve(key))  # type: ignore[arg-type]  # the wrong type is what is tested
        attempt.output().put("c", bytearray(b"1"))  # type: ignore[arg-type]  # the wrong type is what is tested
    assert list(layer.resolve(key)["default"].files) == ["c"]


def test_latest_is_the_newest_committed_dated_run(layer: DataLayer) -> None:
    from datalayer import RunId

    def run_key(run: str | RunId) -> TaskKey:
        return TaskKey("t", "d", "k", run)

    with pytest.raises(NotPublishedError, match="no dated run"):
        layer["t/d/k@latest"]
    for run in ("20130102T000000Z", "20130101T000000Z", RunId("manual__2030")):
        publish(layer, run_key(run), a=run.encode())
    layer.publish(run_key("20130103T000000Z"))  # Claimed, never committed.
    assert layer["t/d/k@latest"].key.run == "20130102T000000Z"
    publish(layer, run_key("20130102T000000.000001Z"), a=b"")
    assert layer["t/d/k@latest"].key.run == "20130102T000000.000001Z"
    assert layer["t/d/k@2013-01-01"]["default"].read_bytes("a") == b"20130101T000000Z"
    assert layer["t/d/k@run_id-manual__2030"].attempt == 1


def test_missing_upstream_names_the_key_and_every_miss(layer: DataLayer, key: TaskKey) -> None:
    with pytest.raises(NotPublishedError) as caught:
        layer.resolve(key)
    assert caught.value.key == str(key)
    assert [miss.tier for miss in caught.value.misses] == [layer.home_tier]  # type: ignore[attr-defined]  # the error is known to have it
    assert str(key) in str(caught.value)
    assert "Run the upstream task" in str(caught.value)


def test_a_link_left_in_a_folder_refuses_the_commit(tmp_path: Path, key: TaskKey) -> None:
    layer = volume_layer(tmp_path / "volume")
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(VerificationError, match="is a symbolic link"), layer.publish(key) as attempt:
        folder = attempt.output().path
        assert folder is not None
        (folder / "fine").write_bytes(b"1")
        (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(NotPublishedError):
        layer.resolve(key)


def test_an_attempt_that_goes_on_after_long_shows_that_it_lives(layer: DataLayer, key: TaskKey) -> None:
    claim = layer.publish(key).claim
    alive = f"{layout.attempt_path(key, 1)}/{layout.ALIVE}"
    old = msgspec.structs.replace(claim, started="2013-01-01T00:00:00+00:00")
    with layer.publisher().attach(key, old) as attempt:
        attempt.output().put("a", b"1")
        deadline = time.monotonic() + 20
        while not exists(layer, alive) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert exists(layer, alive)


def exists(layer: DataLayer, path: str) -> bool:
    try:
        layer.home.head(path)
    except NotFoundError:
        return False
    return True
