"""An engine that runs within a task's block learns how it ends, before anything is committed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from datalayer import NotPublishedError
from datalayer.errors import StoreUnavailableError
from datalayer.handoff.task import Task, open_task
from tests.handoff.conftest import Bench


@pytest.fixture
def task(volume: Bench, tmp_path: Path) -> Task:
    path = tmp_path / "context.json"
    path.write_bytes(volume.context().encode())
    return open_task(layer=volume.layer, environ={"DATALAYER_CONTEXT": str(path)})


@contextlib.contextmanager
def engine(seen: list[str]) -> Iterator[None]:
    try:
        yield
    except ZeroDivisionError as error:
        seen.append("failed")
        raise StoreUnavailableError("the cache was gone") from error
    else:
        seen.append("ended")


def test_it_is_left_before_the_commit(volume: Bench, task: Task) -> None:
    seen: list[str] = []

    @contextlib.contextmanager
    def looking() -> Iterator[None]:
        yield
        with pytest.raises(NotPublishedError):
            volume.files()
        seen.append("looked")

    with task:
        task.during(engine(seen))
        task.during(looking())
        task.output().put("x", b"x")
    assert seen == ["looked", "ended"]
    assert volume.files() == {"x": b"x"}


def test_what_it_raises_takes_the_place_of_the_exception_and_nothing_is_committed(volume: Bench, task: Task) -> None:
    seen: list[str] = []
    with pytest.raises(StoreUnavailableError, match="the cache was gone") as caught, task:
        task.during(engine(seen))
        task.output().put("x", b"x")
        1 / 0  # noqa: B018  # an exception is all it is for
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert seen == ["failed"]
    assert volume.staged() == []


def test_what_it_raises_after_a_good_end_keeps_the_task_from_committing(volume: Bench, task: Task) -> None:
    @contextlib.contextmanager
    def failing() -> Iterator[None]:
        yield
        raise OSError("too late")

    with pytest.raises(OSError, match="too late"), task:
        task.during(failing())
        task.output().put("x", b"x")
    with pytest.raises(NotPublishedError):
        volume.files()
