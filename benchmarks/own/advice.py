"""What a run on the user's data comes to: seconds, requests, bytes and dollars for all of it, and which design would serve it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.own.readers import Cached, Downloaded, InTheirFolder, Reader, SharedEfs, Warmed
from benchmarks.own.source import Piece, Source
from benchmarks.prices import Prices
from benchmarks.results import Timing

_SMALL = 8 << 20
_NEAR = 1.2
_WHY = {
    Downloaded.name: "every reader takes all of the data, before it can begin; any program can read files",
    Reader.name: "readers take what they need from S3, side by side, and nothing has to be kept or run besides S3",
    Cached.name: "one of the readers brings the data to the machine, the others read it from there",
    Warmed.name: "the data are on the machine already: what is read again there asks S3 for nothing",
    SharedEfs.name: "a volume answers sooner than S3, which counts where files are small or waits follow one another",
}


@dataclass(frozen=True)
class Outcome:
    """One design's, for all readers reading all of the data once."""

    name: str
    seconds: float
    low: float
    high: float
    requests: float
    bytes_down: float
    cpu: float
    for_requests: float
    """Dollars."""
    for_bytes: float
    for_machine: float

    @property
    def dollars(self) -> float:
        """All of it."""
        return self.for_requests + self.for_bytes + self.for_machine


def outcomes(
    timings: Mapping[str, Timing], source: Source, pieces: Sequence[Piece], prices: Prices
) -> tuple[list[Outcome], float]:
    """Return each design's outcome for the whole source, and how many times the sample that is."""
    taken = sum(piece.length for piece in pieces)
    by_bytes = source.size / taken
    # What small files cost goes by their number.
    scale = len(source.files) / len(pieces) if taken < _SMALL * len(pieces) else by_bytes
    found = []
    for name, timing in timings.items():
        wall = timing.wall
        down = timing.bytes_down * by_bytes
        volume = name in {SharedEfs.name, InTheirFolder.name}
        counts = {} if volume else {kind: count * scale for kind, count in timing.requests.items()}
        # Of a volume a machine reads each byte once for all its readers; of columns no more than the files, and how much less is not seen.
        # What the user's own folder costs, only the user knows.
        on_volume = prices.efs.moved(read=source.size) if name == SharedEfs.name else 0.0
        moved = on_volume if volume else prices.s3.transfer(down)
        found.append(
            Outcome(
                name=name,
                seconds=wall.median * scale,
                low=wall.low * scale,
                high=wall.high * scale,
                requests=sum(counts.values()),
                bytes_down=source.size if volume else down,
                cpu=timing.cpu.median * scale,
                for_requests=prices.s3.requests(counts),
                for_bytes=moved,
                for_machine=prices.node.hours(wall.median * scale),
            )
        )
    return found, max(scale, by_bytes)


def advice(found: Sequence[Outcome], *, again: bool) -> list[str]:
    """Return sentences that say which design would serve, and why.

    Args:
        found: The outcomes.
        again: Whether the same data are read more than once on a machine.
    """
    # Whoever reads once is never warm; and a folder serves only where all machines have it.
    known = [one for one in found if (again or one.name != Warmed.name) and one.name != InTheirFolder.name]
    fastest = min(known, key=lambda one: one.seconds)
    # Half the time is worth twice the dollars, and no more.
    served = min(known, key=lambda one: one.seconds * one.dollars)
    cheapest = min(known, key=lambda one: one.dollars)
    poc = next(one for one in found if one.name == Downloaded.name)
    lines = [f"{served.name} would serve them: {_WHY[served.name]}."]
    if served is not poc:
        lines.append(
            f"Against {poc.name}: {poc.seconds / served.seconds:.1f} times as fast, "
            f"{_share(served.bytes_down, poc.bytes_down)} of the bytes, {_share(served.dollars, poc.dollars)} of the dollars."
        )
    if fastest is not served:
        lines.append(
            f"{fastest.name} is {served.seconds / fastest.seconds:.1f} times as fast still, for "
            f"{fastest.dollars / served.dollars:.1f} times the dollars: {_WHY[fastest.name]}."
        )
    if cheapest is not served:
        lines.append(f"{cheapest.name} is the cheapest: {_WHY[cheapest.name]}.")
    theirs = next((one for one in found if one.name == InTheirFolder.name), None)
    if theirs:
        faster = "faster" if theirs.seconds < served.seconds else "slower"
        lines.append(
            f"Your folder itself was {faster}: {theirs.seconds:.3g} s; it serves where every machine mounts it (shared-fs)."
        )
    warm = next((one for one in found if one.name == Warmed.name), None)
    cold = next((one for one in found if one.name == Reader.name), None)
    if not again and warm and cold and warm.seconds < cold.seconds / _NEAR:
        lines.append(
            f"Were they read again on the same machine, hot-cold would be {cold.seconds / warm.seconds:.1f} times as fast as {cold.name}."
        )
    return lines


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "as much"
