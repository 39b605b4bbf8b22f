"""P14 on a cluster: the same queries by a driver and two executors in pods of a real Kubernetes, on each design, cold and warm.

Ours: in place on S3, before an *emulated* one, on a volume that all pods share, and ``hot-cold`` with Alluxio. Against: the POC, whose driver
downloads the tables to that volume, by boto3's transfer manager, as executors in other pods see no folder of the driver's own. The volume is this
machine's disk, and no emulated EFS: a mount of this machine is not the node's.

Cold means: the driver's connections to S3 are new, the volume's pages dropped, Alluxio asked for a key that nobody has read. Warm means: the same
once more. CPU is that of the pods; memory is not measured.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from benchmarks.contender import Contender, Sink
from benchmarks.front import STD
from benchmarks.needs import Needs
from benchmarks.origin import Door
from benchmarks.page_cache import drop_files
from benchmarks.reading import RUN
from benchmarks.results import Figure, Timing, same, speed_against
from benchmarks.spark_cluster import EXECUTORS, ClusterSpark
from benchmarks.tpch import Q1, Q3, Q6, Q9, TABLES, Query, tables
from benchmarks.workload import Scale, Workload
from datalayer import Config, DataLayer, TaskKey
from tests.services.kubernetes.client import Team, local_cluster
from tests.services.kubernetes.programs import why_no_cluster
from tests.services.kubernetes.site import Site

COLD, WARM, ALWAYS = "cold", "warm", "each time"
POC, DIRECT, SHARED, ALLUXIO = "s3-poc, boto3 transfer", "s3-direct", "shared-fs, the node's disk", "hot-cold, Alluxio"
_WAYS = (
    (POC, ALWAYS),
    (DIRECT, COLD),
    (DIRECT, WARM),
    (SHARED, COLD),
    (SHARED, WARM),
    (ALLUXIO, COLD),
    (ALLUXIO, WARM),
)
_SETTINGS = {
    POC: "the tables' files, 8 at once, boto3's download_file, pool 128; then spark.read.parquet of the shared volume, nothing verified",
    DIRECT: "spark_env.read of s3a://, vectored reads, page checksums verified, pool 500",
    SHARED: "spark_env.read of file:// on a volume that all pods share, page checksums verified",
    ALLUXIO: "spark_env.read of alluxio://, page checksums verified",
}
_KEY = TaskKey("bench", "tpch", "tables", RUN)


class _Running:
    """What all ways share: the Spark of a run, started when it is first asked for, as by then it is known through which door it goes."""

    def __init__(self, team: Team, queries: Sequence[Query]) -> None:
        self.team, self._queries = team, queries
        self._spark: ClusterSpark | None = None

    @property
    def spark(self) -> ClusterSpark:
        """The Spark, once it is started."""
        if self._spark is None:
            raise LookupError("start() comes before")
        return self._spark

    def start(self, door: Door) -> None:
        """Start it where it does not run, and run what will be measured, so that the JVMs know it.

        Args:
            door: As pods reach it.
        """
        if self._spark is None:
            self.door = door
            self._spark = ClusterSpark(self.team, self.config(ALLUXIO))
            # The nearest for each query: it is not the waiting that is to take the time.
            ways = [
                (POC, ALWAYS, self._queries[0]),
                (DIRECT, COLD, self._queries[0]),
                (ALLUXIO, WARM, self._queries[0]),
            ]
            for design, state, query in (*ways, *((SHARED, WARM, query) for query in self._queries)):
                one = _Run(self, design, state, query)
                one.open(door)
                one.prepare()
                one.run(Sink())

    def config(self, design: str) -> Config:
        """Return the configuration of a way."""
        if design == ALLUXIO:
            alluxio = self.door.required_alluxio
            return self.door.config(design="hot-cold", hot={"url": alluxio.url, "proxy": alluxio.proxy, "timeout": 60})
        if design == SHARED:
            return self.door.config(design="shared-fs", tiers={"shared": {"url": str(self.team.shared)}})
        return self.door.config()


class _Run(Contender):
    """One query, one way."""

    here = True
    in_children = True

    def __init__(self, running: _Running, design: str, state: str, query: Query) -> None:
        self.running, self.design, self.state, self.query = running, design, state, query
        self.name = name(query, design, state)
        self.group = query.name
        self.settings = f"{_SETTINGS[design]}; {EXECUTORS} executors of 1 core and 1 GiB"

    def open(self, door: Door) -> None:
        self.running.start(door)
        self.config = self.running.config(self.design)
        self.layer = DataLayer(self.config)

    def prepare(self) -> None:
        key = _KEY
        resolution = self.layer.resolve(_KEY)
        if self.design == SHARED and self.state == COLD:
            outputs = [resolution[table] for table in self.query.tables]
            drop_files(path for one in outputs for file in one.files if (path := one.local_path(file)))
        if self.design == ALLUXIO and self.state == COLD:
            key = self._new_key()
        if self.design == ALLUXIO and self.state == WARM:
            self.layer.hot.warm(_KEY)
        files = [f"{table}/{file}" for table in self.query.tables for file in resolution[table].files]
        root = f"root{_KEY}/attempts/1"
        self.running.spark.prepare(
            config=msgspec.to_builtins(self.config),
            key=str(key),
            tables=self.query.tables,
            sql=self.query.sql,
            cold=self.state != WARM and self.design != SHARED,
            downloads={f"{root}/{file}": file for file in files} if self.design == POC else {},
            bucket=self.running.door.bucket,
            volume=str(self.running.team.shared),
        )
        self.before = self.running.spark.cpu()

    def _new_key(self) -> TaskKey:
        """Publish the same files under a key that nobody has read: Alluxio does not drop at once what a JVM has lately read."""
        direct = self.running.door.layer()
        key = TaskKey("bench", "tpch", f"cold-{uuid.uuid4().hex}", RUN)
        found = direct.resolve(_KEY)
        with direct.publish(key) as attempt:
            for table in self.query.tables:
                for file in found[table].files:
                    attempt.output(table).put(file, found[table].read_bytes(file))
        return key

    def run(self, sink: Sink) -> None:
        self.rows = self.running.spark.run()
        self.children_cpu = self.running.spark.cpu() - self.before

    def check(self, sink: Sink) -> None:
        for row in self.rows:
            sink.take(("|".join(row) + "\n").encode())


class ClusterQueries(Workload):
    """Spark in pods: in place, and after a download."""

    name = "p14-cluster"
    row = "P14"
    measures = (
        "TPC-H Q6, Q1, Q3, Q9 by Spark in pods of a Kubernetes on this machine, before an emulated S3 (full: scale factor 0.1; bench: 0.05); "
        "only at full, or when it is named"
    )
    limits = STD
    alluxio = True
    cluster = True
    counted_apart = False
    only_full = True

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.factor = scale.pick(full=0.1, bench=0.05, quick=0.01, tiny=0.01)
        self.queries = scale.pick(full=(Q6, Q1, Q3, Q9), bench=(Q6, Q1, Q3, Q9), quick=(Q6, Q1), tiny=(Q6,))

    def why_not_here(self) -> str:
        return why_no_cluster() or ""

    def needs(self) -> Needs:
        # Docker's client takes half a second to load, which every contender of any workload would spend.
        from tests.services.kubernetes.images import build_images

        own = {"the image spark": lambda: build_images(["spark"]), f"tpch-{self.factor:g}": lambda: tables(self.factor)}
        return {**super().needs(), **own}

    @contextlib.contextmanager
    def place(self) -> Iterator[str]:
        from tests.services.kubernetes.cluster import used
        from tests.services.kubernetes.images import load_images

        site = Site()
        with used(site):
            load_images(site, ["spark"])
            with local_cluster(site).team("bench") as self.team:
                yield site.host_address

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=3, bench=2, quick=1, tiny=1)

    def prepare(self, door: Door) -> None:
        folder = tables(self.factor)
        shared = door.config(design="shared-fs", tiers={"shared": {"url": str(self.team.shared)}})
        for layer in (door.layer(), DataLayer(shared)):
            with layer.publish(_KEY) as attempt:
                for table in TABLES:
                    attempt.output(table).put_folder(folder / table)
        self._running = _Running(self.team, self.queries)

    def contenders(self) -> Sequence[Contender]:
        return [_Run(self._running, design, state, query) for query in self.queries for design, state in _WAYS]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        found = []
        for query in self.queries:
            poc = timings[name(query, POC, ALWAYS)]
            for design in (DIRECT, SHARED, ALLUXIO):
                ours = timings[name(query, design, COLD)]
                found.append(
                    Figure(
                        name=f"{ours.name}: speed against the download ({poc.name})",
                        value=speed_against(ours, poc),
                        unit="×",
                        at_least=1.0 if design == DIRECT else None,
                        emulated=True,
                        note=_NOTE if design == DIRECT else "",
                    )
                )
            direct, hot = timings[name(query, DIRECT, COLD)], timings[name(query, ALLUXIO, WARM)]
            found += [
                Figure(
                    name=f"{query.name} on the cluster: bytes from S3, the download's over s3-direct's",
                    value=same(poc.bytes_down / direct.bytes_down),
                    unit="×",
                    at_least=1.0,
                    emulated=True,
                ),
                Figure(
                    name=f"{hot.name}: speed against s3-direct, cold",
                    value=speed_against(hot, direct),
                    unit="×",
                    at_least=1.0,
                    emulated=True,
                ),
            ]
        found.append(
            Figure(
                name="results on the cluster that differ from another design's",
                value=same(
                    len({(one.group, timings[one.name].checksum) for one in self.contenders()}) - len(self.queries)
                ),
                unit="results",
                at_most=0,
                ceiling="0",
            )
        )
        return found


_NOTE = (
    "Tables of a few MB are sooner there whole than a chain of round trips takes for each file, at several times the bytes; in place wins as "
    "files grow."
)


def name(query: Query, design: str, state: str) -> str:
    """Return the name of one query run one way."""
    return f"{query.name} on the cluster: {design}, {state}"
