"""Sizes in the units that ``hot.budget`` takes."""

from __future__ import annotations

import pytest

from datalayer.addresses.keys import TaskKey
from datalayer.config import HotConfig
from datalayer.errors import StoreFullError
from datalayer.hot.budget import Budget, Held
from datalayer.hot.ledger import OutputRef
from datalayer.hot.sizes import size_text

REF = OutputRef(TaskKey("team", "dag", "task", "20130101T000000Z"), 1, "default")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1_025_576, "1.026 MB"),
        (999_949, "999.9 KB"),
        (999_960, "1 MB"),
        (10**10, "10 GB"),
        (5 * 10**18, "5000 PB"),
    ],
)
def test_a_size_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize("budget", ["500KB", "1MB", "10GB", "2.5TB"])
def test_a_budget_is_shown_as_it_was_written(budget: str) -> None:
    assert size_text(HotConfig(budget=budget).budget_bytes).replace(" ", "") == budget


@pytest.mark.parametrize(
    ("files", "words"), [(1, "what a copy takes beside its"), (2, "what 2 copies take beside their")]
)
def test_what_copies_take_beside_their_bytes(files: int, words: str) -> None:
    with pytest.raises(StoreFullError, match=words):
        Budget(5, 10).check(REF, Held(files, 1))
