"""Ids to path components and back: exact, injective, and never out of the folder."""

import posixpath
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datalayer.addresses.encoding import MAX_COMPONENT_BYTES, decode_component, encode_component
from datalayer.errors import InvalidKeyError

HOSTILE = [
    ".",
    "..",
    "...",
    "/",
    "../..",
    "%2e%2e",
    "%2f",
    "a/b",
    "a\\b",
    "a\x00b",
    "name\n",
    "é",
    unicodedata.normalize("NFD", "é"),
    "trailing  ",
    " ",
    "a=b",
    "!2e",
    "!",
    "~",
    "C:",
    "map_index-1",
    "latest",
    "👩‍✈️",
]

any_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60) | st.sampled_from(HOSTILE)


@settings(max_examples=2000)
@given(any_text)
@example("..")
@example("a\x00b")
def test_an_id_round_trips_or_is_refused_for_its_length(text: str) -> None:
    if len(text.encode()) * 3 > MAX_COMPONENT_BYTES:
        return  # Whether it fits depends on what it holds; what does not fit has a test of its own.
    component = encode_component(text)
    assert decode_component(component) == text
    assert component.isascii()
    assert component.isprintable()


@settings(max_examples=1000)
@given(any_text)
def test_a_component_stays_where_it_is_put(text: str) -> None:
    try:
        component = encode_component(text)
    except InvalidKeyError:
        return
    assert posixpath.normpath(f"/root/{component}") == f"/root/{component}"
    assert not set(component) & set("/\\=%:+?#*\x00 ")


@settings(max_examples=2000)
@given(any_text, any_text)
@example("é", unicodedata.normalize("NFD", "é"))
@example(".", "!2e")
@example("!", "!21")
def test_two_ids_never_share_a_component(one: str, other: str) -> None:
    try:
        same = encode_component(one) == encode_component(other)
    except InvalidKeyError:
        return
    assert same == (one == other)


@settings(max_examples=1000)
@given(st.text(alphabet="abz.!02eEfg9_-/%", min_size=1, max_size=12))
def test_whatever_decodes_is_the_one_spelling_of_its_id(component: str) -> None:
    try:
        text = decode_component(component)
    except InvalidKeyError:
        return
    assert encode_component(text) == component


@pytest.mark.parametrize("component", ["", ".", "..", "!2E", "!61", "a/b", "!", "!f", "!ff", "a b", "é", "!ed!a0!80"])
def test_a_spelling_that_encoding_never_gives_is_refused(component: str) -> None:
    with pytest.raises(InvalidKeyError):
        decode_component(component)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InvalidKeyError, match="dag_id is empty"):
        encode_component("", "dag_id")
    with pytest.raises(InvalidKeyError, match="lone surrogate"):
        encode_component("\ud800")
    with pytest.raises(InvalidKeyError, match="3000 bytes once encoded; the limit is 255"):
        encode_component("\U0001f6eb" * 250)
    with pytest.raises(InvalidKeyError, match="must be text, not int"):
        encode_component(7)  # type: ignore[arg-type]  # the wrong type is what is tested
