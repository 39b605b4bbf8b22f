from __future__ import annotations

import pytest

from datalayer import InvalidKeyError, TaskKey
from datalayer.cli.addresses import key_of, parse_address

KEY = TaskKey("a", "d", "t", "20130101T000000Z")
MAPPED = TaskKey("a", "d", "t", "20130101T000000Z", 3)


@pytest.mark.parametrize(
    ("text", "key", "attempt", "rest"),
    [
        ("a/d/t@2013-01-01", KEY, None, ()),
        ("/a/d/t@2013-01-01T01:00+01:00", KEY, None, ()),
        ("a/d/t@20130101T000000Z", KEY, None, ()),
        ("a/d/t@2013-01-01[3]", MAPPED, None, ()),
        ("a/d/t@2013-01-01/default/x@y/z", KEY, None, ("default", "x@y", "z")),
        ("a/d/t@2013-01-01[3]/default", MAPPED, None, ("default",)),
        ("/a/d/t/20130101T000000Z", KEY, None, ()),
        ("/a/d/t/20130101T000000Z@2", KEY, 2, ()),
        ("/a/d/t/20130101T000000Z/map_index-3@2/default/x", MAPPED, 2, ("default", "x")),
        ("task://a/d/t/20130101T000000Z@2/default/x", KEY, 2, ("default", "x")),
        ("a/d/t@run_id-m!20x", TaskKey("a", "d", "t", "run_id-m!20x"), None, ()),
    ],
)
def test_every_way_to_write_one(text: str, key: TaskKey, attempt: int | None, rest: tuple[str, ...]) -> None:
    asked = parse_address(text)
    assert (asked.key, asked.attempt, asked.rest) == (key, attempt, rest)


@pytest.mark.parametrize("text", ["", "a", "a/d", "/a/d/t/", "a/d/t@latest", "a/d/t/latest/default"])
def test_what_names_no_single_run(text: str) -> None:
    assert parse_address(text).run in {None, "latest"}
    with pytest.raises(InvalidKeyError, match="names no task instance"):
        key_of(text)


@pytest.mark.parametrize("text", ["a/d/t/20130101T000000Z@2", "a/d/t@2013-01-01/default"])
def test_what_is_more_than_a_key(text: str) -> None:
    with pytest.raises(InvalidKeyError, match="names no task instance"):
        key_of(text)


@pytest.mark.parametrize("text", ["a b", "a/d/t@", "a/d/t@yesterday", "a/d@2013-01-01", "a@b", "a/d/t@2013-01-01[x]"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidKeyError):
        parse_address(text)


def test_a_pin_in_the_short_form_names_the_full_one() -> None:
    with pytest.raises(InvalidKeyError, match="/team/dag_id/task_id/RUN@ATTEMPT"):
        parse_address("a/d/t@2013-01-01@2")
