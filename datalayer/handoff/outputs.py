"""Output directories of a wrapped job, and what becomes of them when it ended well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from datalayer.addresses import layout
from datalayer.commit.output import regular_files
from datalayer.errors import HandoffError, VerificationError
from datalayer.handoff.journal import Staged, read_journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from datalayer.commit.output import OutputWriter
    from datalayer.commit.publisher import Attempt
    from datalayer.handoff.context import OutputSpec
    from datalayer.layer import DataLayer


class OutputFolders:
    """``$DATALAYER_OUT/<output>`` of one attempt.

    Where the design writes in place and the tier is mounted, it is a link to the attempt's own folder there. Otherwise it is a folder of this
    machine, which is uploaded when the job ended well.

    Args:
        layer: The layer that the attempt belongs to.
        attempt: The attempt.
        outputs: The outputs that the job must produce, by name.
        folder: Where they are.
    """

    def __init__(self, layer: DataLayer, attempt: Attempt, outputs: Mapping[str, OutputSpec], folder: Path) -> None:
        self._attempt = attempt
        self._folder = folder
        self._in_place = layer.design.in_place
        self._own: dict[str, Path | None] = {}
        self._specs = outputs
        for name in outputs:
            inside = layout.output_path(attempt.key, attempt.number, name)
            self._own[name] = layer.data.local_path(inside) if layer.design.in_place else None

    def make(self) -> Iterator[Path]:
        """Make the folders, and yield each that the job writes into."""
        for name, own in self._own.items():
            if own is None:
                (self._folder / name).mkdir()
            else:
                _make_folder(own)
                (self._folder / name).symlink_to(own)
            yield own or self._folder / name

    def stage(self, journal: Path) -> None:
        """Hand everything that the job left to the attempt, ready for its commit.

        Raises:
            VerificationError: A file is no regular file, or an upload did not land whole.
            InvalidKeyError: A file's name cannot be an output file's.
            PublishError: The job left a file open.
        """
        written = read_journal(journal)
        if strangers := sorted({item.name for item in self._folder.iterdir()} - self._own.keys()):
            declared = ", ".join(sorted(self._own))
            raise VerificationError(
                f"$DATALAYER_OUT/{strangers[0]} is no declared output (declared: {declared}). Write into $DATALAYER_OUT/<output>/, "
                "or declare the output in the context"
            )
        for name, own in self._own.items():
            staged = written.get(name, Staged())
            writer = self._attempt.output(name, packed=self._specs[name].packed and own is None)
            writer.rows, writer.schema = staged.rows, staged.schema
            here = self._folder / name
            if own is not None and here.is_symlink():
                self._take_in(writer, here, own, staged)
                continue
            if here.is_symlink() or not here.is_dir():
                raise VerificationError(f"{here} is no folder any more: leave the folder, and write into it")
            # In place without a mount: open_task() wrote to the tier itself, and a program may have written here besides.
            if own is None and self._in_place:
                writer.adopt(staged.entries.values())
                writer.adopt_packs(staged.packs)
                if staged.engine:
                    writer.adopt_engine_folder()
                elif staged.opened:
                    writer.adopt_folder(checksums=False)
            writer.put_folder(here)

    def _take_in(self, writer: OutputWriter, here: Path, own: Path, staged: Staged) -> None:
        if here.readlink() != own:
            raise VerificationError(f"{here} was replaced by another link: leave the folder, and write into it")
        writer.adopt(staged.entries.values())
        if staged.engine:
            writer.adopt_engine_folder()
        # Looked at for links and other things that cannot be committed, and for files that the journal does not know.
        elif own.is_dir() and set(regular_files(own)) - staged.entries.keys():
            # An engine's files are told by their lengths, as on a tier that is not mounted: reading them all again may take as long as the job.
            writer.adopt_folder(checksums=staged.checksums or not staged.opened)
            if not staged.opened:
                # The rows of those files are not known, so neither is the sum.
                writer.rows = None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HandoffError(
            f"the output folder {folder} cannot be made by user {os.geteuid()}: {error.strerror}. Give that user or its group the right to "
            "write there, or have every job of the volume run with one group"
        ) from error
