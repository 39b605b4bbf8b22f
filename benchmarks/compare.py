"""What changed between two runs, and which changes are more than the spread of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.report.words import between, number, seconds, size
from benchmarks.results import Figure, Report, Result, Spread, Timing

_SAME = 0.005


@dataclass(frozen=True)
class Change:
    """One number in both runs."""

    workload: str
    what: str
    before: Spread
    after: Spread
    form: Callable[[float], str]
    single: bool = False
    """Whether a time was taken once only in one of the runs, so that nobody knows its spread."""

    @property
    def by(self) -> float | None:
        """The change of the median as a share, or None where it was nothing before."""
        return self.after.median / self.before.median - 1 if self.before.median else None

    @property
    def clear(self) -> bool:
        """Whether all samples of one run lie on one side of all of the other's."""
        apart = self.after.low > self.before.high or self.after.high < self.before.low
        return apart and not self.single


def changes(before: Report, after: Report) -> Iterator[Change]:
    """Yield every figure of both runs, and of each way in both its time, CPU, peak, requests and bytes; equal counts are left out."""
    old = {result.name: result for result in before.results}
    for result in after.results:
        if result.name not in old or not (result.measured and old[result.name].measured):
            continue
        yield from _figures(old[result.name], result)
        yield from _timings(old[result.name], result)


def differences(before: Report, after: Report) -> Iterator[str]:
    """Yield why two runs cannot be compared number by number."""
    for what, one, other in (
        ("scale", before.scale, after.scale),
        *(
            (f"machine: {name}", before.machine.get(name), after.machine.get(name))
            for name in ("processor", "cores", "memory", "kernel")
        ),
        *((f"emulated {name}", before.origins.get(name), words) for name, words in after.origins.items()),
        *((f"version of {name}", before.versions.get(name), text) for name, text in after.versions.items()),
    ):
        if one != other:
            yield f"{what}: {one} before, {other} after"
    names = [{result.name for result in report.results if result.measured} for report in (before, after)]
    for word, some in (("before", names[0] - names[1]), ("after", names[1] - names[0])):
        if some:
            yield f"measured only {word}: {', '.join(sorted(some))}"


def show_changes(before: Report, after: Report, console: Console, *, everything: bool = False) -> None:
    """Print what changed.

    Args:
        before: One run.
        after: A later one.
        console: Where it is printed.
        everything: Also what stayed within the spreads.
    """
    for text in differences(before, after):
        console.print(text, style="yellow", highlight=False, markup=False)
    table = Table("workload", "what", "before", "min–max", "after", "min–max", "change", "", title_justify="left")
    hidden = 0
    for change in changes(before, after):
        if not (change.clear or everything):
            hidden += 1
            continue
        by = change.by
        verdict = "CHANGED" if change.clear else "one sample" if change.single else "within the spreads"
        cells = (
            change.workload,
            change.what,
            change.form(change.before.median),
            between(change.before, change.form),
            change.form(change.after.median),
            between(change.after, change.form),
            "" if by is None else f"{by:+.1%}",
            verdict,
        )
        table.add_row(*map(Text, cells), style="bold" if change.clear else "dim")
    if table.row_count:
        console.print(table)
    else:
        console.print("nothing changed by more than the spreads of both runs")
    if hidden:
        console.print(
            f"{hidden} numbers that changed less than the spreads of both, or were taken once, are left out: --all shows them"
        )


def _figures(before: Result, after: Result) -> Iterator[Change]:
    old = {figure.name: figure for figure in before.figures}
    single = _single(before) or _single(after)
    for figure in after.figures:
        if figure.name in old:
            one, other = old[figure.name].value, figure.value
            # What was counted has no spread, and one round has none either: where times were taken once, only counts can be told from chance.
            counted = not single or _counted(figure)
            yield Change(after.name, f"figure: {figure.name}", one, other, _with_unit(figure), single=not counted)


def _timings(before: Result, after: Result) -> Iterator[Change]:
    old = {timing.name: timing for timing in before.timings}
    for timing in after.timings:
        earlier = old.get(timing.name)
        if earlier is None:
            continue
        if timing.samples and earlier.samples:
            single = min(len(timing.samples), len(earlier.samples)) < 2
            yield Change(after.name, f"{timing.name}: wall", earlier.wall, timing.wall, seconds, single)
            yield Change(after.name, f"{timing.name}: CPU", earlier.cpu, timing.cpu, seconds, single)
            if timing.peak and earlier.peak:
                yield Change(after.name, f"{timing.name}: peak", earlier.peak, timing.peak, size, single)
        yield from _counts(after.name, earlier, timing)


def _counts(workload: str, before: Timing, after: Timing) -> Iterator[Change]:
    for what, one, other, form in (
        *(
            (kind, before.requests.get(kind, 0.0), after.requests.get(kind, 0.0), number)
            for kind in sorted({*before.requests, *after.requests})
        ),
        ("bytes down", before.bytes_down, after.bytes_down, size),
        ("bytes up", before.bytes_up, after.bytes_up, size),
        ("refused", before.refused, after.refused, number),
    ):
        if abs(other - one) > _SAME * max(one, other):
            yield Change(workload, f"{after.name}: {what}", Spread(one, one, one), Spread(other, other, other), form)


def _single(result: Result) -> bool:
    return max((len(timing.samples) for timing in result.timings), default=0) < 2


def _counted(figure: Figure) -> bool:
    return figure.unit.rstrip("s") in {"request", "package", "byte", "read", "download", "file", "failure", "commit"}


def _with_unit(figure: Figure) -> Callable[[float], str]:
    return lambda value: f"{number(value)} {figure.unit}".strip()
