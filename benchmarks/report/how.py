"""How it was measured, in sentences that the HTML report and the page share."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.results import Report

METHOD = (
    (
        "Each way of doing the work has a process of its own: CPU seconds and peak memory are that client's, the interpreter and its "
        "imports included. Clients are opened and warmed up outside the clock."
    ),
    (
        "The ways take turns, round by round, and each round begins with another one. A ratio is taken within each round; what is "
        "shown is the median of the rounds' ratios, and the smallest and largest of them."
    ),
    (
        "Requests and bytes are counted by a front at the server's door, in a pass of its own in which no clock runs. Work that takes "
        "minutes before an emulated origin is counted, checked and timed in the same pass, and its counts are the medians of the rounds."
    ),
    (
        "The delays of an emulated origin are drawn anew for each round, from a seed that is the round's number: all ways of a round meet the same "
        "ones, and the spread over the rounds holds what luck with them makes."
    ),
    "Every way shows the CRC-32C of the bytes it delivered, and all ways of a workload must show the same, or the workload fails.",
    (
        "Cold means that the caches of ours and of the rivals are empty. The server keeps its files in memory: its disk is not what is"
        " measured."
    ),
    (
        "Work that would take hours, such as 10,000 requests one after the other, is done in part. Its time, requests and bytes are "
        "extrapolated, and the way is marked as extrapolated with the share that was done."
    ),
)
"""What was done so that the figures mean something."""

FAIRNESS = (
    (
        "Rivals are tuned: connection pools of 128 and more, parts as large as ours, as many requests in flight. The settings stand "
        "beside each figure."
    ),
    (
        "The proof of concept comes in two forms, where the difference matters: as the serial loop it was, and with boto3's parallel "
        "transfer manager."
    ),
    (
        "A goal was written down before it was measured. One that is missed is shown in the same type as one that is met, with the "
        "reason and the next step; one that is wrong by arithmetic, with the arithmetic."
    ),
    (
        "Requests and bytes do not depend on the machine. Seconds and ratios do: compare those of one report only, and believe no "
        "difference that is smaller than the spreads."
    ),
    (
        "The S3 of these figures is emulated: a real S3 server on loopback behind a front that delays, limits and refuses as published"
        " for S3. It does not prove what AWS would do; it puts every way before the same, repeatable origin. The hot tier is not "
        "emulated: it is a real Alluxio. The EFS is: a FUSE folder whose operations wait and share a rate. The workload `anchors` shows what a plain "
        "client sees of both, beside their profiles and what is published."
    ),
)
"""What a sceptical reader asks first."""


def facts(report: Report) -> Iterator[tuple[str, str]]:
    """Yield what a run ran on, in pairs."""
    yield "scale", report.scale
    yield "begun", ", ".join(report.sittings or [report.began])
    yield "took", f"{report.seconds / 60:.1f} minutes"
    yield "code", report.code
    yield from report.machine.items()


def origins(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the emulated origins and how slow they are: those that have a name, then those of single ways."""
    yield from report.origins.items()
    known = set(report.origins.values())
    ways = {
        timing.emulated: result.name
        for result in reversed(report.results)
        for timing in reversed(result.timings)
        if timing.emulated and timing.emulated not in known
    }
    for words, name in sorted(ways.items(), key=lambda pair: pair[1]):
        yield f"in {name}", words
