"""Processes that read an output all at once, compare every byte, and may be killed at any moment."""

from __future__ import annotations

import contextlib
import logging
import mmap
import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from datalayer import Config, DataLayer, TaskKey
from datalayer.resolve.output import ResolvedOutput
from datalayer.stores.node_cache import serving

# More than one page, block, and window of one; and some that are none of these.
SIZES = {"tiny": 1000, "page": 300 << 10, "some": 1200 << 10, "more": 2500 << 10, "long": (9 << 20) + 5, "empty": 0}
TOTAL = sum(SIZES.values())
_Made = TypeVar("_Made")
_REPORT_EVERY = 5
_STUCK_SECONDS = 120.0


def content(name: str) -> bytes:
    """The bytes of a file: always the same, and no two pages alike."""
    return random.Random(name).randbytes(SIZES[name])


class Toucher(Protocol):
    """What a process reads with."""

    def read(self, name: str, data: bytes, dice: random.Random) -> bool:
        """Read all or a part of a file; False where a byte is wrong."""


class ThroughLayer:
    """Reads by way of a layer, in all the ways there are."""

    def __init__(self, config: Config, key: TaskKey) -> None:
        # Only what this machine is too busy for takes so long here.
        serving._PATIENCE_SECONDS = _STUCK_SECONDS
        self.layer = DataLayer(config)
        self.key = key

    def output(self) -> ResolvedOutput:
        return self.layer.resolve(self.key, attempt=1)["default"]

    def read(self, name: str, data: bytes, dice: random.Random) -> bool:
        output = self.output()
        way = dice.choice(("bytes", "stream", "file", "range", "path"))
        if way == "bytes":
            return output.read_bytes(name) == data
        if way == "stream":
            return b"".join(output.stream(name)) == data
        start = dice.randrange(len(data) + 1)
        end = dice.randrange(start, len(data) + 1)
        if way == "file":
            with output.open(name) as file:
                file.seek(start)
                return file.read(end - start) == data[start:end]
        if way == "range":
            store, path = output.store_path(name)
            return store.get_range(path, start, end - start) == data[start:end]
        path_ = output.local_path(name)
        return path_ is None or _mapped_right(path_, data)


def _mapped_right(path: Path, data: bytes) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if not data:
            return os.fstat(file.fileno()).st_size == 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return mapped[:] == data
    return True  # Evicted between the answer and the look.


class ThroughSimpleCache:
    """The rival: fsspec's simplecache over s3fs, in one folder for all."""

    def __init__(self, options: dict[str, Any], bucket_path: str, folder: str) -> None:
        import fsspec

        self.filesystem = fsspec.filesystem(
            "simplecache",
            target_protocol="s3",
            target_options=options,
            cache_storage=folder,
            skip_instance_cache=True,
        )
        self.bucket_path = bucket_path

    def read(self, name: str, data: bytes, dice: random.Random) -> bool:
        start = dice.randrange(len(data) + 1)
        with self.filesystem.open(f"{self.bucket_path}/{name}", "rb") as file:
            file.seek(start)
            found: bytes = file.read()
        return found == data[start:]


def touch_all(pipe: Connection, make: Callable[[], ThroughLayer], seed: int) -> None:
    """Read every file once, when told to, each whole; report which were wrong, the misses, and whether the folder has a path."""
    toucher = make()
    names = list(SIZES)
    random.Random(seed).shuffle(names)
    expected = {name: content(name) for name in names}
    toucher.output()
    pipe.send("ready")
    pipe.recv()
    output = toucher.output()
    wrong = [name for name in names if b"".join(output.stream(name)) != expected[name]]
    tiers = toucher.layer.receipt.by_tier()
    pipe.send((wrong, tiers["hot"].misses, output.path is not None))


