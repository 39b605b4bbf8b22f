"""``Resolution``: a committed attempt, its outputs by name.

A resolution is a consistent view: it stays on the attempt it found, whatever commits after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from datalayer.commit.manifest import Input, Manifest, Output, digest_of
from datalayer.errors import ResolutionError
from datalayer.resolve.output import ResolvedOutput
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import fsspec

    from datalayer.addresses.keys import TaskKey
    from datalayer.commit.log import Committed
    from datalayer.resolve.serving import Served
    from datalayer.stores.base import Store


class Resolution(Mapping[str, "ResolvedOutput"]):
    """One committed attempt of a task: its outputs by name."""

    def __init__(
        self,
        key: TaskKey,
        committed: Committed,
        home: Store,
        serve: Callable[[str, Output], Served],
        filesystem: Callable[[], fsspec.AbstractFileSystem],
    ) -> None:
        self.key = key
        self.manifest: Manifest = committed.manifest
        self.document: bytes = committed.raw
        """The manifest as it was written, with whatever a newer minor version added."""
        self._home = home
        self._serve = serve
        self._filesystem = filesystem
        self._outputs: dict[str, ResolvedOutput] = {}

    @property
    def attempt(self) -> int:
        """The number of the attempt."""
        return self.manifest.attempt

    @cached_property
    def digest(self) -> str:
        """Pins the manifest's exact bytes."""
        return digest_of(self.document)

    def pin(self, alias: str) -> Input:
        """Return this resolution as a lineage edge: what an attempt that reads it records."""
        return Input(alias, str(self.key), self.attempt, self.digest)

    def __getitem__(self, name: str) -> ResolvedOutput:
        if name not in self._outputs:
            try:
                output = self.manifest.outputs[name]
            except KeyError:
                raise ResolutionError(
                    f"{self.key} has no output {name!r}; it has {', '.join(sorted(self.manifest.outputs))}",
                    key=str(self.key),
                ) from None
            served = self._serve(name, output)
            found = ResolvedOutput(self, self.key.output(name), output, served, self._home, self._filesystem)
            if any(miss.tier is Tier.HOT for miss in served.misses):
                return found  # The next reader asks again: a hot tier comes and goes.
            self._outputs[name] = found
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.manifest.outputs)

    def __len__(self) -> int:
        return len(self.manifest.outputs)

    def __contains__(self, name: object) -> bool:
        return name in self.manifest.outputs

    def __repr__(self) -> str:
        return f"<Resolution {self.key} attempt {self.attempt}: {', '.join(self.manifest.outputs)}>"
