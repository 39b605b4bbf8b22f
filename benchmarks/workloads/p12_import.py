"""P12: what ``import datalayer`` costs a process.

Ours: the bare import, and the names that a job takes from it. Against: a bare Python, and boto3. Each is a process of its own, from start to end,
with compiled files in place. Goals: at most 30 ms over bare Python, and no SDK loaded.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender, Sink
from benchmarks.origin import Door
from benchmarks.results import Figure, Spread, Timing, paired, same
from benchmarks.workload import Workload

SDKS = ("boto3", "botocore", "obstore", "pyarrow", "fsspec", "s3fs", "pandas", "numpy", "typer", "rich", "pyspark")


class Imports(Contender):
    """One program, run once."""

    in_children = True

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self.settings = f'python -c "{program}"'
        self.program = program
        self.group = name

    def open(self, door: Door) -> None:
        pass

    def run(self, sink: Sink) -> None:
        subprocess.run([sys.executable, "-c", self.program], check=True)

    def check(self, sink: Sink) -> None:
        # Not in the timed program, which should do nothing else.
        code = f"{self.program}\nimport sys\nprint(*[name for name in {SDKS!r} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        sink.take(bytes(len(done.stdout.split())))


_BARE = "bare python"
_PACKAGE = "import datalayer"
_NAMES = "from datalayer import DataLayer, TaskKey"
_BOTO3 = "import boto3"


class Import(Workload):
    """A process begins."""

    name = "p12"
    row = "P12"
    measures = "the start of a process that imports the library"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=21, bench=9, quick=9, tiny=1)

    def contenders(self) -> Sequence[Contender]:
        return [
            Imports(_BARE, "pass"),
            Imports(_PACKAGE, _PACKAGE),
            Imports(_NAMES, _NAMES),
            Imports(_BOTO3, _BOTO3),
        ]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        bare = timings[_BARE]

        def over(name: str) -> Spread:
            return paired(timings[name], bare, lambda mine, theirs: (mine.wall - theirs.wall) * 1000)

        return [
            Figure(name=f"{_PACKAGE}, over bare Python", value=over(_PACKAGE), unit="ms", at_most=30, ceiling="0"),
            Figure(name=f"{_NAMES}, over bare Python", value=over(_NAMES), unit="ms", at_most=30),
            Figure(
                name=f"{_NAMES}, CPU over bare Python",
                value=paired(timings[_NAMES], bare, lambda mine, theirs: (mine.cpu - theirs.cpu) * 1000),
                unit="ms",
            ),
            Figure(name=f"{_BOTO3}, over bare Python", value=over(_BOTO3), unit="ms"),
            Figure(
                name="SDKs and other heavy packages loaded",
                # One byte was delivered for each.
                value=same(max(timings[_PACKAGE].delivered, timings[_NAMES].delivered)),
                unit="packages",
                at_most=0,
            ),
        ]
