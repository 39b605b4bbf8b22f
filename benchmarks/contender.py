"""``Contender``: one way of doing a workload's work. ``Sink``: where its bytes go, which knows whether they are the right ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import google_crc32c

from benchmarks.front import Limits
from benchmarks.origin import Door


class Delivered(NamedTuple):
    """What a run delivered."""

    length: int
    checksum: str | None
    """The CRC-32C of all bytes, if it was asked for."""
    marks: dict[int, str]
    """The checksum of the first so many bytes, for each mark that was reached."""


class Sink:
    """Takes a contender's bytes. It counts them always, and takes their checksum when no clock runs.

    Args:
        check: Whether to take the checksum.
        marks: Lengths in bytes at which it is also taken.
    """

    def __init__(self, *, check: bool = False, marks: tuple[int, ...] = ()) -> None:
        self.length = 0
        self._crc = 0 if check else None
        self._ahead = sorted(marks, reverse=True) if check else []
        self._passed: dict[int, str] = {}

    def take(self, data: Any) -> None:
        """Take the next bytes (any buffer)."""
        while self._ahead and (left := self._ahead[-1] - self.length) <= len(data):
            self._add(data[:left])
            self._passed[self._ahead.pop()] = self.checksum() or ""
            data = data[left:]
        self._add(data)

    def _add(self, data: Any) -> None:
        self.length += len(data)
        if self._crc is not None:
            self._crc = google_crc32c.extend(self._crc, bytes(data))

    def checksum(self) -> str | None:
        """Return the CRC-32C of all bytes, if it was asked for."""
        return f"crc32c:{self._crc:08x}" if self._crc is not None else None

    def delivered(self) -> Delivered:
        """Return what was taken."""
        return Delivered(self.length, self.checksum(), self._passed)


class Contender(ABC):
    """One way of doing the work. It is made by the workload, sent to a process of its own, and opened there."""

    name: str
    settings: str
    """How a rival is tuned, or what of ours is called."""
    group = ""
    """Contenders of one group must deliver the same bytes."""
    times = 1
    """How often one run does the work; figures are given for once."""
    part = 1.0
    """The share of the work that one run does, where all of it would take hours. Figures are given for all of it, and labelled as extrapolated.
    The workload then names, in ``marks``, the length of what is delivered, so that its bytes are compared all the same."""
    in_new_process = False
    """Whether each round begins with a fresh process."""
    warmed_by_preparing = False
    """Whether ``prepare`` warms up all that ``run`` needs: then no round is run only to warm up."""
    limits: Limits | None = None
    """How slow the origin is made for it, *emulated*; by default not at all."""
    in_children = False
    """Whether the work is done by child processes: their memory is not this process's to tell."""
    children_cpu = 0.0
    """CPU seconds that children which live on spent on the last run."""
    children_peak: int | None = None
    """Their peak resident memory in the last run, where somebody has looked."""
    here = False
    """Whether it only asks a process that works already, and so needs none of its own."""

    seen: Mapping[str, float] = MappingProxyType({})
    """What the last run measured within, by name."""

    @abstractmethod
    def open(self, door: Door) -> None:
        """Make the clients. Not timed."""

    def prepare(self) -> None:  # noqa: B027  # most need none
        """Make ready for one run. Neither timed nor counted."""

    @abstractmethod
    def run(self, sink: Sink) -> None:
        """Do the work. This alone is timed and counted."""

    def close(self) -> None:  # noqa: B027  # most clients need none
        """Let go of what ``open`` has taken."""

    def check(self, sink: Sink) -> None:  # noqa: B027  # most have given their bytes to the sink in `run`
        """Give the sink what the run has made, where the run itself could not. Neither timed nor counted."""
