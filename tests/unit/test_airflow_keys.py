"""Addresses of running tasks: ids of any kind, dates in any time zone, runs without a date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ops.keys import run_of, task_key
from airflow_ops.teams import team_of_file
from datalayer import ConfigError, InvalidKeyError, RunId, TaskKey

# What Airflow 3.3 takes as an id, and more.
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(
    ["..", ".", "a\n", "a/b", "ü", "a=b"]
)
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
dates = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=zones)  # noqa: DTZ001  # bounds


def running(
    dag_id: str = "flights",
    task_id: str = "extract",
    *,
    date: datetime | None = datetime(2026, 11, 23, 8, tzinfo=UTC),
    run_id: str = "manual__1",
    map_index: int | None = -1,
    team: str | None = "aviation",
) -> Any:
    """What of Airflow's context is read."""
    return {
        "ti": SimpleNamespace(dag_id=dag_id, task_id=task_id, map_index=map_index),
        "dag_run": SimpleNamespace(logical_date=date, run_id=run_id, team_name=team),
        "dag": SimpleNamespace(dag_id=dag_id, relative_fileloc="flights.py"),
    }


@given(dag_id=ids, task_id=ids, team=ids, date=dates, map_index=st.integers(-1, 10_000))
def test_an_address_says_who_when_and_which(
    dag_id: str, task_id: str, team: str, date: datetime, map_index: int
) -> None:
    key = task_key(running(dag_id, task_id, team=team, date=date, map_index=map_index))
    assert (key.team, key.dag_id, key.task_id) == (team, dag_id, task_id)
    assert key.logical_date == date
    assert key.map_index == (None if map_index < 0 else map_index)
    assert TaskKey.parse(str(key)) == key


@given(first=dates, zone=zones)
def test_one_moment_has_one_address_in_every_time_zone(first: datetime, zone: timezone) -> None:
    assert task_key(running(date=first)) == task_key(running(date=first.astimezone(zone)))


@given(run_id=ids)
def test_a_run_without_a_logical_date_is_its_run_id(run_id: str) -> None:
    key = task_key(running(date=None, run_id=run_id))
    assert key == TaskKey("aviation", "flights", "extract", RunId(run_id))
    assert key.logical_date is None


def test_a_run_id_cannot_pose_as_a_date() -> None:
    dated = task_key(running())
    posing = task_key(running(date=None, run_id=dated.run))
    assert posing != dated


def test_a_run_of_pendulum_is_taken() -> None:
    import pendulum

    date = pendulum.datetime(2026, 11, 23, 9, tz="Europe/Berlin")
    assert run_of(SimpleNamespace(logical_date=date, run_id="x")) == "20261123T080000Z"


def test_an_id_that_no_address_can_hold_is_refused() -> None:
    with pytest.raises(InvalidKeyError, match="takes 300 bytes"):
        task_key(running("x" * 300))


@pytest.mark.parametrize(
    ("path", "team"), [("aviation/flights.py", "aviation"), ("aviation/daily/flights.py", "aviation")]
)
def test_the_first_folder_of_the_dag_file_is_the_team(path: str, team: str) -> None:
    assert team_of_file(path, "flights") == team


@pytest.mark.parametrize("path", ["flights.py", None, "/srv/dags/flights.py", "../dags/flights.py"])
def test_without_a_folder_the_setting_names_the_team(path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATALAYER__TEAM", "weather")
    assert team_of_file(path, "flights") == "weather"


def test_the_run_names_the_team_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATALAYER__TEAM", "weather")
    context = running(team="marine")
    cast("Any", context["dag"]).relative_fileloc = "aviation/flights.py"
    assert task_key(context).team == "marine"


def test_where_nothing_names_a_team_the_error_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"the DAG 'flights': set \[datalayer\] team"):
        team_of_file("flights.py", "flights")
