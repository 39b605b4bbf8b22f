"""``LocalOutput``: a committed output, read from the copy that was made of it on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from datalayer.addresses.location import Location
from datalayer.commit.manifest import Entry
from datalayer.commit.output import regular_files
from datalayer.resolve.output import ResolvedOutput
from datalayer.resolve.serving import Served
from datalayer.stores.base import Tier
from datalayer.stores.volume import VolumeStore

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    import fsspec

    from datalayer.commit.manifest import Output
    from datalayer.resolve.resolution import Resolution


def _unpacked(output: Output) -> Output:
    """Return an output as it lies after it was copied: each file under its own name."""
    if not output.packs:
        return output
    entries = output.entries and [msgspec.structs.replace(entry, object=None, offset=0) for entry in output.entries]
    return msgspec.structs.replace(output, entries=entries, packs=None)


class LocalOutput(ResolvedOutput):
    """An output whose files lie in a local folder under their own names.

    Args:
        resolution: What it was copied from.
        name: The output's name.
        folder: The copy: ``$DATALAYER_IN/<alias>/<output>``.
    """

    def __init__(self, resolution: Resolution, name: str, folder: Path) -> None:
        output = _unpacked(resolution.manifest.outputs[name])
        # Of the tier that the bytes came from: what the job reads is a copy of that.
        store = VolumeStore(Location.parse(str(folder.parent)), tier=Tier(output.tier))
        served = Served(store, folder.name, ())
        super().__init__(resolution, resolution.key.output(name), output, served, store, lambda: store.filesystem)
        self._folder = folder

    @property
    def uri(self) -> str:
        """The local folder as a ``file://`` URL."""
        return f"file://{self._folder}"

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """The local file system."""
        return self._served.store.filesystem

    @property
    def files(self) -> dict[str, Entry]:
        if self._entries is None:
            # Where the list is too long for the manifest, the folder has it: the copy was made from the list, and verified.
            entries = self.output.entries
            if entries is None:
                entries = [
                    Entry(name, (self._folder / name).stat().st_size) for name in sorted(regular_files(self._folder))
                ]
            self._entries = {entry.name: entry for entry in entries}
        return self._entries

    def open(self, name: str) -> BinaryIO:
        return self._served.store.open(self._path(self.entry(name)))

    def _path(self, entry: Entry) -> str:
        return f"{self._served.folder}/{entry.name}"

    def _check_pinned(self, entry: Entry) -> None:
        """Nothing: what was pinned was checked when it was copied."""
