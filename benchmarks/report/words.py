"""Numbers as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.results import Figure, Spread, Timing


def number(value: float) -> str:
    """Return three digits, or all of a whole or large number."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def seconds(value: float) -> str:
    """Return seconds in a unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{number(value * 1e6)} µs"


def size(value: float) -> str:
    """Return bytes in a unit that suits them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if value >= scale:
            return f"{number(value / scale)} {unit}"
    return f"{number(value)} B"


def between(spread: Spread, form: Callable[[float], str] = number) -> str:
    """Return the smallest and the largest value, or nothing where they are the same."""
    return "" if spread.low == spread.high else f"{form(spread.low)}–{form(spread.high)}"


def measured(figure: Figure) -> str:
    """Return a figure's median with its unit."""
    one = figure.value.median == 1 and len(figure.unit) > 2
    return f"{number(figure.value.median)} {figure.unit.removesuffix('s') if one else figure.unit}".strip()


def goal(figure: Figure) -> str:
    """Return a figure's goal, or nothing."""
    if figure.at_least is not None:
        return f"≥ {number(figure.at_least)}"
    return f"≤ {number(figure.at_most)}" if figure.at_most is not None else ""


def named(figure: Figure) -> str:
    """Return a figure's name, which says if it was taken before an emulated origin."""
    return f"{figure.name} (emulated)" if figure.emulated and "emulated" not in figure.name else figure.name


def met(figure: Figure) -> str:
    """Return ``met``, ``missed``, or nothing where there is no goal."""
    return {True: "met", False: "missed", None: ""}[figure.met]


def requests(timing: Timing) -> str:
    """Return a way's requests by kind, with those that were refused."""
    kinds = ", ".join(f"{number(count)} {kind}" for kind, count in timing.requests.items())
    text = f"{number(timing.request_count)} ({kinds})" if len(timing.requests) > 1 else kinds or "0"
    return f"{text}, {number(timing.refused)} refused" if timing.refused else text


def way(timing: Timing) -> str:
    """Return a way's name, which says if its figures are extrapolated."""
    return timing.name if timing.part == 1 else f"{timing.name} (extrapolated from {timing.part:.3g} of the work)"


WAYS = ("way", "wall", "min–max", "CPU", "peak", "requests", "up", "down", "settings")
"""The heads of :func:`way_cells`."""


def way_cells(timing: Timing) -> tuple[str, ...]:
    """Return what is told of a way, as a line of a table."""
    if not timing.samples:
        return timing.name, "", "", "", "", requests(timing), "", "", timing.settings
    return (
        way(timing),
        seconds(timing.wall.median),
        between(timing.wall, seconds),
        seconds(timing.cpu.median),
        size(timing.peak.median) if timing.peak else "",
        requests(timing),
        size(timing.bytes_up),
        size(timing.bytes_down),
        timing.settings,
    )
