"""P15: the tail. 1,000 small reads from 32 threads, hedged and not, where S3 is as always, where some of its answers stall, and in 503 storms.

Ours: reads of an output's files by the library, verified, with ``hedge`` in the connection. Against: the same without. Goal: a 99th percentile at
most a third, with at most 5 % more GETs, and no read that fails. Delays are drawn from one sequence for both.

The first goal is wrong by arithmetic for STD's delays, which are lognormal with p50 30 ms and p99 200 ms. With at most 5 % more GETs, the second
request cannot be sent before the 95th percentile, at 115 ms; so the 99th stays above that, and 200/115 is 1.7. A second answer is as slow as any
other: P(first > 151 ms) x P(second > 36 ms) is 1 %, so the 99th comes to 151 ms, 1.3 times better. A simulation of two million reads says the same,
and that to ask earlier, but only some of the late ones, is worse (1.2 at 80 ms). What hedges are made for are stalls: a second profile has some, of
2 % of the answers, so that the slowest 1 % of 1,000 reads are stalls in every round.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from benchmarks.contender import Contender, Sink
from benchmarks.front import STD, Limits
from benchmarks.origin import Door, some_bytes
from benchmarks.results import Figure, Sample, Spread, Timing, paired, same
from benchmarks.workload import Workload
from datalayer import DataLayerError, TaskKey

_KEY = TaskKey("bench", "tail", "reads", "20130101T000000Z")
_FILES = 20
_SIZE = 16 << 10
_THREADS = 32
_STALLS = 0.02
_STALL = 1.5
_STORMS = replace(STD, storm_every=1.0, storm=0.3)

_WRONG = (
    "the goal is out of reach by arithmetic: of lognormal delays (p50 30, p99 200 ms) 5 % are later than 115 ms, so 5 % more GETs cannot begin "
    "before that: at most 200/115 = 1.7×, and 1.3× where second answers are as slow as first ones (P(first > 151) × P(second > 36) = 1 %). "
    "Next step: none; hedges are for stalls, see the next figure"
)


class Reads(Contender):
    """Small files of an output, read by the library."""

    def __init__(self, under: str, limits: Limits, count: int, *, hedge: bool) -> None:
        self.name = f"datalayer {'hedged' if hedge else 'unhedged'}, {under}"
        self.settings = (
            f"layer.resolve(key)['default'].read_bytes(name), {_THREADS} threads, hedge = {str(hedge).lower()}"
        )
        self.limits = limits
        self._count = count
        self._hedge = hedge

    def open(self, door: Door) -> None:
        self.layer = door.layer(hedge=self._hedge)
        self.output = self.layer.resolve(_KEY)["default"]
        self.pool = ThreadPoolExecutor(_THREADS)
        # Connections are made before: what they take is no tail.
        list(self.pool.map(lambda _: self.output.read_bytes("00"), range(2 * _THREADS)))

    def close(self) -> None:
        self.pool.shutdown()

    def run(self, sink: Sink) -> None:
        took: list[float] = []

        def read(number: int) -> bytes | None:
            began = time.perf_counter()
            try:
                return self.output.read_bytes(f"{number % _FILES:02}")
            except DataLayerError:
                return None
            finally:
                took.append(time.perf_counter() - began)

        failed = 0
        for data in self.pool.map(read, range(self._count)):
            failed += data is None
            sink.take(data or b"")
        took.sort()
        self.seen = {
            "p50": took[len(took) // 2],
            "p99": took[min(int(len(took) * 0.99), len(took) - 1)],
            "longest": took[-1],
            "failed": float(failed),
        }


class Tail(Workload):
    """Small reads, of which some are late."""

    name = "p15"
    row = "P15"
    measures = "the latency of 1,000 small reads (quick: 600) from 32 threads: as S3 is, with answers that stall, and in 503 storms"
    limits = STD
    counted_apart = False

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=7, bench=3, quick=1, tiny=1)

    def prepare(self, door: Door) -> None:
        with door.layer().publish(_KEY) as attempt:
            output = attempt.output()
            for number in range(_FILES):
                with output.open(f"{number:02}") as file:
                    file.write(some_bytes(_SIZE, number))

    def contenders(self) -> Sequence[Contender]:
        count = self.scale.pick(full=1000, bench=1000, quick=600, tiny=40)
        stall = self.scale.pick(full=_STALL, bench=_STALL, quick=_STALL, tiny=0.1)
        reads = [
            Reads(under, limits, count, hedge=hedge)
            for under, limits in (("STD", STD), ("stalls", replace(STD, stalls=_STALLS, stall=stall)))
            for hedge in (False, True)
        ]
        storm = Reads("storms", _STORMS, count, hedge=True)
        # One that fails delivers less; that is a figure, and no error.
        storm.group = "storms"
        return [*reads, storm]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        figures = []
        for under, what, note in (("STD", "as S3 is", _WRONG), ("stalls", "2 % of the answers stall for 1.5 s", "")):
            plain, hedged = (timings[f"datalayer {how}, {under}"] for how in ("unhedged", "hedged"))
            figures += [
                Figure(
                    name=f"p99 of a read, hedged against not: {what}",
                    value=paired(hedged, plain, lambda mine, theirs: theirs.seen["p99"] / mine.seen["p99"]),
                    unit="×",
                    at_least=3,
                    ceiling="1.7 (1.3 with independent answers)" if under == "STD" else "~10",
                    emulated=True,
                    note=note,
                ),
                _milliseconds(f"p99 unhedged: {what}", plain, "p99"),
                _milliseconds(f"p99 hedged: {what}", hedged, "p99"),
                Figure(
                    name=f"more GETs: {what}",
                    value=same(100 * (hedged.requests["GET"] / plain.requests["GET"] - 1)),
                    unit="%",
                    at_most=5,
                    ceiling="0",
                    emulated=True,
                ),
            ]
        storm = timings["datalayer hedged, storms"]
        return [
            *figures,
            Figure(
                name="failed reads in 503 storms (0.3 s of every second)",
                value=Spread.of([sample.seen["failed"] for sample in storm.samples]),
                unit="reads",
                at_most=0,
                ceiling="0",
                emulated=True,
            ),
            Figure(name="503s that were met there", value=same(storm.refused), unit="503s", emulated=True),
            _milliseconds("p99 in 503 storms", storm, "p99"),
        ]


def _milliseconds(name: str, timing: Timing, seen: str) -> Figure:
    def value(sample: Sample) -> float:
        return 1e3 * sample.seen[seen]

    return Figure(name=name, value=Spread.of([value(sample) for sample in timing.samples]), unit="ms", emulated=True)
