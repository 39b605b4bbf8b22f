from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalayer import InvalidKeyError, RunId, TaskKey
from datalayer.taskfs.paths import parse_path

IDS = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable() or text)
FILES = st.lists(st.text("abc@=%!~ é.", min_size=1, max_size=8), min_size=1, max_size=3)


def addressable(text: str) -> bool:
    try:
        TaskKey(text, "d", "t", "latest" if text == "" else RunId("r"))
    except InvalidKeyError:
        return False
    return True


HOSTILE = IDS.filter(addressable)


@given(HOSTILE, HOSTILE, st.none() | st.integers(0, 10**10 - 1), st.none() | st.integers(1, 10**6), FILES)
def test_a_path_gives_back_what_it_was_made_of(
    team: str, run: str, index: int | None, attempt: int | None, file: list[str]
) -> None:
    key = TaskKey(team, "d", "t", RunId(run), index)
    text = f"{key.path}{'' if attempt is None else f'@{attempt}'}/default/{'/'.join(file)}"
    asked = parse_path(text)
    assert asked.key == key
    assert asked.attempt == attempt
    assert asked.rest == ("default", *file)


@given(HOSTILE, st.none() | st.integers(0, 99), st.integers(1, 10**6), FILES, st.integers(0, 5))
def test_names_below_an_unpinned_path_mean_the_attempt_they_were_listed_in(
    run: str, index: int | None, attempt: int, file: list[str], depth: int
) -> None:
    key = TaskKey("a", "d", "t", RunId(run), index)
    parts = ["default", *file]
    asked = parse_path("/".join([key.path, *parts[:depth]]))
    below = asked.pinned(key.run, attempt)
    assert below.startswith(asked.text)
    listed = parse_path("/".join([below, *parts[depth:]]))
    assert (listed.key, listed.attempt, listed.rest) == (key, attempt, tuple(parts))


def test_a_name_below_latest_says_which_run_it_was() -> None:
    asked = parse_path("a/d/t/latest/map_index-3/default")
    assert asked.run == "latest"
    listed = parse_path(f"{asked.pinned('20130101T000000Z', 7)}/x")
    assert (listed.key, listed.attempt) == (TaskKey("a", "d", "t", "20130101T000000Z", 3), 7)
    assert listed.rest == ("default", "x")


def test_the_pin_of_a_file_stands_before_its_name() -> None:
    asked = parse_path("a/d/t/20130101T000000Z/default/year=2013/x.csv")
    assert (
        asked.pinned_file("20130101T000000Z", 7) == "a/d/t/20130101T000000Z/default/year=2013/20130101T000000Z@7/x.csv"
    )
    pinned = parse_path("a/d/t/20130101T000000Z@7/default/x.csv")
    assert pinned.pinned_file("20130101T000000Z", 7) == pinned.text


@pytest.mark.parametrize(
    "name", ["@3", "x@3", "20130102T000000Z@3", "20130101T000000Z@0", "20130101T000000Z@", "latest@3"]
)
def test_file_names_with_an_at_are_no_pins(name: str) -> None:
    asked = parse_path(f"a/d/t/20130101T000000Z/default/{name}/x")
    assert asked.attempt is None
    assert asked.rest == ("default", name, "x")


def test_only_the_first_pin_counts() -> None:
    asked = parse_path("a/d/t/20130101T000000Z@3/default/20130101T000000Z@4/x")
    assert (asked.attempt, asked.rest) == (3, ("default", "20130101T000000Z@4", "x"))
    asked = parse_path("a/d/t/20130101T000000Z/default/20130101T000000Z@3/20130101T000000Z@4/x")
    assert (asked.attempt, asked.rest) == (3, ("default", "20130101T000000Z@4", "x"))


@pytest.mark.parametrize(
    "text",
    [
        "a b",
        "a/%2e%2e",
        "a/..",
        "a//t",
        "a/d/t/2013-01-01",
        "a/d/t/20130101T000000Z@0",
        "a/d/t/20130101T000000Z@x",
        "a/d/t/20130101T000000Z@",
        "a/d/t/latest@3",
        "a/d/t/latest@3/default",
        "a/d/t/20130101T000000Z@9999999999999999999",
        "a/d/t/é/default",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidKeyError):
        parse_path(text)


def test_the_short_form_in_a_uri_names_the_long_one() -> None:
    with pytest.raises(InvalidKeyError, match="write task://team/dag/task/RUN/output"):
        parse_path("a/d/t@2013-01-01/default")
