"""The price table that the cost figures come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.prices import prices


def test_requests_cost_what_their_kind_costs() -> None:
    s3 = prices().s3
    assert s3.requests({"GET": 1000}) == pytest.approx(0.0004)
    assert s3.requests({"HEAD": 1000}) == pytest.approx(0.0004)
    assert s3.requests({"PUT": 1000, "LIST": 1000, "POST": 1000}) == pytest.approx(0.015)
    assert s3.requests({"DELETE": 10**6}) == 0


def test_bytes_and_hours_cost() -> None:
    table = prices()
    assert table.efs.moved(read=1e9, written=1e9) == pytest.approx(0.09)
    assert table.node.hours(1800, nodes=2) == pytest.approx(0.252)


def test_a_users_own_table_is_read_and_a_wrong_name_in_it_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    text = Path(__file__).parents[2].joinpath("benchmarks/prices.toml").read_text()
    own.write_text(text.replace("get_per_1000 = 0.0004", "get_per_1000 = 1.0"))
    assert prices(own).s3.requests({"GET": 1000}) == 1
    own.write_text(text.replace("get_per_1000", "get_per_1000s"))
    with pytest.raises(ValueError, match=r"own\.toml is no price table: .*get_per_1000s"):
        prices(own)
