"""Contenders that run a small task, 1 MB in and 1 MB out: what ``p13`` and ``p16`` share."""

from __future__ import annotations

import tempfile
import uuid

from benchmarks import scratch
from benchmarks.contender import Contender, Sink
from benchmarks.origin import Door, some_bytes
from benchmarks.reading import RUN
from datalayer import RunId, TaskKey

SIZE = 1_000_000
UPSTREAM = TaskKey("bench", "small", "upstream", RUN)


def publish_upstream(door: Door) -> None:
    """Publish the 1 MB that the tasks read."""
    with door.layer().publish(UPSTREAM) as attempt:
        attempt.output().put("in", some_bytes(SIZE))


class Task(Contender):
    """Ours: resolve, read verified, claim, write, commit."""

    name = "datalayer task"
    settings = "resolve the upstream, read_bytes, publish with lineage, put, commit"
    group = "task"
    pinned: int | None = None

    def open(self, door: Door) -> None:
        self.layer = door.layer()

    def prepare(self) -> None:
        self.key = TaskKey("bench", "small", "task", RunId(uuid.uuid4().hex))

    def run(self, sink: Sink) -> None:
        upstream = self.layer.resolve(UPSTREAM, attempt=self.pinned)
        data = upstream["default"].read_bytes("in")
        with self.layer.publish(self.key, inputs=[upstream.pin("upstream")]) as attempt:
            attempt.output().put("out", data)

    def check(self, sink: Sink) -> None:
        sink.take(self.layer.resolve(self.key)["default"].read_bytes("out"))


class PinnedTask(Task):
    """Ours, where the input comes pinned and its manifest is remembered, as in every task of a run but the first on a machine."""

    name = "datalayer task, pinned input"
    settings = "as above, with attempt=1 and config cache=folder"
    pinned = 1

    def open(self, door: Door) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix=scratch.prefix())
        door.layer(cache=self.folder.name).resolve(UPSTREAM, attempt=1)
        self.layer = door.layer(cache=self.folder.name)

    def close(self) -> None:
        self.folder.cleanup()


class Bare(Contender):
    """The same bytes without any safety: one get, one put."""

    name = "bare get and put"
    settings = "obstore get and put, no claim, no manifest, no checksum"
    group = "task"

    def open(self, door: Door) -> None:
        self.store = door.obstore()

    def prepare(self) -> None:
        self.path = f"bare/{uuid.uuid4().hex}"

    def run(self, sink: Sink) -> None:
        import obstore

        obstore.put(self.store, self.path, obstore.get(self.store, f"root{UPSTREAM}/attempts/1/default/in").bytes())

    def check(self, sink: Sink) -> None:
        import obstore

        sink.take(obstore.get(self.store, self.path).bytes())
