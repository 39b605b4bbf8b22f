"""F3: an attempt that was given up still writes, and finishes last. Its commit is refused and the winner's data stay as they are."""

from __future__ import annotations

from datetime import timedelta

import pytest

from datalayer import CommitConflictError, DataLayer, NotPublishedError, PublishError, TaskKey
from datalayer.addresses import layout
from datalayer.commit.claims import find_claim
from datalayer.commit.publisher import Attempt
from datalayer.commit.sweep import REMOVED, Swept, sweep
from tests.behaviour.aging import Aging
from tests.behaviour.generations import publish, read_generation, stage

NOW = timedelta(0)


@pytest.fixture
def age(request: pytest.FixtureRequest) -> Aging:
    return Aging(request)


@pytest.fixture
def zombie(layer: DataLayer, key: TaskKey) -> Attempt:
    """An attempt that has staged a whole output and then fallen silent."""
    attempt = layer.publish(key)
    stage(attempt, 1)
    return attempt


def swept(layer: DataLayer, older_than: timedelta = NOW) -> list[Swept]:
    return [one for one in sweep(layer, older_than=older_than) if one.outcome == REMOVED]


def test_the_retry_commits_first(layer: DataLayer, key: TaskKey, zombie: Attempt) -> None:
    assert publish(layer, key, 2) == 2
    with pytest.raises(CommitConflictError, match="attempt 2 has committed"):
        zombie.commit()
    assert read_generation(layer, key) == 2
    # It may go on as long as it likes, past the library too.
    with pytest.raises(PublishError, match="its commit has begun"):
        zombie.output("late")
    layer.data.put(f"{layout.attempt_path(key, 1)}/late/x", b"late")
    with pytest.raises(CommitConflictError):
        zombie.commit()
    assert read_generation(layer, key) == 2


def test_the_retry_is_still_writing(layer: DataLayer, key: TaskKey, zombie: Attempt) -> None:
    with layer.publish(key) as retry:
        stage(retry, 2)
        zombie.commit()
        assert read_generation(layer, key) == 1
    assert read_generation(layer, key) == 2


def test_a_swept_attempt_cannot_commit(layer: DataLayer, key: TaskKey, zombie: Attempt) -> None:
    assert [(one.attempt, one.files) for one in swept(layer)] == [(1, 3)]
    with pytest.raises(CommitConflictError, match="abandoned"):
        zombie.commit()
    with pytest.raises(NotPublishedError):
        layer.resolve(key)
    assert publish(layer, key, 2) == 2
    assert read_generation(layer, key) == 2


def test_a_swept_attempt_that_writes_on_cannot_commit(layer: DataLayer, key: TaskKey, zombie: Attempt) -> None:
    publish(layer, key, 2)
    swept(layer)
    stage(zombie, 1)
    with pytest.raises(CommitConflictError):
        zombie.commit()
    assert read_generation(layer, key) == 2
    # What it wrote meanwhile goes with the next sweep.
    assert [(one.attempt, one.files) for one in swept(layer)] == [(1, 3)]
    assert read_generation(layer, key) == 2


def test_an_attempt_fenced_between_two_others(layer: DataLayer, key: TaskKey) -> None:
    publish(layer, key, 1)
    zombie = layer.publish(key)
    stage(zombie, 2)
    live = layer.publish(key)
    assert (zombie.number, live.number) == (2, 3)
    assert [one.attempt for one in swept(layer)] == [2]
    assert read_generation(layer, key) == 1
    stage(live, 3)
    live.commit()
    with pytest.raises(CommitConflictError):
        zombie.commit()
    assert read_generation(layer, key) == 3


def test_a_restarted_process_of_a_swept_task_instance_is_refused(layer: DataLayer, key: TaskKey) -> None:
    for generation in (1, 2):
        stage(layer.publish(key, owner=f"try-{generation}"), generation)
    assert [one.attempt for one in swept(layer)] == [1, 2]
    # The claim of the second was kept, because it is the highest: whoever finds it again must not commit under it.
    claim = find_claim(layer.home, key, "try-2")
    assert claim is not None
    again = layer.publisher().attach(key, claim)
    stage(again, 2)
    with pytest.raises(CommitConflictError):
        again.commit()
    assert publish(layer, key, 3) >= 3
    assert read_generation(layer, key) == 3
