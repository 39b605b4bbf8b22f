"""Many ranges at once, as fsspec asks for them."""

from __future__ import annotations

import pytest

from datalayer import NotFoundError
from datalayer.stores.view_ranges import read_ranges

FILES = {"a": b"0123456789", "b": b"abcdefghij"}


def cat_file(path: str, start: int | None, end: int | None) -> bytes:
    if path not in FILES:
        raise NotFoundError(f"no {path}")
    return FILES[path][start:end]


def test_each_path_has_its_range_in_order() -> None:
    assert read_ranges(cat_file, ["a", "b", "a"], [0, 4, 7], [3, 6, None], "raise") == [b"012", b"ef", b"789"]
    assert read_ranges(cat_file, ["a", "b"], 2, 4, "raise") == [b"23", b"cd"]


def test_an_error_stands_in_its_range_or_is_raised() -> None:
    first, second = read_ranges(cat_file, ["a", "none"], [0, 0], [1, 1], "return")
    assert first == b"0"
    assert isinstance(second, NotFoundError)
    with pytest.raises(NotFoundError, match="no none"):
        read_ranges(cat_file, ["a", "none"], [0, 0], [1, 1], "raise")
