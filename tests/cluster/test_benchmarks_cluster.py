"""The benchmarks that run in pods: at a size at which no figure means anything. And where no cluster can run they say why, loudly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.command import app
from benchmarks.origin import Origin
from benchmarks.running import read
from benchmarks.workload import Scale, measure
from benchmarks.workloads import WORKLOADS, p14_cluster
from tests.services.kubernetes.client import Cluster
from tests.services.s3server import S3Server


@pytest.mark.parametrize("name", [name for name, kind in WORKLOADS.items() if kind.cluster])
def test_a_workload_in_pods_runs_and_yields_its_figures(
    name: str, cluster: Cluster, spark_image: str, versitygw: S3Server
) -> None:
    if cluster.volumes is None:
        pytest.skip("it is about a cluster of this machine")
    workload = WORKLOADS[name](Scale.TINY)
    result = measure(workload, Origin(versitygw, versitygw.new_bucket("bench")))
    for timing in result.timings:
        assert len(timing.samples) == workload.rounds
        assert timing.checksum
        # The pods' own CPU is seen: a query takes some.
        assert all(sample.cpu > 0.05 for sample in timing.samples)
    assert len({timing.checksum for timing in result.timings}) == 1
    assert all(math.isfinite(figure.value.median) for figure in result.figures)
    requests = {timing.name.partition(": ")[2]: timing.request_count for timing in result.timings}
    assert requests["s3-direct, cold"]
    assert not requests["shared-fs, the node's disk, warm"]
    assert cluster.kubectl("get", "pods", "--all-namespaces", "-l", "spark-role", "-o", "name") == ""


def test_without_a_cluster_it_is_skipped_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p14_cluster, "why_no_cluster", lambda: "no root here")
    out = tmp_path / "out.json"
    ended = CliRunner().invoke(app, ["run", "p14-cluster", "--scale", "tiny", "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    assert "NOT MEASURED, this machine cannot: no root here" in ended.stderr
    assert [result.skipped for result in read(out).results] == ["no root here"]
