"""The workloads by name, one module each."""

from __future__ import annotations

from benchmarks.workload import Workload
from benchmarks.workloads.p05_sequential import Sequential
from benchmarks.workloads.p07_commit import Commit
from benchmarks.workloads.p11_resolve import Resolve
from benchmarks.workloads.p12_import import Import
from benchmarks.workloads.p13_safety import Safety
from benchmarks.workloads.p16_small_task import SmallTask
from benchmarks.workloads.read_256mb import Read256MB
from benchmarks.workloads.read_2000x64k import Read2000x64K

WORKLOADS: dict[str, type[Workload]] = {
    workload.name: workload
    for workload in (Read256MB, Read2000x64K, Sequential, Commit, Resolve, Import, Safety, SmallTask)
}
