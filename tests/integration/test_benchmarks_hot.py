"""The benchmarks that need Alluxio run: at a size at which no figure means anything."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from benchmarks.origin import Origin
from benchmarks.workload import Scale, measure
from benchmarks.workloads import WORKLOADS
from tests.services.alluxio import AlluxioServer
from tests.services.s3server import S3Server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


# What runs in pods is in tests/cluster.
@pytest.mark.parametrize("name", [name for name, kind in WORKLOADS.items() if kind.alluxio and not kind.cluster])
def test_a_workload_with_alluxio_runs_and_yields_its_figures(
    name: str, versitygw: S3Server, alluxio: AlluxioServer, spark: SparkSession
) -> None:
    workload = WORKLOADS[name](Scale.TINY)
    result = measure(workload, Origin(versitygw, versitygw.new_bucket("bench"), alluxio), isolated=False)
    assert result.figures
    for timing in result.timings:
        assert len(timing.samples) == workload.rounds
        assert timing.checksum
    assert all(math.isfinite(figure.value.median) for figure in result.figures)
    met = {figure.name: figure.met for figure in result.figures if "bytes from the origin" in figure.name}
    assert met
    assert False not in met.values()
