"""P6: knowing the 100,000 files of an output: their names, lengths and checksums.

Ours: the manifest and its index, resolved anew in each round. Rivals: LIST, page after page, by boto3 and by obstore; and LIST of 100 prefixes that
are known beforehand, 16 at once, as a tuned program does. Page after page, smaller runs list the first prefixes only (``part``); the parallel LIST
lists all, save in the quick run, which writes objects only for the first: a few are listed in a single wave, whose wait extrapolation would
multiply, so that it has no goal there. Goals: 80 times the serial LIST, no LIST at all, 5 times the parallel one. Ceiling: two round trips, some 150
times.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from benchmarks.contender import Contender, Sink
from benchmarks.front import STD
from benchmarks.origin import Door
from benchmarks.reading import RUN
from benchmarks.results import Figure, Timing, fastest, same, speed_figure
from benchmarks.workload import Scale, Workload
from datalayer import TaskKey
from datalayer.commit.manifest import Entry

_KEY = TaskKey("bench", "know", "files", RUN)
_FOLDER = f"root{_KEY}/attempts/1/default"
_PREFIXES = 100
_AT_ONCE = 16
# A name, a slash, and what every name has in common.
_LINE = len("00/000\n")


def _name(prefix: int, number: int) -> str:
    return f"{prefix:02}/{number:03}"


class _Know(Contender):
    group = "names"

    def __init__(self, prefixes: int, each: int) -> None:
        self.prefixes = prefixes
        self.names = prefixes * each
        self.part = prefixes / _PREFIXES

    def give(self, names: Iterable[str], sink: Sink) -> None:
        """Give the sink the names, one a line: no more than are looked for, so that no page is asked for behind them."""
        sink.take("".join([f"{name}\n" for name in itertools.islice(names, self.names)]).encode())


class Index(_Know):
    """Ours."""

    name = "datalayer files"
    settings = "layer.resolve(key)['default'].files, resolved anew: names, lengths, checksums"

    def open(self, door: Door) -> None:
        self.door = door

    def prepare(self) -> None:
        self.layer = self.door.layer()

    def run(self, sink: Sink) -> None:
        self.give(self.layer.resolve(_KEY)["default"].files, sink)


class ObstoreList(_Know):
    """LIST, page after page."""

    name = "obstore LIST"
    settings = "list(prefix, chunk_size=1000), page after page, as a LIST without known prefixes has to be"

    def open(self, door: Door) -> None:
        self.store = door.obstore()

    def run(self, sink: Sink) -> None:
        import obstore

        pages = obstore.list(self.store, _FOLDER, chunk_size=1000)
        self.give((info["path"].removeprefix(f"{_FOLDER}/") for page in pages for info in page), sink)


class Boto3List(_Know):
    """LIST, page after page, as the POC does it."""

    name = "boto3 LIST"
    settings = "list_objects_v2, a paginator of pages of 1,000"

    def open(self, door: Door) -> None:
        self.client = door.boto3()
        self.bucket = door.bucket

    def run(self, sink: Sink) -> None:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{_FOLDER}/")
        self.give((info["Key"].removeprefix(f"{_FOLDER}/") for page in pages for info in page["Contents"]), sink)


class ParallelList(_Know):
    """LIST of prefixes that somebody knows beforehand."""

    name = "obstore LIST, prefixes known"

    def __init__(self, prefixes: int, each: int, at_once: int) -> None:
        super().__init__(prefixes, each)
        self.at_once = at_once
        self.settings = f"list of {_PREFIXES} prefixes of 1,000 objects, known beforehand, {at_once} at once, pool 128"

    def open(self, door: Door) -> None:
        self.store = door.obstore()

    def run(self, sink: Sink) -> None:
        import obstore

        async def all_of_them() -> list[list[str]]:
            turns = asyncio.Semaphore(self.at_once)

            async def one(prefix: int) -> list[str]:
                async with turns:
                    infos = await obstore.list(self.store, f"{_FOLDER}/{prefix:02}").collect_async()
                return [info["path"].removeprefix(f"{_FOLDER}/") for info in infos]

            return list(await asyncio.gather(*map(one, range(self.prefixes))))

        self.give(sorted(name for names in asyncio.run(all_of_them()) for name in names), sink)


class KnowFiles(Workload):
    """The index against LIST."""

    name = "p6"
    row = "P6"
    limits = STD

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        # Two first bytes are most of ours: they are to be others in each round.
        self.counted_apart = scale is not Scale.TINY
        self.written = scale.pick(full=_PREFIXES, bench=_PREFIXES, quick=8, tiny=2)
        self.in_loop = scale.pick(full=_PREFIXES, bench=_AT_ONCE, quick=5, tiny=1)
        self.at_once = min(_AT_ONCE, self.written)
        self.each = scale.pick(full=1000, bench=1000, quick=1000, tiny=3)
        self.marks = tuple(sorted({prefixes * self.each * _LINE for prefixes in (self.in_loop, self.written)}))
        self.measures = f"{_PREFIXES * self.each:,} files of an output known, emulated S3"

    @property
    def rounds(self) -> int:
        return self.scale.pick(full=7, bench=3, quick=1, tiny=1)

    def prepare(self, door: Door) -> None:
        import obstore

        store = door.obstore()
        with door.layer().publish(_KEY) as attempt, ThreadPoolExecutor(32) as pool:
            names = [_name(prefix, number) for prefix in range(_PREFIXES) for number in range(self.each)]
            attempt.output().adopt(Entry(name, 0, "crc32c:00000000") for name in names)
            written = names[: self.written * self.each]
            list(pool.map(lambda name: obstore.put(store, f"{_FOLDER}/{name}", b""), written))

    def contenders(self) -> Sequence[Contender]:
        return [
            Index(_PREFIXES, self.each),
            ObstoreList(self.in_loop, self.each),
            Boto3List(self.in_loop, self.each),
            ParallelList(self.written, self.each, self.at_once),
        ]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        ours, parallel = timings[Index.name], timings[ParallelList.name]
        serial = fastest(timings, [ObstoreList.name, Boto3List.name])
        pages = _PREFIXES * self.each / 1000
        fewer = "" if self.each == 1000 else f"Of {_PREFIXES * self.each:,} files only: {pages:g} pages. "
        wait = 1e3 * STD.first_byte
        own = 1e3 * ours.wall.median - 2 * wait
        note = (
            f"{fewer}Ours waits for two first bytes (2 × {wait:g} ms), and {own:.0f} ms go into {ours.bytes_down / 1e6:.1f} MB on the line, "
            f"unpacking and checking {_PREFIXES * self.each:,} entries. Next: ask for the index beside the head, as soon as its name can be known."
        )
        whole = self.written == _PREFIXES
        beside = speed_figure(
            f"speed against LIST of known prefixes, {self.at_once} at once",
            ours,
            parallel,
            at_least=5 if whole else None,
            note=note,
        )
        if not whole:
            why = (
                f"no goal at this scale: {self.written} of {_PREFIXES} prefixes are listed, all at once, and the extrapolation counts that one wait "
                f"{_PREFIXES / self.written:g} times: the rival looks slower than it is. The larger runs list all"
            )
            beside = msgspec.structs.replace(beside, note=why)
        return [
            speed_figure(
                f"speed against LIST page after page ({serial.name})",
                ours,
                serial,
                at_least=80,
                ceiling="150",
                note=note,
            ),
            Figure(
                name="LIST requests",
                value=same(ours.requests.get("LIST", 0)),
                unit="requests",
                at_most=0,
                ceiling="0",
            ),
            beside,
        ]
