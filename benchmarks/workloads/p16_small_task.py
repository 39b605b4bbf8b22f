"""P16: a small task, 1 MB in and 1 MB out.

Ours: the whole of it, resolve, read, claim, write and commit. Against: a bare get and put of the same bytes. Goal: at most 8 requests in all, and
at most one second over the stock operator's own time, of which ours here is the library's part. Ceiling: 2 requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender
from benchmarks.origin import Door
from benchmarks.results import Figure, Timing, paired, same
from benchmarks.small_task import Bare, PinnedTask, Task, publish_upstream
from benchmarks.workload import Workload


class SmallTask(Workload):
    """A task that does little."""

    name = "p16"
    row = "P16"
    measures = "a task with 1 MB in and 1 MB out"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=21, bench=9, quick=9, tiny=1)

    def prepare(self, door: Door) -> None:
        publish_upstream(door)

    def contenders(self) -> Sequence[Contender]:
        return [Task(), PinnedTask(), Bare()]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        task, bare = timings[Task.name], timings[Bare.name]
        return [
            Figure(
                name="requests in all, claim and commit included",
                value=same(task.request_count),
                unit="requests",
                at_most=8,
                ceiling="2",
            ),
            Figure(
                name="seconds over a bare get and put",
                value=paired(task, bare, lambda mine, theirs: mine.wall - theirs.wall),
                unit="s",
                at_most=1,
                ceiling="0",
            ),
        ]
