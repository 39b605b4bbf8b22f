"""P16: a small task, 1 MB in and 1 MB out.

Ours: the whole of it, resolve, read, claim, write and commit. Against: a bare get and put of the same bytes; and Airflow's own backend of results
in an object store, both once more before the *emulated* S3 (not in the quick run: Airflow alone takes seconds to load, three times). Goal: at
most 8 requests in all, and at most one second over the stock operator's own time, of which ours here is the library's part. Ceiling: 2 requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contender import Contender
from benchmarks.front import STD
from benchmarks.origin import Door
from benchmarks.results import Figure, Timing, paired, same, speed_against
from benchmarks.small_task import Bare, PinnedTask, Task, publish_upstream
from benchmarks.workload import Scale, Workload
from benchmarks.xcom import XComTask


class TaskAfar(Task):
    """The same, with S3 as far away as it is."""

    name = "datalayer task, emulated S3"
    limits = STD


class XComTaskAfar(XComTask):
    """The rival, with S3 as far away as it is."""

    name = "Airflow XComObjectStorageBackend, emulated S3"
    limits = STD


class SmallTask(Workload):
    """A task that does little."""

    name = "p16"
    row = "P16"
    measures = "a task with 1 MB in and 1 MB out"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=21, bench=7, quick=7, tiny=1)

    def prepare(self, door: Door) -> None:
        publish_upstream(door)

    def contenders(self) -> Sequence[Contender]:
        rivals = [TaskAfar(), XComTaskAfar()] if self.scale in {Scale.FULL, Scale.BENCH} else []
        return [Task(), PinnedTask(), Bare(), *rivals]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        task, bare = timings[Task.name], timings[Bare.name]
        found = [
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
        if XComTaskAfar.name in timings:
            ours, rival = timings[TaskAfar.name], timings[XComTaskAfar.name]
            found += [
                Figure(
                    name=f"requests against {XComTask.name}",
                    value=same(ours.request_count / rival.request_count),
                    unit="×",
                    ceiling="0.33",
                    note=f"ours {ours.request_count:g}, with claim and commit; its {rival.request_count:g}, and a row in Airflow's database besides",
                ),
                Figure(
                    name=f"speed against {XComTask.name}",
                    value=speed_against(ours, rival),
                    unit="×",
                    emulated=True,
                    note="what it writes has no claim, no lineage and no checksum: a task that is run twice leaves two results",
                ),
                Figure(
                    name=f"CPU seconds against {XComTask.name}",
                    value=paired(ours, rival, lambda mine, theirs: mine.cpu / theirs.cpu),
                    unit="×",
                ),
            ]
        return found
