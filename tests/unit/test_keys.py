"""Task keys, runs and the short form."""

import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalayer import Config, DataLayer, InvalidKeyError, OutputKey, RunId, TaskKey, Tier
from datalayer.addresses.keys import parse_short
from datalayer.stores.memory import MemoryStore

DATED = "20130101T000000Z"
ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
moments = st.datetimes(timezones=st.timezones() | st.just(UTC)).filter(lambda moment: 1 < moment.year < 9999)
runs = moments | ids.map(RunId)
indexes = st.none() | st.integers(0, 10**9)


def test_the_address_is_the_one_of_the_design() -> None:
    key = TaskKey("aviation", "flights", "extract", run=DATED)
    assert str(key) == "/aviation/flights/extract/20130101T000000Z"
    assert str(TaskKey("aviation", "flights", "extract", DATED, 3)) == f"{key}/map_index-3"
    assert str(key.output()) == f"{key}/default"
    assert key.logical_date == datetime(2013, 1, 1, tzinfo=UTC)


@settings(max_examples=1000)
@given(ids, ids, ids, runs, indexes)
def test_every_key_parses_back_from_its_text(
    team: str, dag: str, task: str, run: datetime | RunId, index: int | None
) -> None:
    try:
        key = TaskKey(team, dag, task, run, index)
    except InvalidKeyError:
        return
    text = str(key)
    assert TaskKey.parse(text) == key
    assert hash(TaskKey.parse(text)) == hash(key)
    assert pickle.loads(pickle.dumps(key)) == key
    assert text.isascii()
    assert text.isprintable()
    assert (TaskKey.parse(text).team, key.dag_id, key.task_id) == (team, dag, task)


@settings(max_examples=500)
@given(ids, moments)
def test_no_run_id_can_pose_as_a_date(run_id: str, moment: datetime) -> None:
    dated = TaskKey("t", "d", "k", moment)
    try:
        undated = TaskKey("t", "d", "k", RunId(run_id))
    except InvalidKeyError:
        return
    assert undated != dated
    assert undated.logical_date is None
    assert TaskKey("t", "d", "k", RunId(dated.run)) != dated


def test_f07_the_same_moment_is_the_same_run_in_every_time_zone() -> None:
    utc = TaskKey("t", "d", "k", datetime(2013, 7, 1, 12, tzinfo=UTC))
    assert TaskKey("t", "d", "k", datetime(2013, 7, 1, 14, tzinfo=ZoneInfo("Europe/Sofia"))) != utc
    assert TaskKey("t", "d", "k", datetime(2013, 7, 1, 15, tzinfo=ZoneInfo("Europe/Sofia"))) == utc
    assert TaskKey("t", "d", "k", datetime(2013, 7, 1, 7, tzinfo=timezone(timedelta(hours=-5)))) == utc


def test_f07_the_hour_that_a_clock_change_repeats_is_two_runs() -> None:
    sofia = ZoneInfo("Europe/Sofia")
    first = TaskKey("t", "d", "k", datetime(2013, 10, 27, 3, 30, tzinfo=sofia, fold=0))
    second = TaskKey("t", "d", "k", datetime(2013, 10, 27, 3, 30, tzinfo=sofia, fold=1))
    assert first != second


def test_f07_runs_a_microsecond_apart_and_mapped_indexes_are_distinct() -> None:
    start = datetime(2013, 1, 1, tzinfo=UTC)
    keys = {TaskKey("t", "d", "k", start + timedelta(microseconds=n)) for n in range(5)}
    keys |= {TaskKey("t", "d", "k", start, index) for index in range(5)}
    assert len({str(key) for key in keys}) == 10
    assert TaskKey("t", "d", "k", start, -1) == TaskKey("t", "d", "k", start)


@pytest.mark.parametrize(
    "run",
    [
        "latest",
        "2013-01-01",
        "20130101T000000",
        "20130101T000000.000000Z",
        "20130101T000000.5Z",
        "20131301T000000Z",
        "20130101T250000Z",
        "manual__1",
        "run_id-",
        "run_id-a b",
        "",
        "\u0662\u0660\u0661\u06630101T000000Z",
        "20130101T000000Z\n",
    ],
)
def test_text_that_is_no_canonical_segment_is_refused(run: str) -> None:
    with pytest.raises(InvalidKeyError):
        TaskKey("t", "d", "k", run)


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(InvalidKeyError, match="no time zone"):
        TaskKey("t", "d", "k", datetime(2013, 1, 1))  # noqa: DTZ001  # one without a zone is what is tested


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/a/b/c",
        "a/b/c/20130101T000000Z",
        "/a/b/c/20130101T000000Z/",
        "/a//c/20130101T000000Z",
        "/a/../c/20130101T000000Z",
    ]
    + [
        f"/a/b/c/20130101T000000Z/{index}"
        for index in ("map_index-01", "map_index--1", "map_index-", "x", "map_index-1/y")
    ],
)
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidKeyError):
        TaskKey.parse(text)


def test_keys_are_immutable_and_limited() -> None:
    key = TaskKey("t", "d", "k", DATED)
    with pytest.raises(AttributeError, match="immutable"):
        key.team = "other"
    with pytest.raises(InvalidKeyError, match="limit is 1024"):
        TaskKey("t" * 255, "d" * 255, "k" * 255, RunId("r" * 248), 5)
    with pytest.raises(InvalidKeyError, match="map_index"):
        TaskKey("t", "d", "k", DATED, True)


@pytest.mark.parametrize("name", ["", "-a", "_a", "a.b", "a/b", "index", "map_index-0", "a" * 101, "é"])
def test_an_output_has_a_plain_name(name: str) -> None:
    with pytest.raises(InvalidKeyError):
        OutputKey(TaskKey("t", "d", "k", DATED), name)


def test_the_short_form_takes_what_people_write() -> None:
    assert parse_short("aviation/flights/extract@2013-01-01") == ("aviation", "flights", "extract", DATED, None)
    assert parse_short("a/b/c@2013-01-01T02:00+02:00") == ("a", "b", "c", DATED, None)
    assert parse_short("a/b/c@latest[3]") == ("a", "b", "c", "latest", 3)
    assert parse_short("a/b!20b/c@run_id-manual__1") == ("a", "b b", "c", "run_id-manual__1", None)
    for bad in ("a/b/c", "a/b@2013-01-01", "a/b/c@", "a/b/c@yesterday", "a/b/c@2013-01-01[x]"):
        with pytest.raises(InvalidKeyError):
            parse_short(bad)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a/b/c@2013-01-01@2", "layer.resolve"),
        ("/a/b/c/20130101T000000Z@2", r"TaskKey\.parse"),
        ("a/b/c@2013-01-01/default", r"layer\[address\]\[output\]"),
    ],
)
def test_more_than_the_short_form_holds_is_shown_its_place(text: str, said: str) -> None:
    with pytest.raises(InvalidKeyError, match=said):
        parse_short(text)


def test_an_address_where_a_key_belongs_is_refused_by_name() -> None:
    layer = DataLayer(Config(), stores={Tier.COLD: MemoryStore()})
    text: Any = "a/b/c@2013-01-01"
    for call in (layer.publish, layer.resolve):
        with pytest.raises(InvalidKeyError, match=r"'a/b/c@2013-01-01' is no TaskKey"):
            call(text)