def touch_on(pipe: Connection, make: Callable[[], Toucher], seed: int) -> None:
    """Read again and again until told to stop; report counts of reads, of wrong ones, and of failures by what they were."""
    dice = random.Random(seed)
    warnings: list[str] = []
    logging.getLogger("datalayer").addHandler(_Listing(warnings))
    toucher = make()
    expected = {name: content(name) for name in SIZES}
    counts: Counter[str] = Counter()
    while not pipe.poll():
        for _ in range(_REPORT_EVERY):
            name = dice.choice(list(SIZES))
            try:
                right = toucher.read(name, expected[name], dice)
            except Exception as error:  # noqa: BLE001  # counted, whatever it is
                counts[f"{type(error).__name__}: {str(error)[:150]}"] += 1
                continue
            counts["right" if right else "wrong"] += 1
        counts.update(f"warned: {warning}" for warning in warnings)
        warnings.clear()
        pipe.send(counts)
        counts = Counter()


class _Listing(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__()
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())


class Crowd(Generic[_Made]):
    """Context manager: many processes that do one thing, forked from a clean one that has loaded everything."""

    def __init__(
        self, run: Callable[[Connection, Callable[[], _Made], int], None], make: Callable[[], _Made], size: int
    ) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "obstore.store", "pyarrow.fs", "s3fs"])
        self._run, self._make = run, make
        self._seeds = iter(range(1_000_000))
        self.members: dict[Connection, ForkServerProcess] = {}
        self._size = size

    def __enter__(self) -> Self:
        for _ in range(self._size):
            self.add()
        return self

    def add(self) -> None:
        """Start another process."""
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=self._run, args=(theirs, self._make, next(self._seeds)), daemon=True)
        process.start()
        theirs.close()
        self.members[mine] = process

    def kill(self, pipe: Connection) -> None:
        """Kill a process as the kernel does, and forget it."""
        process = self.members.pop(pipe)
        process.kill()
        process.join()
        process.close()
        pipe.close()

    def told(self, seconds: float) -> Iterator[tuple[Connection, Any]]:
        """Yield what processes say within some time; the word of one that ended by itself is an error."""
        for pipe in wait(list(self.members), seconds):
            assert isinstance(pipe, Connection)
            try:
                yield pipe, pipe.recv()
            except EOFError:
                process = self.members[pipe]
                process.join()
                raise AssertionError(f"a reader ended by itself with exit code {process.exitcode}") from None

    def all_say(self) -> list[Any]:
        """Return what each of them says next."""
        said: dict[Connection, Any] = {}
        while len(said) < len(self.members):
            for pipe in wait([pipe for pipe in self.members if pipe not in said]):
                assert isinstance(pipe, Connection)
                said[pipe] = pipe.recv()
        return list(said.values())

    def tell(self, what: str) -> None:
        """Say something to all of them."""
        for pipe in self.members:
            pipe.send(what)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in list(self.members):
            self.kill(pipe)


def chaos(
    make: Callable[[], Toucher], evict: Callable[[random.Random], None], *, processes: int, reads: int, kills: int
) -> Counter[str]:
    """Let processes read on while copies are evicted and processes killed, until there were so many reads and kills; return the counts."""
    dice = random.Random(1)
    counts: Counter[str] = Counter()
    over = threading.Event()

    def evict_on() -> None:
        while not over.wait(0.005):
            evict(dice)
            counts["evicted"] += 1

    evicting = threading.Thread(target=evict_on)
    evicting.start()
    try:
        with Crowd(touch_on, make, processes) as crowd:
            next_kill = time.monotonic()
            while counts["right"] + counts["wrong"] < reads or counts["killed"] < kills:
                for _, said in crowd.told(0.02):
                    counts += said
                if counts["right"] and time.monotonic() > next_kill:
                    crowd.kill(dice.choice(list(crowd.members)))
                    crowd.add()
                    counts["killed"] += 1
                    next_kill = time.monotonic() + dice.random() / 5
    finally:
        over.set()
        evicting.join()
    return counts
