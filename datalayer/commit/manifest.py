"""``Manifest``: what one attempt committed. Wire version 1; 1.1 where an output is packed.

The object a reader gets is an envelope: ``{"version", "fenced", "manifest"}``. The manifest inside is never changed once written, byte for
byte, so its digest can be pinned and fields that a newer minor version added survive. ``fenced`` lists attempts that may not commit any
more; the manifest is null while nothing has committed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from datalayer.addresses.keys import TaskKey, check_output_name
from datalayer.addresses.layout import are_plain, check_file_name
from datalayer.commit import wire
from datalayer.errors import InvalidKeyError, VerificationError
from datalayer.stores.checksum import parse_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FILES = "files"
REFERENCE = "reference"

PACKS = "_packs"
"""The folder of an output's packs, within its own. No engine takes what lies there for data."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One file of an output."""

    name: str
    """Its name within the output; slashes make folders."""
    length: int
    """Bytes."""
    checksum: str | None = None
    """``crc32c:`` and eight hex digits of the file's bytes; None where only its length was verified."""
    blocks: str | None = None
    """The CRC-32C of each 4 MiB of the file in order, eight hex digits each; None where the file is no longer, or has no checksum."""
    object: str | None = None
    """Where its bytes lie, if not under its name: a path within the output's folder, or an absolute URI for a reference."""
    offset: int = 0
    """Where in that object its bytes begin."""
    version: str | None = None
    """The object's version that a reference is pinned to."""


class IndexRef(msgspec.Struct, frozen=True):
    """An output's list of entries, where it is too long for the manifest itself."""

    object: str
    """A path within the attempt's folder on the home store."""
    length: int
    checksum: str
    """``sha256:`` and hex digits of the object's bytes."""


class Field(msgspec.Struct, frozen=True):
    """One column: its name and its Arrow type as text."""

    name: str
    type: str


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """One named output as it was committed."""

    kind: str
    """``files``, or ``reference`` to data that already lay elsewhere."""
    tier: str
    """The tier its bytes were written to."""
    files: int
    bytes: int
    location: str | None = None
    """Where a reference's data lies: an object, or the folder of its entries."""
    rows: int | None = None
    schema: list[Field] | None = None
    retention: str | None = None
    entries: list[Entry] | None = None
    """The files; None where ``index`` has them."""
    index: IndexRef | None = None
    packs: list[Entry] | None = None
    """The objects that hold its small files; None where each file is an object. Since 1.1."""


class Input(msgspec.Struct, frozen=True, omit_defaults=True):
    """An upstream output that was read, pinned: one edge of the lineage."""

    alias: str
    key: str
    attempt: int
    digest: str


class Producer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who made an output."""

    owner: str | None = None
    """The scheduler's id of the task instance."""
    operator: str | None = None
    image: str | None = None
    versions: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True):
    """What one attempt committed."""

    version: str
    key: str
    attempt: int
    nonce: str
    """Of the claim; tells this commit from any other."""
    committed: str
    """When, by the committer's clock, ISO-8601. For people: nothing is decided by it."""
    producer: Producer
    inputs: list[Input]
    outputs: dict[str, Output]

    def check(self, key: TaskKey, where: str) -> None:
        """Make sure that this is the key's own manifest and names nothing outside its attempt.

        Raises:
            VerificationError: It is not, or does.
        """
        if self.key != str(key):
            raise VerificationError(
                f"the manifest at {where} is for {self.key}, not {key}", key=str(key), attempt=self.attempt
            )
        if self.attempt < 1:
            raise VerificationError(f"the manifest at {where} has the attempt number {self.attempt}", key=str(key))
        for name, output in self.outputs.items():
            try:
                check_output_name(name)
            except InvalidKeyError as error:
                raise VerificationError(
                    f"the manifest at {where}: {error}", key=str(key), attempt=self.attempt
                ) from error
            if output.index is not None and output.index.object != f"index/{name}.json.gz":
                raise VerificationError(
                    f"the manifest at {where} names an index outside its attempt: {output.index.object!r}",
                    key=str(key),
                    attempt=self.attempt,
                )
            if (output.entries is None) == (output.index is None):
                raise VerificationError(
                    f"the manifest at {where}: output {name!r} needs either entries or an index",
                    key=str(key),
                    attempt=self.attempt,
                )
            if output.entries is not None:
                check_entries(output, output.entries, f"output {name!r} of {where}")


