"""``SparkRoom``: one Spark in a process of its own, in which all ways of reading take turns: a JVM for each would be most of what is measured."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.needs import accelerator
from benchmarks.origin import Door
from benchmarks.spark_arms import Arm, NodeCache, Shared
from benchmarks.tpch import QUERIES
from spark_env.session import class_path, session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Seen:
    """What one run took and found."""

    rows: list[tuple[str, ...]]
    cpu: float
    """Seconds of the JVM and of the Python that drives it."""
    peak: int
    """Bytes of both together, at most."""


class SparkRoom:
    """A Spark that runs queries in one of several ways, in a process of its own.

    Args:
        door: The way to the bucket.
        key: The task that has published the tables.
        memory: The JVM's heap.
    """

    def __init__(self, door: Door, key: str, memory: str) -> None:
        self._volume = door.efs is not None
        # Spawned, not forked: it must not inherit this process's threads.
        self._process = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self._process.submit(_open, door, key, memory).result()

    def warm_up(self, arms: Sequence[type[Arm]], queries: Sequence[str], times: int) -> None:
        """Run what will be measured, so that its classes are loaded and the JVM has compiled what is run often.

        Args:
            arms: Each runs the first query once.
            queries: Each is also run on the volume; without one, on copies.
            times: How often.
        """
        for arm in arms:
            self.prepare(arm, queries[0], warm=False)
            self.run()
        # The nearest, so that it is not the waiting that takes the time.
        nearest = Shared if self._volume else NodeCache
        for query in queries:
            for _ in range(times):
                self.prepare(nearest, query, warm=True)
                self.run()

    def prepare(self, arm: type[Arm], query: str, *, warm: bool) -> None:
        """Make ready for one run."""
        self._process.submit(_prepare, arm, query, warm).result()

    def run(self) -> Seen:
        """Run what was prepared."""
        running: Future[Seen] = self._process.submit(_run)
        return running.result()

    def close(self) -> None:
        """End Spark and its process."""
        self._process.submit(_close).result()
        self._process.shutdown()


class _Room:
    """What there is in the process."""

    def __init__(self, door: Door, key: str, memory: str) -> None:
        self.door, self.key = door, key
        self.arms: dict[tuple[type[Arm], bool], Arm] = {}
        self.spark = _spark(door, memory)
        self.jvm = psutil.Process(self.spark.sparkContext._gateway.proc.pid)  # type: ignore[union-attr]  # noqa: SLF001 - there is no public way

    def arm(self, kind: type[Arm], *, warm: bool) -> Arm:
        """Return the one of its kind."""
        found = self.arms.get((kind, warm))
        if found is None:
            found = self.arms[kind, warm] = kind(self.door, self.key, warm=warm)
        return found


_rooms: list[_Room] = []
_next: list[tuple[Arm, str]] = []


def _open(door: Door, key: str, memory: str) -> None:
    _rooms.append(_Room(door, key, memory))


def _prepare(kind: type[Arm], query: str, warm: bool) -> None:
    room = _rooms[0]
    arm = room.arm(kind, warm=warm)
    arm.prepare(room.spark, QUERIES[query])
    _next[:] = [(arm, query)]
    # Its garbage is not the next one's to carry, nor to clear away.
    jvm: Any = room.spark._jvm  # noqa: SLF001 - there is no public way
    jvm.java.lang.System.gc()


def _run() -> Seen:
    room = _rooms[0]
    ((arm, query),) = _next
    pids = [room.jvm.pid, psutil.Process().pid]
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    before = sum(map(cpu_seconds, pids))
    rows = arm.rows(room.spark, QUERIES[query])
    return Seen(rows, sum(map(cpu_seconds, pids)) - before, sum(map(_peak, pids)))


def _close() -> None:
    room = _rooms.pop()
    for arm in room.arms.values():
        arm.close()
    room.spark.stop()


def _spark(door: Door, memory: str) -> SparkSession:
    path = [*class_path(from_alluxio=True), f"{accelerator()}/*"]
    return session(
        door.alluxio_layer(),
        **{
            "spark.master": "local[2]",
            "spark.driver.memory": memory,
            "spark.driver.extraClassPath": ":".join(path),
            "spark.log.level": "ERROR",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.session.timeZone": "UTC",
        },
    )


def cpu_seconds(pid: int) -> float:
    """Return what a process has spent, user and system."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) << 10
    raise LookupError(pid)
