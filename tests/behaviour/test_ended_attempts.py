"""What was committed never changes and is never removed, whatever is done with its attempt afterwards; what was given up never commits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from datalayer import CommitConflictError, DataLayer, NotPublishedError, PublishError, TaskKey, VerificationError
from datalayer.addresses.location import Location
from datalayer.commit.publisher import Attempt


def content(layer: DataLayer, key: TaskKey) -> dict[str, bytes]:
    """Every file of a task's output as a new reader gets it."""
    return dict(DataLayer(layer.config, stores={layer.home_tier: layer.home}).resolve(key)["default"].read_many())


def staged(layer: DataLayer, key: TaskKey, owner: str | None = None, **files: bytes) -> Attempt:
    attempt = layer.publish(key, owner=owner)
    for name, data in files.items():
        attempt.output().put(name, data)
    return attempt


def test_a_block_that_commits_and_then_raises_keeps_what_it_committed(layer: DataLayer, key: TaskKey) -> None:
    with pytest.raises(ZeroDivisionError), layer.publish(key) as attempt:
        attempt.output().put("a", b"1")
        attempt.commit()
        raise ZeroDivisionError
    attempt.abandon()
    assert content(layer, key) == {"a": b"1"}


def test_an_abandoned_attempt_cannot_commit(layer: DataLayer, key: TaskKey) -> None:
    attempt = staged(layer, key, a=b"1")
    attempt.abandon()
    with pytest.raises(PublishError, match="was abandoned, and nothing of it is left"):
        attempt.commit()
    with pytest.raises(PublishError, match="was abandoned"):
        attempt.output().put("b", b"2")
    with pytest.raises(NotPublishedError):
        layer.resolve(key)


def test_nothing_is_written_to_a_committed_attempt(layer: DataLayer, key: TaskKey) -> None:
    attempt = staged(layer, key, a=b"1")
    output = attempt.output()
    manifest = attempt.commit()
    for write in (
        lambda: output.put("a", b"2"),
        lambda: output.open("a"),
        lambda: output.adopt_folder(checksums=False),
        lambda: attempt.output("other"),
        lambda: attempt.refer("other", "cold", Location.parse("s3://bucket/a"), []),
    ):
        with pytest.raises(PublishError, match="its commit has begun"):
            write()
    assert attempt.commit() == manifest
    assert content(layer, key) == {"a": b"1"}


def test_a_file_is_written_by_one_at_a_time(layer: DataLayer, key: TaskKey) -> None:
    with layer.publish(key) as attempt:
        output = attempt.output()
        with output.open("a") as file:
            for write in (lambda: output.open("a"), lambda: output.put("a", b"2")):
                with pytest.raises(PublishError, match="'a' is being written already"):
                    write()
            file.write(b"1")
        output.put("b", b"2")
        output.put("b", b"3")
    assert content(layer, key) == {"a": b"1", "b": b"3"}


def test_what_could_not_be_committed_may_be_completed(layer: DataLayer, key: TaskKey) -> None:
    attempt = staged(layer, key, a=b"1")
    attempt.output("other")
    with pytest.raises(VerificationError, match="no file was written"):
        attempt.commit()
    attempt.output().put("b", b"2")
    attempt.output("other").put("c", b"3")
    attempt.commit()
    assert content(layer, key) == {"a": b"1", "b": b"2"}


def test_two_threads_commit_once(layer: DataLayer, key: TaskKey) -> None:
    attempt = staged(layer, key, a=b"1")
    with ThreadPoolExecutor(2) as pool:
        first, second = [pool.submit(attempt.commit) for _ in range(2)]
    assert first.result() is second.result()
    assert layer.resolve(key).manifest == first.result()


def test_two_processes_of_one_owner_where_one_gives_up(layer: DataLayer, key: TaskKey) -> None:
    goes_on = staged(layer, key, "ti-1", a=b"2")
    gives_up = layer.publisher().attach(key, goes_on.claim)
    gives_up.abandon()
    with pytest.raises(CommitConflictError, match="abandoned"):
        goes_on.commit()
    with pytest.raises(NotPublishedError):
        layer.resolve(key)
    again = staged(layer, key, "ti-1", a=b"3")
    assert again.number == 2
    again.commit()
    assert content(layer, key) == {"a": b"3"}


def test_two_processes_of_one_owner_where_one_has_committed(layer: DataLayer, key: TaskKey) -> None:
    commits = staged(layer, key, "ti-1")
    comes_late, fails = (layer.publisher().attach(key, commits.claim) for _ in range(2))
    commits.output().put("a", b"1")
    commits.commit()
    comes_late.output().put("b", b"2")
    with pytest.raises(CommitConflictError, match="another process committed something else under its number"):
        comes_late.commit()
    fails.abandon()
    assert content(layer, key) == {"a": b"1"}


def test_one_claim_commits_one_content(layer: DataLayer, key: TaskKey) -> None:
    first, second = staged(layer, key, a=b"1"), staged(layer, key, b=b"2")
    first.commit()
    same_claim = layer.publisher().attach(key, first.claim)
    same_claim.output().put("b", b"2")
    with pytest.raises(CommitConflictError, match="another process committed something else under its number"):
        same_claim.commit()
    second.commit()
    assert content(layer, key) == {"b": b"2"}
