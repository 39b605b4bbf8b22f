"""The workloads by name, one module each."""

from __future__ import annotations

from benchmarks.workload import Workload
from benchmarks.workloads.alluxio_proxy import AlluxioProxy
from benchmarks.workloads.anchors import Anchors
from benchmarks.workloads.cold_fill import ColdFill, ColdFillStd
from benchmarks.workloads.crossovers import Crossovers
from benchmarks.workloads.p01_fan_out import FanOutRaw, FanOutStd
from benchmarks.workloads.p02_columns import WideTable
from benchmarks.workloads.p03_small_files import SmallFiles, TinyFiles
from benchmarks.workloads.p05_sequential import Sequential, SequentialStd
from benchmarks.workloads.p06_know import KnowFiles
from benchmarks.workloads.p07_commit import Commit
from benchmarks.workloads.p08_chain import ChainRaw, ChainStd
from benchmarks.workloads.p09_bounded import BoundedScan
from benchmarks.workloads.p10_first_touch import FirstTouches
from benchmarks.workloads.p11_resolve import Resolve
from benchmarks.workloads.p12_import import Import
from benchmarks.workloads.p13_safety import Safety
from benchmarks.workloads.p14_cluster import ClusterQueries
from benchmarks.workloads.p14_spark import SparkQueries
from benchmarks.workloads.p15_tail import Tail
from benchmarks.workloads.p16_small_task import SmallTask
from benchmarks.workloads.p17_cost import Cost
from benchmarks.workloads.read_256mb import Read256MB
from benchmarks.workloads.read_2000x64k import Read2000x64K
from benchmarks.workloads.scale import InternetScale
from benchmarks.workloads.spark_hot import SparkHot
from benchmarks.workloads.warm import Warm

WORKLOADS: dict[str, type[Workload]] = {
    workload.name: workload
    for workload in (
        Anchors,
        Read256MB,
        Read2000x64K,
        FanOutRaw,
        FanOutStd,
        WideTable,
        SmallFiles,
        TinyFiles,
        Sequential,
        SequentialStd,
        KnowFiles,
        Commit,
        ChainRaw,
        ChainStd,
        BoundedScan,
        FirstTouches,
        Resolve,
        Import,
        Safety,
        SparkQueries,
        ClusterQueries,
        Tail,
        SmallTask,
        Cost,
        ColdFill,
        ColdFillStd,
        Warm,
        AlluxioProxy,
        SparkHot,
        Crossovers,
        InternetScale,
    )
}
