"""``OwnData``: a sample of the user's own data, copied before an emulated S3 and read by some processes of one machine under each design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from benchmarks.contender import Contender
from benchmarks.fanout import FanOut
from benchmarks.origin import Door
from benchmarks.own.readers import Cached, Downloaded, InTheirFolder, Reader, SharedEfs, Warmed
from benchmarks.own.source import Piece, Source
from benchmarks.reading import RUN
from benchmarks.results import Figure, Timing, speed_against
from benchmarks.workload import Scale, Workload
from datalayer import DataLayer, TaskKey

_KEY = TaskKey("own", "data", "sample", RUN)


class OwnData(Workload):
    """The designs on one source.

    Args:
        source: The data.
        pieces: The sample of them.
        readers: How many processes read at once.
        columns: Which columns they read; without any, all bytes.
        rounds: How often each design is timed.
        efs: Whether an emulated EFS volume is tried, too.
    """

    name = "own"
    measures = "the designs on a sample of your own data"
    counted_apart = False

    def __init__(
        self, source: Source, pieces: Sequence[Piece], *, readers: int, columns: Sequence[str], rounds: int, efs: bool
    ) -> None:
        super().__init__(Scale.FULL)
        self.source = source
        self.pieces = list(pieces)
        self.readers = readers
        self.columns = list(columns)
        self.limits = source.limits
        self.efs = efs
        self.isolated = True
        self._rounds = rounds

    @property
    def rounds(self) -> int:
        return self._rounds

    def prepare(self, door: Door) -> None:
        self._publish(door.layer())
        if self.efs:
            self._publish(door.efs_layer())

    def _publish(self, layer: DataLayer) -> None:
        with layer.publish(_KEY) as attempt:
            output = attempt.output()
            for number, piece in enumerate(self.pieces):
                # Numbered: a name that another system allows may be none here.
                ending = PurePosixPath(piece.file.path).suffix
                with output.open(f"{number:06}{ending}") as file:
                    for chunk in self.source.read(piece):
                        file.write(chunk)

    def contenders(self) -> Sequence[Contender]:
        kinds: list[type[Reader]] = [Downloaded, Reader, Cached, Warmed]
        if self.efs:
            kinds.append(SharedEfs)
        readers = [kind(_KEY, self.columns) for kind in kinds]
        if paths := [self.source.store.local_path(piece.file.path) for piece in self.pieces]:
            lengths = [piece.length for piece in self.pieces]
            known = [str(path) for path in paths if path is not None]
            if len(known) == len(lengths):
                readers.append(InTheirFolder(_KEY, self.columns, known, lengths))
        return [FanOut(reader, self.readers, isolated=self.isolated) for reader in readers]

    def figures(self, timings: Mapping[str, Timing]) -> list[Figure]:
        poc = timings[Downloaded.name]
        return [
            Figure(name=f"{name}: speed against {poc.name}", value=speed_against(timing, poc), unit="×", emulated=True)
            for name, timing in timings.items()
            if timing is not poc
        ]
