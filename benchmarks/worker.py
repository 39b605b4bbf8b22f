"""A contender's own process: it runs when it is told to, and says what the run took."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import resource
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import msgspec

from benchmarks.contender import Contender, Delivered, Sink
from benchmarks.origin import Door
from benchmarks.results import Sample

LIMIT = 900.0
"""Seconds that one step of a contender may take."""
LAST_WORDS = 4096
"""Bytes of what a failed contender wrote to its standard error that are shown."""


class BenchmarkError(Exception):
    """A contender failed, hung, or delivered other bytes."""


class Ran(msgspec.Struct, frozen=True):
    """What one run took and delivered."""

    sample: Sample
    delivered: int


class Worker:
    """The parent's end: ``prepare()``, ``run()``, ``check()`` in the contender's process."""

    def __init__(self, contender: Contender, pipe: Connection, log: Path | None = None) -> None:
        self._contender = contender
        self._pipe = pipe
        self._log = log

    def prepare(self) -> None:
        """Make ready for one run."""
        self.ask("prepare")

    def run(self, *, check: bool = False, marks: tuple[int, ...] = ()) -> Ran:
        """Do the work once (or ``times`` times, or a ``part`` of it) and return what once took."""
        return cast("Ran", self.ask("run", check, marks))

    def check(self) -> Delivered:
        """Return length and checksum of what the last run delivered."""
        return cast("Delivered", self.ask("check"))

    def begin(self, step: str, *arguments: object) -> None:
        """Have a step done, without waiting: several workers can be at it at once."""
        with contextlib.suppress(ConnectionError):  # said when the answer is asked for
            self._pipe.send((step, *arguments))

    def ask(self, step: str, *arguments: object) -> object:
        """Have a step done, and return its answer.

        Raises:
            BenchmarkError: It failed, or took longer than the limit.
        """
        self.begin(step, *arguments)
        return self.answer(step)

    def answer(self, step: str) -> object:
        """Return the answer to a step that was begun.

        Raises:
            BenchmarkError: It failed, or took longer than the limit.
        """
        try:
            if not self._pipe.poll(LIMIT):
                late = BenchmarkError(f"{self._contender.name}: {step} took longer than {LIMIT:.0f} s")
                raise self._with_last_words(late)
            answer, failure, trace = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise self._with_last_words(
                BenchmarkError(f"{self._contender.name}: its process died in {step}")
            ) from error
        if failure:
            failed = BenchmarkError(f"{self._contender.name}: {step} failed: {failure}")
            # For the terminal only: a report is shown to others, and holds no paths of this machine.
            failed.add_note(trace)
            raise self._with_last_words(failed)
        return answer

    def _with_last_words(self, failed: BenchmarkError) -> BenchmarkError:
        if self._log and (words := self._log.read_bytes()[-LAST_WORDS:].decode(errors="replace").strip()):
            failed.add_note(f"its standard error ends with:\n{words}")
        return failed


@contextlib.contextmanager
def working(contender: Contender, door: Door, *, isolated: bool = True) -> Iterator[Worker]:
    """A contender, opened in a process of its own, that ends with the block.

    Args:
        contender: What is to work there.
        door: Its way to the server.
        isolated: Without, it works in a thread of this process, which starts at once and measures nothing of worth.

    Raises:
        BenchmarkError: It could not be opened.
    """
    # Spawned, not forked: it must not inherit the parent's threads, nor its memory.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="datalayer-bench-log-") as folder:
        if isolated and not contender.here:
            log = Path(folder) / "stderr"
            log.touch()
            end = _start_process(contender, door, theirs, log)
        else:
            log = None
            end = _start_thread(contender, door, theirs)
        try:
            worker = Worker(contender, ours, log)
            worker.ask("open")
            yield worker
        finally:
            ours.close()
            end()


def _start_process(contender: Contender, door: Door, pipe: Connection, log: Path) -> Callable[[], None]:
    process = multiprocessing.get_context("spawn").Process(
        target=_serve_apart, args=(contender, door, pipe, log), name=contender.name, daemon=not contender.in_children
    )
    process.start()
    pipe.close()

    def end() -> None:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()

    return end


def _start_thread(contender: Contender, door: Door, pipe: Connection) -> Callable[[], None]:
    def serve() -> None:
        with pipe:
            _serve(contender, door, pipe)

    thread = threading.Thread(target=serve, name=contender.name, daemon=True)
    thread.start()
    return thread.join


def _serve_apart(contender: Contender, door: Door, pipe: Connection, log: Path) -> None:
    # What a JVM and its like say there would run across the progress shown; it is shown where the contender fails.
    with log.open("ab", buffering=0) as stderr:
        os.dup2(stderr.fileno(), 2)
    _serve(contender, door, pipe)


def _serve(contender: Contender, door: Door, pipe: Connection) -> None:
    try:
        _answer(contender, door, pipe)
    finally:
        contender.close()


def _answer(contender: Contender, door: Door, pipe: Connection) -> None:
    sink = Sink()
    while True:
        try:
            step, *arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        answer: Any = None
        failure = trace = ""
        try:
            if step == "open":
                contender.open(door)
            elif step == "prepare":
                contender.prepare()
            elif step == "run":
                check, marks = arguments
                sink = Sink(check=check, marks=marks)
                answer = _timed(contender, sink)
            else:
                contender.check(sink)
                answer = sink.delivered()
        except KeyboardInterrupt:
            # It came to the whole process group: the parent says so.
            return
        except Exception as error:  # noqa: BLE001  # the parent raises it
            failure, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
        with contextlib.suppress(BrokenPipeError):
            pipe.send((answer, failure, trace))


def _timed(contender: Contender, sink: Sink) -> Ran:
    gc.collect()
    idle = _forget_peak()
    cpu, wall = _cpu_seconds(), time.perf_counter()
    contender.run(sink)
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu + contender.children_cpu
    peak = contender.children_peak if contender.in_children else _status("VmHWM")
    times = contender.times * contender.part
    sample = Sample(wall / times, cpu / times, peak, None if contender.in_children else idle, dict(contender.seen))
    return Ran(sample, sink.length)


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _forget_peak() -> int:
    # Where the kernel does not let us, the peak is the process's, which does nothing but this work.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) << 10
    raise LookupError(field)
