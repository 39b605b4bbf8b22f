"""Locations and the layout below a root."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalayer import InvalidKeyError, Location, TaskKey
from datalayer.addresses import layout


def test_a_location_parses_joins_and_prints() -> None:
    root = Location.parse("s3://bucket/a/prefix/")
    assert str(root.join("x/y", "z=1 %2e.parquet")) == "s3://bucket/a/prefix/x/y/z=1 %2e.parquet"
    assert str(Location.parse("/mnt/efs")) == "file:///mnt/efs"
    assert pickle.loads(pickle.dumps(root)) == root
    assert root.join("x").is_within(root)
    assert not Location.parse("s3://bucket/a/prefix-2/x").is_within(root)
    assert not Location.parse("s3://other/a/prefix/x").is_within(root)


@pytest.mark.parametrize(
    "text", ["", "bucket/x", "s3:/bucket", "s3://b/../x", "s3://b/a//b", "s3://b/./x", "/a/../b", "s3://b/a\nb"]
)
def test_text_that_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidKeyError):
        Location.parse(text)


@given(st.lists(st.sampled_from(["..", ".", "a", "", "b/..", "%2e%2e"]), max_size=5))
def test_joining_never_leaves_the_root(parts: list[str]) -> None:
    root = Location("s3", "bucket", "team")
    try:
        assert root.join(*parts).is_within(root)
    except InvalidKeyError:
        return


def test_the_layout_is_the_one_of_the_design() -> None:
    key = TaskKey("team", "dag", "task", "20130101T000000Z", 4)
    folder = "team/dag/task/20130101T000000Z/map_index-4"
    assert layout.head_path(key) == f"{folder}/manifest.json"
    assert layout.commit_path(key, 2) == f"{folder}/commits/2.json"
    assert layout.output_path(key, 2, "default") == f"{folder}/attempts/2/default"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        "./a",
        "a\\b",
        "a\nb",
        "a\x00",
        "a\x7f",
        "\ud800",
        "x" * 256,
        "d/" * 600 + "x",
    ],
)
def test_a_file_name_that_stores_disagree_on_is_refused(name: str) -> None:
    with pytest.raises(InvalidKeyError):
        layout.check_file_name(name)


@pytest.mark.parametrize(
    "name", ["part-0.parquet", "year=2013/part 0%.parquet", "ü/é", "a+b", "a#b?c", "_SUCCESS", "a%2e%2e", "..."]
)
def test_ordinary_file_names_are_taken_as_they_are(name: str) -> None:
    assert layout.check_file_name(name) == name
