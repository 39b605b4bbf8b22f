"""What each row of the goals asks, and how long its workloads may take at the smaller scales."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """One row: a workload, what was asked of it before anything was measured, and what could be had at best."""

    row: str
    title: str
    """A few words."""
    poc: str
    """Against the proof of concept: download all, upload all, one process."""
    rival: str
    """Against the best tuned rival."""
    ceiling: str

    @property
    def asked(self) -> str:
        """All of it in a line."""
        parts = {
            "Against the proof of concept": self.poc,
            "Against the best tuned rival": self.rival,
            "Ceiling": self.ceiling,
        }
        return " ".join(f"{name}: {text}." for name, text in parts.items() if text != "–")


GOALS: dict[str, Goal] = {
    goal.row: goal
    for goal in (
        Goal("P1", "16 readers of 1 GiB on one node", "wall ≥ 12×, origin bytes ≤ 1.01 × the data", "≥ 12×", "16×"),
        Goal(
            "P2",
            "3 of 1,000 columns of a Parquet",
            "wall ≥ 25×, bytes ≥ 100×",
            "cold ≥ 1.5× pyarrow with pre_buffer, warm ≥ 10×",
            "~40×",
        ),
        Goal("P3", "10,000 files of 64 KB", "≥ 40× a serial loop", "≥ 1.2× obstore", "164×"),
        Goal("P4", "10,000 files of 4 KB, packed at commit", "≥ 300×", "≥ 10× obstore", "~1,500×"),
        Goal("P5", "4 GiB read in order", "~1×", "≥ 0.97× the best, CPU ≤ 0.8×", "1.0"),
        Goal("P6", "know the 100,000 files of an output", "≥ 80×, zero LIST", "≥ 5× parallel LIST", "~150×"),
        Goal(
            "P7",
            "commit 1,000 parts",
            "≥ 200× rename",
            "≥ 10× the magic committer's commit, ≤ 3 requests",
            "1 round trip",
        ),
        Goal(
            "P8",
            "a chain of 10 tasks, 1 GiB each hop",
            "shared-fs ≥ 8× on one node, ≥ 1.9× over EFS; hot-cold ≥ 1.7×",
            "≥ 3× / ≥ 1.5× fsspec filecache",
            "10× / 2.1× / 2×",
        ),
        Goal(
            "P9",
            "scan 32 GiB in a cgroup of 512 MiB",
            "–",
            "≤ 128 MiB over the idle process at ≥ 0.95 of the throughput",
            "–",
        ),
        Goal(
            "P10",
            "64 processes touch an output first",
            "1 download, 0 corrupt reads",
            "fsspec's cache: 69 of 80 corrupt (filesystem_spec#639)",
            "–",
        ),
        Goal(
            "P11",
            "resolve a key",
            "≤ 2 µs repeated, ≤ 60 µs in a new process, 1 round trip cold",
            "≥ 10,000× an S3 exists()",
            "–",
        ),
        Goal("P12", "import datalayer", "≤ 30 ms over bare Python, no SDK loaded", "boto3 alone takes 90–300 ms", "–"),
        Goal(
            "P13",
            "the price of safety",
            "≤ 2 extra requests a task, ≤ 3 % on reads, checksum ≥ 2 GB/s a core",
            "–",
            "–",
        ),
        Goal(
            "P14",
            "Spark: the same query on each design",
            "in place beats download-then-read on wall and bytes",
            "hot ≥ cold S3A with vectored reads; equal results",
            "–",
        ),
        Goal(
            "P15", "the tail: 1,000 GETs, storms of 503", "p99 ≥ 3× better with ≤ 5 % extra GETs; 0 failures", "–", "–"
        ),
        Goal(
            "P16",
            "a small task: 1 MB in, 1 MB out",
            "≤ 8 requests in all, claim and commit included",
            "≤ 1 s over the stock operator's own time",
            "–",
        ),
        Goal(
            "P17",
            "cost of 1,000 tasks of the flights workflow",
            "≤ 1/10 of the requests at 1,000 files an input",
            "–",
            "–",
        ),
    )
}

_SECONDS = {
    "P1": (15, 125),
    "P2": (17, 100),
    "P3": (10, 55),
    "P4": (12, 65),
    "p5": (6, 20),
    "p5-std": (8, 65),
    "P6": (11, 60),
    "P7": (19, 55),
    "P8": (15, 200),
    "P9": (5, 60),
    "P10": (7, 25),
    "P11": (8, 15),
    "P12": (7, 12),
    "P13": (6, 12),
    "P14": (40, 280),
    "P15": (12, 50),
    "P16": (2, 25),
    "P17": (4, 10),
    "crossovers": (18, 80),
    "scale": (9, 45),
    "anchors": (7, 20),
}
"""Seconds at ``quick`` and at ``bench``, by row, or by workload where a row has several."""
BUDGETS = {"quick": 4 * 60.0, "bench": 25 * 60.0}
"""Seconds that a whole run of a scale may take."""


def seconds_for(name: str, row: str, scale: str) -> float:
    """Return how long a workload may take: for the largest scale, a guess."""
    quick, bench = _SECONDS.get(name) or _SECONDS.get(row) or (10, 60)
    return {"tiny": 3.0, "quick": quick, "bench": bench}.get(scale, bench * 8.0)
