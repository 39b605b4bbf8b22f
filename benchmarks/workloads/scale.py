"""A deployment of a million tasks a day: what commits and resolves take while they come as they do at the top of the hour.

An open loop: tasks commit and resolve at random moments, whether or not those before them are done, before the *emulated* S3 with its limits of
requests a prefix; latency counts from the moment a task was due. 10^6 tasks a day with 20 times the mean at the top of the hour are 230 commits
and, with five inputs each, 1,200 resolves a second. In the full run that goes on for ten minutes; in the smaller ones for seconds, at a part of the
rate, and of the limits of requests, which each figure names. Then the same again with many more outputs in the deployment: nothing may grow.
Goals: no commit is lost or refused, none of S3's limits is met, and requests stay what they were.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from benchmarks import scratch
from benchmarks.contender import Contender
from benchmarks.front import STD
from benchmarks.load import Crowd, Outcome, Rates, answers_file
from benchmarks.origin import Door
from benchmarks.results import Figure, Spread, Timing, same
from benchmarks.workload import Scale, Workload

_COMMITS, _RESOLVES = 230, 1200


class InternetScale(Workload):
    """Very many tasks."""

    name = "scale"
    measures = "a million tasks a day: commits and resolves as they come at the top of the hour"
    counted_apart = False

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.share = scale.pick(full=1.0, bench=0.25, quick=0.1, tiny=0.02)
        # A part of the rate before all of the limits would never meet them.
        self.limits = self.std = replace(STD, gets=round(STD.gets * self.share), puts=round(STD.puts * self.share))
        self.seconds = scale.pick(full=600.0, bench=12.0, quick=3.0, tiny=0.5)
        self.outputs = scale.pick(full=(10**4, 10**6), bench=(1000, 10**4), quick=(200, 2000), tiny=(5, 20))
        self.processes = scale.pick(full=4, bench=2, quick=2, tiny=1)

    @property
    def rounds(self) -> int:
        return 1

    def prepare(self, door: Door) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix=scratch.prefix())
        self.door = door

    def close(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def contenders(self) -> Sequence[Contender]:
        rates = Rates(_COMMITS * self.share, _RESOLVES * self.share)
        return [
            Crowd(
                self.door,
                outputs,
                before=before,
                rates=rates,
                seconds=self.seconds,
                results=Path(self.folder.name),
                processes=self.processes,
                isolated=self.scale is not Scale.TINY,
            )
            for before, outputs in zip((0, *self.outputs), self.outputs, strict=False)
        ]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        files = [answers_file(Path(self.folder.name), outputs) for outputs in self.outputs]
        few, many = (msgspec.json.decode(file.read_bytes(), type=Outcome) for file in files)
        load = f"{_COMMITS * self.share:g} commits/s and {_RESOLVES * self.share:g} resolves/s for {self.seconds:g} s"
        part = "" if self.share == 1 else f"at {self.share:g} of the rate, {load}"
        failures = [*few.failures, *many.failures]
        count = len(few.commits) + len(many.commits)
        found = [
            Figure(
                name=f"commits lost, conflicting or failed, and resolves failed, of {count:,} commits",
                value=same(few.lost + many.lost + len(failures)),
                unit="",
                at_most=0,
                ceiling="0",
                emulated=True,
                note="; ".join([*([part] if part else []), *sorted(set(failures))[:3]]),
            ),
            Figure(
                name="requests that S3 answered with 503",
                value=same(sum(timing.refused for timing in timings.values())),
                unit="requests",
                at_most=0,
                ceiling="0",
                emulated=True,
                note=""
                if self.share == 1
                else f"as the rate, the limits of a prefix are {self.share:g} of S3's: {self.std.gets:,} GETs and {self.std.puts:,} PUTs a second",
            ),
        ]
        for verb, ceiling, asked in (
            ("resolve", "1 GET: p50 30 ms, p99 200 ms", (few.resolves, many.resolves)),
            ("commit", "3 PUTs in a row: p50 180 ms", (few.commits, many.commits)),
        ):
            for outputs, waits in zip(self.outputs, asked, strict=True):
                for part_of, name in ((0.5, "p50"), (0.99, "p99")):
                    milliseconds = 1000 * _quantile(waits, part_of)
                    spread = Spread(
                        milliseconds, min(1000 * min(waits, default=0), milliseconds), 1000 * max(waits, default=0)
                    )
                    found.append(
                        Figure(
                            name=f"{verb}, {name}, {outputs:,} outputs",
                            value=spread,
                            unit="ms",
                            ceiling=ceiling,
                            emulated=True,
                            note=f"{load}; from when it was due",
                        )
                    )
        one, other = (timings[contender] for contender in timings)
        found += [
            self._grown("requests of a commit or resolve", _each(other, many) / max(_each(one, few), 1e-9)),
            self._grown(
                "p50 of a resolve", _quantile(many.resolves, 0.5) / max(_quantile(few.resolves, 0.5), 1e-9), 1.2
            ),
            self._grown("p50 of a commit", _quantile(many.commits, 0.5) / max(_quantile(few.commits, 0.5), 1e-9), 1.2),
        ]
        return found

    def _grown(self, what: str, ratio: float, at_most: float = 1.05) -> Figure:
        few, many = self.outputs
        return Figure(
            name=f"{what}: {many:,} outputs against {few:,}",
            value=same(ratio),
            unit="×",
            at_most=at_most,
            ceiling="1.0",
            emulated=True,
        )


def _each(timing: Timing, outcome: Outcome) -> float:
    # The mix of the two kinds is random: each commit's three requests and a resolve's one are what is expected.
    expected = 3 * len(outcome.commits) + len(outcome.resolves)
    return timing.request_count / max(expected, 1)


def _quantile(waits: list[float], part: float) -> float:
    return sorted(waits)[min(int(part * len(waits)), len(waits) - 1)] if waits else 0.0
