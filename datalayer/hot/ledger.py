"""The ledger: what was warmed where, and who has pinned what until when. Small objects on the home store, each replaced as a whole.

::

    hot~/<team>/<dag_id>/<task_id>/<run>[/map_index-N]/attempts/<attempt>/<output>/warmed/<place>.json
    hot~/<team>/<dag_id>/<task_id>/<run>[/map_index-N]/attempts/<attempt>/<output>/leases/<holder>.json

``~`` is in no encoded name, so nobody takes the folder for a team. Places and holders are named by a digest, because their texts may be
long; the documents spell them. There are no locks: each party writes its own objects, and where two write the same one the last one wins.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from datalayer.addresses import layout
from datalayer.addresses.encoding import encode_component
from datalayer.addresses.keys import TaskKey
from datalayer.commit import wire
from datalayer.errors import InvalidKeyError, NotFoundError, ProtocolVersionError, VerificationError
from datalayer.resolve.bulk import side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datalayer.resolve.output import ResolvedOutput
    from datalayer.stores.base import Store

LEDGER = "hot~"
"""The ledger's folder below the home's root."""

_WARMED = "warmed"
_LEASES = "leases"
_DIGITS = 16
_PARALLEL = 16
# A machine whose cache is gone cannot take back what it noted.
_FORGOTTEN = timedelta(days=30)


class OutputRef(NamedTuple):
    """One output of one committed attempt."""

    key: TaskKey
    attempt: int
    output: str

    @classmethod
    def of(cls, output: ResolvedOutput) -> OutputRef:
        """Return the reference to a resolved output."""
        return cls(output.resolution.key, output.resolution.attempt, output.key.name)

    @property
    def folder(self) -> str:
        """The output's folder in the ledger."""
        return f"{LEDGER}/{layout.output_path(self.key, self.attempt, self.output)}"

    def __str__(self) -> str:
        return f"{self.key}@{self.attempt}/{self.output}"


class WarmNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """That an output was warmed. Wire version 1."""

    version: str
    key: str
    attempt: int
    output: str
    place: str
    """The hot tier that holds the copies: Alluxio's folder, or a machine and its cache folder."""
    files: int
    bytes: int
    """Of copies, when it was written."""
    used: str
    """When it was warmed, or known to be read, last; by the writer's clock, ISO-8601."""
    by: str
    """User and machine that wrote it. For people."""


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """That an output is to stay hot for somebody, until then at most. Wire version 1."""

    version: str
    key: str
    attempt: int
    output: str
    holder: str
    """For whom; a workflow's reader is known by its address."""
    expires: str
    """By the writer's clock, ISO-8601."""
    by: str
    """User and machine that wrote it. For people."""

    @property
    def until(self) -> datetime:
        """When it ends; long ago where that cannot be read."""
        try:
            found = datetime.fromisoformat(self.expires)
        except ValueError:
            return datetime.min.replace(tzinfo=UTC)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


class Noted(NamedTuple):
    """What the ledger has on one output."""

    ref: OutputRef
    warmed: WarmNote | None
    """At this place."""
    leases: tuple[Lease, ...]
    """Of everybody, whether or not they have ended."""

    def live(self, now: datetime) -> tuple[Lease, ...]:
        """Return the leases that have not ended."""
        return tuple(lease for lease in self.leases if lease.until > now)


class Notes(NamedTuple):
    """What the ledger has on some outputs."""

    outputs: dict[OutputRef, Noted]
    old: tuple[str, ...]
    """Where notes of other places lie that nobody has written for long."""


