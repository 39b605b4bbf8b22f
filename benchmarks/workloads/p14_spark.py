"""P14: four queries of TPC-H by one Spark, on each design, cold and warm, before an *emulated* S3 and EFS.

Ours: in place on S3 (S3A as ``spark_env`` sets it), on the emulated EFS, and ``hot-cold`` with Alluxio and with a cache folder. Against: the POC,
which downloads the tables that a query needs and reads the files, as a serial loop and by boto3's transfer manager; S3A as it comes; and S3A with
Amazon's analytics accelerator. Goals: in place beats download-then-read in time and bytes; a warm hot tier is at least as fast as the best cold
S3A; all results equal, row for row.

One JVM serves all of them in turns, the queries warmed up in it beforehand, so that neither its start nor its compiler is what is compared. A run
is resolve, open and collect. Cold means: no copies, S3A's file system made anew without a connection, pages of EFS's files dropped. Warm means:
the same once more, with copies, connections and pages as they are; both hot tiers hold all of the tables then. CPU and memory are the JVM's and
of the Python that drives it, not of Alluxio's servers; the JVM's garbage is collected before each run, and most of the memory is its heap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks import efs
from benchmarks.contender import Contender, Sink
from benchmarks.front import STD
from benchmarks.needs import SPARK, Needs
from benchmarks.origin import Door
from benchmarks.reading import RUN
from benchmarks.results import Figure, Sample, Spread, Timing, fastest, paired, same, speed_against
from benchmarks.spark_arms import (
    S3A,
    Alluxio,
    AnalyticsS3A,
    Arm,
    Downloaded,
    NodeCache,
    OurAnalyticsS3A,
    Shared,
    StockS3A,
    Transferred,
)
from benchmarks.spark_room import SparkRoom
from benchmarks.tpch import Q1, Q3, Q6, Q9, TABLES, Query, tables
from benchmarks.workload import Scale, Workload
from datalayer import TaskKey

COLD, WARM, ALWAYS = "cold", "warm", "each time"
_POC: tuple[type[Arm], ...] = (Transferred, Downloaded)
_ARMS: tuple[tuple[type[Arm], str], ...] = (
    (Transferred, ALWAYS),
    (Downloaded, ALWAYS),
    (Shared, COLD),
    (Shared, WARM),
    (Alluxio, COLD),
    (Alluxio, WARM),
    (NodeCache, COLD),
    (NodeCache, WARM),
    (S3A, COLD),
    (S3A, WARM),
    (StockS3A, COLD),
    (AnalyticsS3A, COLD),
    (AnalyticsS3A, WARM),
    (OurAnalyticsS3A, COLD),
)
# A design that holds nothing is no other one when it is warm; that of the accelerator is told at full length.
_NOT_AT_BENCH = {(S3A, WARM), (AnalyticsS3A, WARM)}
_QUICK = {
    (Transferred, ALWAYS),
    (Shared, COLD),
    (Alluxio, WARM),
    (NodeCache, WARM),
    (S3A, COLD),
}
_IN_PLACE: tuple[tuple[type[Arm], str], ...] = ((S3A, COLD), (Shared, COLD), (Alluxio, COLD), (NodeCache, COLD))
_HOT: tuple[type[Arm], ...] = (Alluxio, NodeCache)
_COLD_S3A: tuple[type[Arm], ...] = (S3A, StockS3A, AnalyticsS3A)


class _Run(Contender):
    """One query, one way."""

    here = True
    in_children = True

    def __init__(self, spark: SparkHere, arm: type[Arm], state: str, query: Query) -> None:
        self.spark, self.arm, self.state, self.query = spark, arm, state, query
        self.name = name(query.name, arm, state)
        self.group = query.name
        self.settings = arm.settings

    def open(self, door: Door) -> None:
        self.room = self.spark.room(door)

    def prepare(self) -> None:
        self.room.prepare(self.arm, self.query.name, warm=self.state == WARM)

    def run(self, sink: Sink) -> None:
        self.found = self.room.run()
        self.children_cpu, self.children_peak = self.found.cpu, self.found.peak

    def check(self, sink: Sink) -> None:
        for row in self.found.rows:
            sink.take(("|".join(row) + "\n").encode())


class SparkHere:
    """The Spark of a run, started when it is first asked for: by then it is known through which door it goes."""

    def __init__(
        self, key: TaskKey, memory: str, arms: Sequence[type[Arm]], queries: Sequence[Query], warm_ups: int
    ) -> None:
        self._key, self._memory, self._arms, self._queries, self._warm_ups = key, memory, arms, queries, warm_ups
        self._running: SparkRoom | None = None

    def room(self, door: Door) -> SparkRoom:
        """Return it."""
        if self._running is None:
            self._running = SparkRoom(door, str(self._key), self._memory)
            self._running.warm_up(self._arms, [query.name for query in self._queries], self._warm_ups)
        return self._running

    def close(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.close()
            self._running = None


class SparkQueries(Workload):
    """Spark in place, and after a download."""

    name = "p14"
    row = "P14"
    measures = "TPC-H Q6, Q1, Q3, Q9 by Spark, local[2], before an emulated S3 and EFS (full: scale factor 1; bench: 0.1; quick: 0.05, Q6 and Q1)"
    limits = STD
    alluxio = True
    counted_apart = False

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.spark: SparkHere | None = None
        self.left_out = efs.why_not()
        self.efs = not self.left_out
        self.factor = scale.pick(full=1.0, bench=0.1, quick=0.05, tiny=0.01)

    def needs(self) -> Needs:
        return {**super().needs(), **SPARK, f"tpch-{self.factor:g}": lambda: tables(self.factor)}

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=5, bench=2, quick=1, tiny=1)

    @property
    def queries(self) -> tuple[Query, ...]:
        """Those that are run."""
        return self.scale.pick(full=(Q6, Q1, Q3, Q9), bench=(Q6, Q1, Q3, Q9), quick=(Q6, Q1), tiny=(Q6, Q9))

    @property
    def tables(self) -> list[str]:
        """Those that the queries read."""
        return [table for table in TABLES if any(table in query.tables for query in self.queries)]

    @property
    def arms(self) -> list[tuple[type[Arm], str]]:
        """The ways, each with its state."""
        here = [arm for arm in _ARMS if arm[0] is not Shared or not self.left_out]
        if self.scale is Scale.QUICK:
            return [arm for arm in here if arm in _QUICK]
        return [arm for arm in here if self.scale is not Scale.BENCH or arm not in _NOT_AT_BENCH]

    def prepare(self, door: Door) -> None:
        folder = tables(self.factor)
        key = TaskKey("bench", "tpch", "tables", RUN)
        self.sizes: dict[str, int] = {}
        for layer in (door.layer(), *(() if self.left_out else (door.efs_layer(),))):
            with layer.publish(key) as attempt:
                for table in self.tables:
                    attempt.output(table).put_folder(folder / table)
            resolution = layer.resolve(key)
            self.sizes = {table: resolution[table].output.bytes for table in self.tables}
        kinds = list(dict.fromkeys(arm for arm, _ in self.arms))
        memory = self.scale.pick(full="4g", bench="2g", quick="1g", tiny="1g")
        warm_ups = self.scale.pick(full=5, bench=2, quick=1, tiny=0)
        self.spark = SparkHere(key, memory, kinds if warm_ups else [], self.queries, warm_ups)

    def contenders(self) -> Sequence[Contender]:
        if self.spark is None:
            raise RuntimeError("prepare() comes before contenders()")
        return [_Run(self.spark, arm, state, query) for query in self.queries for arm, state in self.arms]

    def close(self) -> None:
        if self.spark is not None:
            self.spark.close()

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        found = []
        for query in self.queries:
            found += self._against_download(query, timings)
            found += self._hot_against_cold(query, timings)
        return found + self._together(timings)

    def _against_download(self, query: Query, timings: Mapping[str, Timing]) -> list[Figure]:
        poc = fastest(timings, [name(query.name, arm, ALWAYS) for arm in _POC if (arm, ALWAYS) in self.arms])
        ours = timings[name(query.name, S3A, COLD)]
        return [
            Figure(
                name=f"{ours.name}: speed against the best download ({poc.name})",
                value=speed_against(ours, poc),
                unit="×",
                at_least=1.0,
                emulated=True,
            ),
            Figure(
                name=f"{query.name}: bytes from S3, the download's over s3-direct's",
                value=same(poc.bytes_down / ours.bytes_down),
                unit="×",
                at_least=1.0,
                emulated=True,
            ),
        ]

    def _hot_against_cold(self, query: Query, timings: Mapping[str, Timing]) -> list[Figure]:
        cold = fastest(timings, [name(query.name, arm, COLD) for arm in _COLD_S3A if (arm, COLD) in self.arms])
        size = sum(self.sizes[table] for table in query.tables)
        found = []
        for arm in _HOT:
            hot = timings[name(query.name, arm, WARM)]
            speed = speed_against(hot, cold)
            found += [
                Figure(
                    name=f"{hot.name}: speed against the best cold S3A ({cold.name})",
                    value=speed,
                    unit="×",
                    at_least=1.0,
                    emulated=True,
                    note=_HOT_NOTE if arm is Alluxio and speed.median < 1 else "",
                ),
                Figure(
                    name=f"{hot.name}: bytes from the origin over the tables",
                    value=same(hot.bytes_down / size),
                    unit="×",
                    at_most=0.01,
                    ceiling="0",
                    emulated=True,
                ),
            ]
        return found

    def _together(self, timings: Mapping[str, Timing]) -> list[Figure]:
        """Return figures for all queries together."""
        totals = {arm: self._total(timings, *arm) for arm in self.arms}
        poc = min((totals[arm] for arm in self.arms if arm[1] == ALWAYS), key=lambda timing: timing.wall.median)
        found = [
            Figure(
                name=f"all queries, {totals[arm].name}: speed against the best download",
                value=speed_against(totals[arm], poc),
                unit="×",
                at_least=1.0,
                emulated=True,
                note=_COLD_NOTES.get(arm[0], ""),
            )
            for arm in _IN_PLACE
            if arm in totals
        ]
        ours = totals[S3A, COLD]
        for rival in (StockS3A, AnalyticsS3A, OurAnalyticsS3A):
            if (rival, COLD) in totals:
                found += [
                    Figure(
                        name=f"all queries, s3-direct: speed against {rival.name}, both cold",
                        value=speed_against(ours, totals[rival, COLD]),
                        unit="×",
                        emulated=True,
                    ),
                    Figure(
                        name=f"all queries, s3-direct: requests against {rival.name}, both cold",
                        value=same(ours.request_count / totals[rival, COLD].request_count),
                        unit="×",
                        emulated=True,
                    ),
                ]
        found += [
            Figure(
                name=f"all queries, {totals[arm, WARM].name}: CPU seconds against s3-direct, cold",
                value=paired(totals[arm, WARM], ours, lambda mine, theirs: mine.cpu / theirs.cpu),
                unit="×",
                emulated=True,
            )
            for arm in _HOT
        ]
        if self.left_out:
            found.append(Figure(name="left out: shared-fs, EFS", value=same(1), unit="", note=self.left_out))
        wrong = len({(one.group, timings[one.name].checksum) for one in self.contenders()}) - len(self.queries)
        found.append(
            Figure(
                name="results that differ from another design's, row for row",
                value=Spread(wrong, wrong, wrong),
                unit="results",
                at_most=0,
                ceiling="0",
            )
        )
        return found

    def _total(self, timings: Mapping[str, Timing], arm: type[Arm], state: str) -> Timing:
        each = [timings[name(query.name, arm, state)] for query in self.queries]
        rounds = zip(*(timing.samples for timing in each), strict=True)
        return Timing(
            name=f"{arm.name}, {state}",
            settings=arm.settings,
            samples=[Sample(sum(one.wall for one in all_), sum(one.cpu for one in all_)) for all_ in rounds],
            requests={"all": sum(timing.request_count for timing in each)},
            bytes_down=sum(timing.bytes_down for timing in each),
        )


_COLD_NOTES: dict[type[Arm], str] = {
    S3A: (
        "What is read in place takes a chain of seven round trips, each 30 ms and more: the manifest, the footer's length and the footer for the "
        "columns' names, what a file is, its footer's length, its footer, its columns; a download takes two. So tables of a few MB are sooner there "
        "whole, at several times the bytes: five round trips are 0.2 s, in which 250 MB/s bring 50 MB. In place wins as tables grow beyond "
        "that. Next: names and footers from the manifest, which would leave two."
    ),
    Alluxio: (
        "It fetches a file by itself when it is first asked, block by block, and looks at S3 before. Next: warm it, as the design foresees."
    ),
    NodeCache: "It downloads too, and verifies: the copies are whole before Spark sees them. It is for the next reader.",
}


_HOT_NOTE = (
    "No data comes from S3, but before Spark is sent to Alluxio that compares each table's folder with S3, once in 30 s: one or two HEADs and LISTs, "
    "one after the other, as long as the chain of a small table read in place; each table of a query at the same time. Next: a LIST alone."
)


def name(query: str, arm: type[Arm], state: str) -> str:
    """Return the name of one query run one way."""
    return f"{query}: {arm.name}, {state}"