class Head(msgspec.Struct, frozen=True):
    """The envelope: the commit object's whole content."""

    version: str
    fenced: list[int]
    manifest: msgspec.Raw


def check_entries(output: Output, entries: Sequence[Entry], where: str) -> None:
    """Make sure that entries stay within their output, and add up to what the output says.

    Raises:
        VerificationError: They do not.
    """
    files, size = len(entries), sum([entry.length for entry in entries])
    names = [entry.name for entry in entries]
    places = () if output.kind == REFERENCE else {entry.object for entry in entries if entry.object is not None}
    _check_names([*names, *places], where)
    packs = _pack_lengths(output, where)
    for entry in [one for one in entries if one.length < 0 or one.offset or one.object or one.blocks is not None]:
        if entry.length < 0 or entry.offset < 0:
            raise VerificationError(f"{where}: {entry.name!r} has a negative length or offset")
        if entry.blocks is not None and parse_blocks(entry.blocks, entry.length) is None:
            raise VerificationError(
                f"{where}: {entry.name!r} has other checksums of blocks than its {entry.length} bytes need"
            )
        if packs is not None and entry.object and entry.offset + entry.length > packs.get(entry.object, -1):
            raise VerificationError(f"{where}: {entry.name!r} does not lie within a pack of its output")
    if (different := len(set(names))) < files:
        raise VerificationError(f"{where} lists {files} files under {different} names")
    if (files, size) != (output.files, output.bytes):
        raise VerificationError(
            f"{where} lists {files} files of {size} bytes and claims {output.files} of {output.bytes}"
        )


def _check_names(names: Sequence[str], where: str) -> None:
    if are_plain(names):
        return
    try:
        for name in names:
            check_file_name(name)
    except InvalidKeyError as error:
        raise VerificationError(f"{where} names a file outside its attempt: {error}") from error


def _pack_lengths(output: Output, where: str) -> dict[str, int] | None:
    """Return how long each pack of an output is; None where it has none.

    Raises:
        VerificationError: One lies elsewhere than packs do, or is named twice.
    """
    if output.packs is None:
        return None
    if len({pack.name for pack in output.packs}) < len(output.packs):
        raise VerificationError(f"{where} names a pack twice")
    for pack in output.packs:
        try:
            inside = check_file_name(pack.name).startswith(f"{PACKS}/")
        except InvalidKeyError as error:
            raise VerificationError(f"{where} names a pack outside its output: {error}") from error
        fits = pack.length >= 0 and (pack.blocks is None or parse_blocks(pack.blocks, pack.length) is not None)
        if not inside or not fits or pack.object is not None or pack.offset or output.kind == REFERENCE:
            raise VerificationError(f"{where} has a pack {pack.name[:80]!r} that is none")
    return {pack.name: pack.length for pack in output.packs}


def digest_of(data: bytes | msgspec.Raw) -> str:
    """Return the digest that pins a manifest's exact bytes."""
    return f"sha256:{hashlib.sha256(bytes(data)).hexdigest()}"


def encode_head(manifest: bytes | None, fenced: Iterable[int] = ()) -> bytes:
    """Return the envelope's bytes around a manifest's bytes, or around none."""
    return wire.encode(Head(wire.VERSION, sorted(fenced), msgspec.Raw(manifest if manifest is not None else b"null")))


def fence_head(envelope: bytes, attempt: int, where: str) -> bytes:
    """Return an envelope's bytes with one more attempt fenced and everything else as it was."""
    head = wire.decode(envelope, Head, where)
    document: dict[str, Any] = msgspec.json.decode(envelope, type=dict[str, msgspec.Raw])
    document["fenced"] = sorted({*head.fenced, attempt})
    return wire.encode(document)