class Ledger:
    """Reads and writes the notes of one hot tier.

    Args:
        home: The home store.
        place: Names the hot tier among those that have this home.
    """

    def __init__(self, home: Store, place: str) -> None:
        self._home = home
        self._place = place

    def read(self, prefix: str = "") -> Notes:
        """Return what is noted below an address, or the beginning of one; by default everything. One listing, and a request for each object.

        Raises:
            ProtocolVersionError: A newer major version wrote a note.
            StoreError: The home store failed.
        """
        now = datetime.now(UTC)
        own = f"{_digest(self._place)}.json"
        wanted, old = [], []
        for info in self._home.list(f"{LEDGER}/{prefix}".rstrip("/")):
            kind, name = info.path.split("/")[-2:]
            if kind == _LEASES or (kind, name) == (_WARMED, own):
                wanted.append(info.path)
            elif now - info.modified > _FORGOTTEN:
                old.append(info.path)
        found: dict[OutputRef, Noted] = {}
        for note in side_by_side(self._note, wanted, _PARALLEL):
            if note is None:
                continue
            ref = OutputRef(TaskKey.parse(note.key), note.attempt, note.output)
            noted = found.get(ref, Noted(ref, None, ()))
            if isinstance(note, WarmNote):
                found[ref] = noted._replace(warmed=note)
            else:
                found[ref] = noted._replace(leases=(*noted.leases, note))
        return Notes(found, tuple(old))

    def of(self, ref: OutputRef) -> Noted:
        """Return what is noted on one output. Raises as :meth:`read` does."""
        return self.read(ref.folder.removeprefix(f"{LEDGER}/")).outputs.get(ref, Noted(ref, None, ()))

    def warmed(self, ref: OutputRef, files: int, size: int) -> None:
        """Note that an output has copies here, used now."""
        note = WarmNote(wire.VERSION, str(ref.key), ref.attempt, ref.output, self._place, files, size, _now(), _who())
        self._put(f"{ref.folder}/{_WARMED}/{_digest(self._place)}.json", note)

    def used(self, note: WarmNote) -> None:
        """Note that an output was read."""
        self.warmed(OutputRef(TaskKey.parse(note.key), note.attempt, note.output), note.files, note.bytes)

    def lease(self, ref: OutputRef, holder: str, until: datetime) -> None:
        """Note a lease, in the place of one that the holder has already."""
        lease = Lease(wire.VERSION, str(ref.key), ref.attempt, ref.output, holder, until.isoformat(), _who())
        self._put(_lease_path(ref, holder), lease)

    def forget(self, refs: Iterable[OutputRef]) -> None:
        """Remove the notes that outputs have copies here."""
        self._home.delete([f"{ref.folder}/{_WARMED}/{_digest(self._place)}.json" for ref in refs])

    def drop(self, ref: OutputRef, leases: Iterable[Lease]) -> None:
        """Remove leases."""
        self._home.delete([_lease_path(ref, lease.holder) for lease in leases])

    def clear(self, notes: Notes) -> None:
        """Remove what other places noted long ago."""
        if notes.old:
            self._home.delete(notes.old)

    def _put(self, path: str, note: WarmNote | Lease) -> None:
        layout.check_object_path(self._home.location(path).path)
        self._home.put(path, wire.encode(note))

    def _note(self, path: str) -> WarmNote | Lease | None:
        try:
            data, _ = self._home.get(path)
            form: type[WarmNote | Lease] = WarmNote if path.split("/")[-2] == _WARMED else Lease
            note = wire.decode(data, form, f"the note at {self._home.location(path)}")
            # A note that names another output must not speak for that one.
            ref = OutputRef(TaskKey.parse(note.key), note.attempt, note.output)
        except ProtocolVersionError:
            raise
        except (NotFoundError, VerificationError, InvalidKeyError):
            # Taken back meanwhile; or damaged, and then as good as taken back: a copy is lost by it, never data.
            return None
        return note if path.startswith(f"{ref.folder}/") else None


def place_of(url: str | None, *, shared: bool) -> str:
    """Return the name of a hot tier.

    Args:
        url: Where it is; None for this user's default folder.
        shared: Whether it is the same one from every machine.
    """
    if shared and url:
        return url
    return f"{socket.gethostname()}:{url}" if url else _who()


def prefix_of(team: str) -> str:
    """Return the beginning of a team's addresses, for :meth:`Ledger.read`."""
    return encode_component(team, "team")


def _lease_path(ref: OutputRef, holder: str) -> str:
    return f"{ref.folder}/{_LEASES}/{_digest(holder)}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A container's user may have a number alone.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
