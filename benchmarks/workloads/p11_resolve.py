"""P11: from a key to its committed attempt.

Ours: a pinned resolve repeated in one process; the first one of a new process that finds the manifest in the `cache` folder, alone and together with
the making of the layer; and a resolve that asks the store, which is one request. Rival: an S3 ``exists()``, as obstore's ``head`` with a warm
connection. On loopback a request costs well under a millisecond, so both are also measured with each request delayed by 30 ms, the median first
byte of S3 (*emulated*). Goals: 2 µs repeated, 60 µs in a new process, 1 request cold, 10,000 times as fast as ``exists()``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import scratch
from benchmarks.contender import Contender, Sink
from benchmarks.front import Limits
from benchmarks.origin import Door
from benchmarks.reading import RUN
from benchmarks.results import Figure, Spread, Timing, paired, same
from benchmarks.workload import Workload
from datalayer import TaskKey

_AFAR = Limits(first_byte=0.030)


class _Resolves(Contender):
    group = "resolve"

    def __init__(self, key: TaskKey, cache: str) -> None:
        self.key = key
        self.cache = cache

    def open(self, door: Door) -> None:
        self.layer = door.layer()

    def check(self, sink: Sink) -> None:
        sink.take(self.layer.resolve(self.key, attempt=1).document)


class Repeated(_Resolves):
    """A pinned resolve, again and again."""

    name = "pinned, repeated"
    settings = "layer.resolve(key, attempt=1), in one process"
    times = 100_000

    def open(self, door: Door) -> None:
        super().open(door)
        self.layer.resolve(self.key, attempt=1)

    def run(self, sink: Sink) -> None:
        resolve, key = self.layer.resolve, self.key
        for _ in range(self.times):
            resolve(key, attempt=1)


class NewProcess(_Resolves):
    """The first resolve of a process, the library imported and the layer made."""

    name = "pinned, new process"
    settings = "layer.resolve(key, attempt=1) once, config cache=folder, in a fresh process"
    in_new_process = True
    # No process is any warmer for one before it.
    warmed_by_preparing = True

    def open(self, door: Door) -> None:
        self.layer = door.layer(cache=self.cache)

    def run(self, sink: Sink) -> None:
        self.layer.resolve(self.key, attempt=1)


class NewLayer(NewProcess):
    """The same with the layer still to be made, as a program begins that resolves one key."""

    name = "layer made and pinned, new process"
    settings = "DataLayer(Config.from_mapping(…)).resolve(key, attempt=1) once, config cache=folder, the library imported, in a fresh process"

    def open(self, door: Door) -> None:
        self.door = door

    def run(self, sink: Sink) -> None:
        self.layer = self.door.layer(cache=self.cache)
        self.layer.resolve(self.key, attempt=1)


class Asking(_Resolves):
    """A resolve that is not pinned, so that the store is asked."""

    name = "asking the store"
    settings = "layer.resolve(key), warm connection"
    times = 100

    def run(self, sink: Sink) -> None:
        for _ in range(self.times):
            self.layer.resolve(self.key)


class Exists(_Resolves):
    """S3's answer to whether an object is there."""

    name = "exists()"
    settings = "obstore head, warm connection"
    times = 100

    def open(self, door: Door) -> None:
        super().open(door)
        self.store = door.obstore()

    def run(self, sink: Sink) -> None:
        import obstore

        for _ in range(self.times):
            obstore.head(self.store, f"root{self.key}/manifest.json")


class AskingAfar(Asking):
    """The same, with S3's latency."""

    name = "asking the store, 30 ms away"
    settings = "layer.resolve(key), emulated first byte 30 ms"
    times = 5
    limits = _AFAR


class ExistsAfar(Exists):
    """The same, with S3's latency."""

    name = "exists(), 30 ms away"
    settings = "obstore head, emulated first byte 30 ms"
    times = 5
    limits = _AFAR


class Resolve(Workload):
    """A key, found."""

    name = "p11"
    row = "P11"
    measures = "resolving a key whose output has one file"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=11, bench=5, quick=5, tiny=1)

    def prepare(self, door: Door) -> None:
        self.key = TaskKey("bench", "resolving", "one", RUN)
        # The layers of both doors, the server's own and the counting one, share it: a home is told by bucket and prefix.
        self.folder = tempfile.TemporaryDirectory(prefix=scratch.prefix())
        self.cache = self.folder.name
        layer = door.layer()
        with layer.publish(self.key) as attempt:
            attempt.output().put("part-0", b"one")
        door.layer(cache=self.cache).resolve(self.key, attempt=1)
        if not any(Path(self.cache).rglob("*@1")):
            raise RuntimeError("the manifest was not remembered")

    def close(self) -> None:
        self.folder.cleanup()

    def contenders(self) -> Sequence[Contender]:
        kinds = (Repeated, NewProcess, NewLayer, Asking, Exists, AskingAfar, ExistsAfar)
        return [kind(self.key, self.cache) for kind in kinds]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        repeated, asking, exists = (timings[kind.name] for kind in (Repeated, Asking, Exists))
        against_exists = {
            "on loopback": (repeated, exists, False),
            "30 ms away, emulated": (repeated, timings[ExistsAfar.name], True),
        }
        return [
            Figure(name="pinned, repeated", value=_micro(repeated.wall), unit="µs", at_most=2),
            Figure(
                name="pinned, new process",
                value=_micro(timings[NewProcess.name].wall),
                unit="µs",
                at_most=60,
                note="decoders are made, and their code is run once, when the layer is made. What is left is one read of a file and "
                "one pass of its JSON, with the processor's caches cold: see the figure below for both together",
            ),
            Figure(
                name="layer made and first resolve together, new process",
                value=_micro(timings[NewLayer.name].wall),
                unit="µs",
                note="what is done when the layer is made, so that the figure above is small, is in this one; the import is P12's. Most of it loads "
                "the modules of the store, which a remembered resolve does not ask; next step: load them with the first request",
            ),
            Figure(
                name="requests of the first resolve in a new process, remembered",
                value=same(timings[NewProcess.name].request_count),
                unit="requests",
                at_most=0,
            ),
            Figure(name="requests, asking", value=same(asking.request_count), unit="requests", at_most=1, ceiling="1"),
            Figure(
                name="asking, against exists()",
                value=paired(asking, exists, lambda mine, theirs: mine.wall / theirs.wall),
                unit="× its time",
                ceiling="1.0",
            ),
            *(
                Figure(
                    name=f"pinned, repeated: speed against exists() {where}",
                    value=paired(mine, theirs, lambda a, b: b.wall / a.wall),
                    unit="×",
                    at_least=10_000 if emulated else None,
                    emulated=emulated,
                )
                for where, (mine, theirs, emulated) in against_exists.items()
            ),
        ]


def _micro(spread: Spread) -> Spread:
    return Spread(spread.median * 1e6, spread.low * 1e6, spread.high * 1e6)
