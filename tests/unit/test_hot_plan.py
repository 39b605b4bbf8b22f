"""Which tasks of a workflow read which."""

from __future__ import annotations

import pytest

from datalayer import InvalidKeyError, TaskKey
from datalayer.hot.plan import ReadPlan

RUN = "20130101T000000Z"


def key(task: str, map_index: int | None = None) -> TaskKey:
    return TaskKey("team", "dag", task, RUN, map_index)


def test_a_plan_is_read_from_both_ends() -> None:
    plan = ReadPlan(
        {
            key("delays"): [key("extract"), key("weather"), key("extract")],
            key("report", 1): [key("delays")],
            str(key("report", 2)): [str(key("delays"))],
        }
    )
    assert plan.readers(key("extract")) == (key("delays"),)
    assert plan.readers(str(key("delays"))) == (key("report", 1), key("report", 2))
    assert plan.readers(key("report", 1)) == ()
    assert plan.inputs(key("delays")) == (key("extract"), key("weather"))
    assert plan.inputs(str(key("report", 2))) == (key("delays"),)
    assert plan.inputs(key("extract")) == ()


def test_what_cannot_be() -> None:
    with pytest.raises(InvalidKeyError, match="is said to read its own outputs"):
        ReadPlan({key("a"): [key("a")]})
    with pytest.raises(InvalidKeyError, match="is not an address"):
        ReadPlan({"a": []})
