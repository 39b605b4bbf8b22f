"""What P14 compares, where a machine has no FUSE: the ways over EFS are left out, and that is said."""

from __future__ import annotations

import pytest

from benchmarks import efs
from benchmarks.needs import EFS
from benchmarks.spark_arms import Shared
from benchmarks.workload import Scale
from benchmarks.workloads.p14_spark import SparkQueries


@pytest.mark.parametrize("scale", list(Scale))
def test_without_fuse_the_ways_over_efs_are_left_out(scale: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efs, "why_not", lambda: "")
    there = SparkQueries(scale)
    assert there.efs
    assert any(arm is Shared for arm, _ in there.arms)
    monkeypatch.setattr(efs, "why_not", lambda: "no FUSE")
    here = SparkQueries(scale)
    assert not here.efs
    assert not EFS.keys() & here.needs().keys()
    assert here.arms == [arm for arm in there.arms if arm[0] is not Shared]
