"""What a person sees of a run while it goes on: what is being done, how long it has taken, and about how long it will."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.live import Live
from rich.text import Text


class Progress:
    """Lines on a console, one a workload, and on a terminal a line that lives below them.

    Args:
        console: Where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._expected: dict[str, float] = {}
        self._done = 0
        self._began = 0.0
        self._now = ""
        self._step = ""
        self._since = 0.0
        self._outcome = ""

    @contextlib.contextmanager
    def over(self, expected: Mapping[str, float]) -> Iterator[None]:
        """Tell of some workloads, each of which is expected to take so many seconds."""
        self._expected, self._done, self._began = dict(expected), 0, time.monotonic()
        # Once a second: drawing takes CPU time from what is measured.
        with Live(self, console=self._console, refresh_per_second=1, transient=True):
            yield

    @contextlib.contextmanager
    def workload(self, name: str) -> Iterator[Progress]:
        """Tell of one workload while the block lasts."""
        self._now, self._since, self._outcome = name, time.monotonic(), ""
        self._step = ""
        yield self
        took = time.monotonic() - self._since
        expected = self._expected.pop(name, 0.0)
        self._done += 1
        count = f"[{self._done}/{self._done + len(self._expected)}]"
        late = f", {expected:.0f} s were meant" if took > 1.25 * expected + 2 else ""
        self._now = ""
        said = self._outcome or f"{took:.0f} s{late}"
        self._print(
            f"{count} {name}: {said}; {self._times()}", style="red" if self._outcome else "yellow" if late else ""
        )

    def step(self, text: str) -> None:
        """Tell what the workload is at."""
        self._step = text

    def skipped(self, reason: str) -> None:
        """Tell that the workload cannot run here."""
        self._outcome = f"NOT MEASURED, this machine cannot: {reason}"

    def failed(self, reason: str, notes: Iterable[str] = ()) -> None:
        """Tell that it failed."""
        self._outcome = f"FAILED: {reason}"
        for note in notes:
            self._print(note, style="red")

    def note(self, text: str, style: str = "") -> None:
        """Tell something else."""
        self._print(text, style=style)

    @property
    def left(self) -> float:
        """Seconds that are probably left."""
        running = self._expected.get(self._now, 0.0)
        spent = time.monotonic() - self._since if self._now else 0.0
        return max(0.0, sum(self._expected.values()) - min(spent, running))

    def __rich__(self) -> Text:
        what = f"{self._now}: {self._step}" if self._now else "starting the server"
        return Text(f"{what} ({self._times()})", no_wrap=True, overflow="ellipsis")

    def _times(self) -> str:
        return f"{_minutes(time.monotonic() - self._began)} gone, about {_minutes(self.left)} left"

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
