"""P17: what 1,000 tasks of the flights workflow cost: requests and dollars, where an input has 1,000 files.

Three tasks, as in the flights workflow: one makes a file for each of 1,000 day and airport pairs, the next reads them and makes as many, the third
reads those and makes one. The POC, once for each task: LIST the input, download every file, upload every file. Ours: everything through the library,
in place, with outputs packed (``packed=True``); and with each file an object of its own, which costs what the POC does, save for the LISTs. Requests
are counted at the server's door, and dollars are those of ``benchmarks/prices.toml``; nothing is emulated. Goal: a tenth of the POC's requests.
"""

from __future__ import annotations

import tempfile
import uuid
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.contender import Contender, Sink
from benchmarks.origin import Door
from benchmarks.prices import prices
from benchmarks.results import Figure, Timing, same
from benchmarks.workload import Scale, Workload
from datalayer import RunId, TaskKey

_TASKS = ("extract", "by_day", "summary")
_THOUSAND = 1000


def _made(number: int) -> bytes:
    return f"{number:05},{number * 7919 % 1440}\n".encode() * 20


def _worked(data: bytes) -> bytes:
    return data.upper() + b"delay\n"


class _Workflow(Contender):
    """Runs the three tasks."""

    group = "summary"

    def __init__(self, count: int) -> None:
        self.count = count

    def prepare(self) -> None:
        self.run_id = uuid.uuid4().hex

    def run(self, sink: Sink) -> None:
        made = {f"{number:05}.csv": _made(number) for number in range(self.count)}
        self.write("extract", made)
        self.write("by_day", {name: _worked(data) for name, data in self.read("extract").items()})
        days = self.read("by_day")
        summary = b"".join(days[name][:12] for name in sorted(days))
        self.write("summary", {"summary.csv": summary})
        sink.take(summary)

    @abstractmethod
    def read(self, task: str) -> dict[str, bytes]:
        """Return a task's output."""

    @abstractmethod
    def write(self, task: str, files: Mapping[str, bytes]) -> None:
        """Make a task's output."""


class Poc(_Workflow):
    """Download all, work, upload all."""

    name = "s3-poc"
    settings = (
        "obstore, which sends what boto3 sends in less time: LIST, get of each file, put of each file; 32 threads"
    )

    def open(self, door: Door) -> None:
        self.store = door.obstore()
        self.pool = ThreadPoolExecutor(32)

    def close(self) -> None:
        self.pool.shutdown()

    def read(self, task: str) -> dict[str, bytes]:
        import obstore

        paths = [info["path"] for page in obstore.list(self.store, self._folder(task)) for info in page]
        with tempfile.TemporaryDirectory() as local:

            def download(path: str) -> tuple[str, bytes]:
                file = Path(local) / path.rpartition("/")[2]
                file.write_bytes(obstore.get(self.store, path).bytes())
                return file.name, file.read_bytes()

            return dict(self.pool.map(download, paths))

    def write(self, task: str, files: Mapping[str, bytes]) -> None:
        import obstore

        folder = self._folder(task)
        list(self.pool.map(lambda name: obstore.put(self.store, f"{folder}/{name}", files[name]), files))

    def _folder(self, task: str) -> str:
        return f"poc/{self.run_id}/{task}"


class Packed(_Workflow):
    """Ours, packed."""

    name = "datalayer, packed"
    settings = "publish(key), output(packed=True), read_many(); claims, commits and resolves included"
    packed = True

    def open(self, door: Door) -> None:
        self.door = door

    def read(self, task: str) -> dict[str, bytes]:
        # A layer for each task: a task is a process of its own, and knows nothing of the one before.
        return dict(self.door.layer().resolve(self._key(task))["default"].read_many())

    def write(self, task: str, files: Mapping[str, bytes]) -> None:
        with self.door.layer().publish(self._key(task)) as attempt, ThreadPoolExecutor(16) as pool:
            output = attempt.output(packed=self.packed)
            list(pool.map(lambda name: output.put(name, files[name]), files))

    def _key(self, task: str) -> TaskKey:
        return TaskKey("bench", "flights", task, RunId(self.run_id))


class Alone(Packed):
    """Ours, each file an object."""

    name = "datalayer, files as objects"
    settings = "publish(key), output(), read_many(); claims, commits and resolves included"
    packed = False


class Cost(Workload):
    """What the designs ask the server for."""

    name = "p17"
    row = "P17"
    counted_apart = False

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=3, bench=1, quick=1, tiny=1)

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.count = self.scale.pick(full=1000, bench=1000, quick=1000, tiny=20)
        self.measures = f"three tasks of the flights workflow, {self.count:,} files an input"

    def contenders(self) -> Sequence[Contender]:
        return [kind(self.count) for kind in (Poc, Packed, Alone)]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        poc, packed, alone = (timings[kind.name] for kind in (Poc, Packed, Alone))
        table = prices()
        found = [
            Figure(
                name="requests: ours, packed, over the POC's",
                value=same(packed.request_count / poc.request_count),
                unit="×",
                at_most=0.1,
                ceiling=f"{9 / poc.request_count:.4f}",
                note=""
                if packed.request_count <= poc.request_count / 10
                else "a claim, a pack and a head for each task outweigh few files",
            ),
            Figure(
                name="requests: ours, files as objects, over the POC's",
                value=same(alone.request_count / poc.request_count),
                unit="×",
                ceiling="1.0",
                note="Each file is one PUT and one GET whoever sends them: only packing changes that.",
            ),
        ]
        for timing in (poc, packed, alone):
            each = _THOUSAND / len(_TASKS)
            found += [
                Figure(
                    name=f"{timing.name}: requests of 1,000 tasks",
                    value=same(timing.request_count * each),
                    unit="requests",
                ),
                Figure(
                    name=f"{timing.name}: dollars for requests of 1,000 tasks",
                    value=same(table.s3.requests(timing.requests) * each),
                    unit="$",
                    note=str(table),
                ),
            ]
        return found
