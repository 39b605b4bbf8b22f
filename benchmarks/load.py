"""``Crowd``: many tasks that commit and resolve as they come, whether or not those before them are done: what ``scale`` runs."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec

from benchmarks.contender import Contender, Sink
from benchmarks.origin import Door
from benchmarks.reading import RUN
from benchmarks.worker import Ran, Worker, working
from datalayer import DataLayerError, RunId, TaskKey

_THREADS = 96
_FILLERS = 32
_DATA = b"one small file\n"


class Answers(msgspec.Struct):
    """What one process of a crowd was told."""

    resolves: list[float] = []
    """Seconds from when it was due."""
    commits: list[float] = []
    committed: list[int] = []
    """The numbers of the tasks whose commit was acknowledged."""
    failures: list[str] = []


@dataclass(frozen=True)
class Rates:
    """What comes each second, on average."""

    commits: float
    resolves: float


def key_of(number: int, run: str | RunId = RUN) -> TaskKey:
    """Return the key of one of very many outputs: of 20 teams, with 50 DAGs each."""
    return TaskKey(f"team-{number % 20}", f"dag-{number // 20 % 50}", f"task-{number // 1000}", run)


class Load(Contender):
    """One process. Arrivals are random and seeded; each is answered by a thread, and what waits for one counts as waiting.

    Args:
        number: Which process.
        rates: What comes to it.
        seconds: For how long.
        outputs: How many there are to resolve.
        run: Tells this load's commits from others.
        file: Where the answers are left.
    """

    name = "load"
    settings = ""

    def __init__(self, number: int, rates: Rates, seconds: float, outputs: int, run: str, file: Path) -> None:
        self.number = number
        self.rates = rates
        self.seconds = seconds
        self.outputs = outputs
        self.run_id = run
        self.file = file

    def open(self, door: Door) -> None:
        self.layer = door.layer()

    def run(self, sink: Sink) -> None:
        self.answers, self.lock = Answers(), threading.Lock()
        began = time.perf_counter()
        with ThreadPoolExecutor(_THREADS) as pool:
            for due, commit, number in self.arrivals():
                if (ahead := began + due - time.perf_counter()) > 0:
                    time.sleep(ahead)
                pool.submit(self.commit if commit else self.resolve, number, began + due)
        self.file.write_bytes(msgspec.json.encode(self.answers))

    def arrivals(self) -> Iterator[tuple[float, bool, int]]:
        """Yield when something comes, whether it commits, and which task it is."""
        chance = random.Random(self.number)  # noqa: S311  # no secret
        both = self.rates.commits + self.rates.resolves
        due, commits = 0.0, 0
        while (due := due + chance.expovariate(both)) < self.seconds:
            if chance.random() < self.rates.commits / both:
                commits += 1
                yield due, True, self.number * 1_000_000 + commits
            else:
                yield due, False, chance.randrange(self.outputs)

    def resolve(self, number: int, due: float) -> None:
        """Ask for one output, as the first task that reads it does."""
        with self.noted(self.answers.resolves, due):
            self.layer.resolve(key_of(number))

    def commit(self, number: int, due: float) -> None:
        """Claim, write one small file, and commit."""
        with self.noted(self.answers.commits, due):
            with self.layer.publish(key_of(number, RunId(self.run_id))) as attempt:
                attempt.output().put("part", _DATA)
            with self.lock:
                self.answers.committed.append(number)

    @contextlib.contextmanager
    def noted(self, waits: list[float], due: float) -> Iterator[None]:
        """Note how long it took since it was due, or why it failed."""
        try:
            yield
        except DataLayerError as error:
            with self.lock:
                self.answers.failures.append(f"{type(error).__name__}: {error}")
        else:
            with self.lock:
                waits.append(time.perf_counter() - due)


class Crowd(Contender):
    """Some processes of load, on a deployment that has a number of outputs already.

    Args:
        server: The server itself, by which the outputs are brought there.
        outputs: How many.
        before: How many of them are there already.
        rates: What comes to all processes together.
        seconds: For how long.
        results: A folder for the answers.
        processes: How many.
        isolated: Without, they are threads, which measures nothing of worth.
    """

    in_children = True

    def __init__(
        self,
        server: Door,
        outputs: int,
        *,
        before: int,
        rates: Rates,
        seconds: float,
        results: Path,
        processes: int,
        isolated: bool,
    ) -> None:
        self.name = self.group = f"{outputs:,} outputs"
        self.settings = (
            f"{rates.commits:g} commits and {rates.resolves:g} unpinned resolves a second for {seconds:g} s, arriving at random, from {processes} "
            f"processes of {_THREADS} threads; each commit claims, writes one file and commits"
        )
        self.server = server
        self.outputs = outputs
        self.before = before
        self.files = [results / f"{outputs}-{number}.json" for number in range(processes)]
        share = Rates(rates.commits / processes, rates.resolves / processes)
        self.loads = [
            Load(number, share, seconds, outputs, f"run-{outputs}", file) for number, file in enumerate(self.files)
        ]
        self.isolated = isolated

    def open(self, door: Door) -> None:
        self.running = contextlib.ExitStack()
        self.workers: list[Worker] = [
            self.running.enter_context(working(load, door, isolated=self.isolated)) for load in self.loads
        ]

    def prepare(self) -> None:
        fill(self.server, self.before, self.outputs)

    def run(self, sink: Sink) -> None:
        for worker in self.workers:
            worker.begin("run", False, ())
        self.children_cpu = sum(cast("Ran", worker.answer("run")).sample.cpu for worker in self.workers)

    def check(self, sink: Sink) -> None:
        # Each acknowledged commit is asked for: the server's own answer, past the emulation.
        layer = self.server.layer()
        run = RunId(self.loads[0].run_id)
        found = [msgspec.json.decode(file.read_bytes(), type=Answers) for file in self.files]

        def there(number: int) -> bool:
            try:
                return layer.resolve(key_of(number, run))["default"].read_bytes("part") == _DATA
            except DataLayerError:
                return False

        committed = [number for answers in found for number in answers.committed]
        with ThreadPoolExecutor(_FILLERS) as pool:
            lost = list(pool.map(there, committed)).count(False)
        total = Answers()
        for answers in found:
            total.resolves += answers.resolves
            total.commits += answers.commits
            total.failures += answers.failures
        outcome = Outcome(total.resolves, total.commits, total.failures, lost)
        answers_file(self.files[0].parent, self.outputs).write_bytes(msgspec.json.encode(outcome))
        sink.take(f"{lost} lost".encode())

    def close(self) -> None:
        self.running.close()


class Outcome(msgspec.Struct):
    """What a crowd was told, all processes together."""

    resolves: list[float]
    commits: list[float]
    failures: list[str]
    lost: int
    """Commits that were acknowledged, and whose output is not there, or not whole."""


def answers_file(folder: Path, outputs: int) -> Path:
    """Return where a crowd leaves its outcome."""
    return folder / f"{outputs}.json"


def fill(door: Door, start: int, end: int) -> None:
    """Bring the heads of outputs to a deployment: one PUT each, without the claims and files, that no resolve asks for."""
    layer, store = door.layer(), door.obstore()
    first = key_of(0)
    if not start:
        with layer.publish(first) as attempt:
            attempt.output().put("part", _DATA)
    text = bytes(store.get(f"root{first}/manifest.json").bytes()).decode()

    def put(number: int) -> None:
        key = str(key_of(number))
        store.put(f"root{key}/manifest.json", text.replace(str(first), key).encode())

    with ThreadPoolExecutor(_FILLERS) as pool:
        for _ in pool.map(put, range(max(start, 1), end)):
            pass
