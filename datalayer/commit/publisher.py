"""``Publisher`` and ``Attempt``: claim, stage, verify, commit."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from datalayer.addresses import layout
from datalayer.addresses.keys import DEFAULT_OUTPUT, check_output_name
from datalayer.commit import wire
from datalayer.commit.claims import Claim, attempt_numbers, claim_attempt, read_claim
from datalayer.commit.index import encode_index
from datalayer.commit.log import Committed, open_log
from datalayer.commit.manifest import (
    FILES,
    REFERENCE,
    Entry,
    Input,
    Manifest,
    Output,
    Producer,
    check_entries,
)
from datalayer.commit.output import OutputWriter
from datalayer.errors import CommitConflictError, DataLayerError, PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from datalayer.addresses.keys import TaskKey
    from datalayer.addresses.location import Location
    from datalayer.stores.base import Store

MAX_INLINE_ENTRIES = 1000
"""An output of more files has its list in an index of its own, so that the head stays small."""

LEASE = timedelta(hours=24)
"""How long an attempt that shows no sign of life is left alone by a sweep."""

_BEGUN = "its commit has begun"
_ABANDONED = "it was abandoned"


class Attempt:
    """One try at producing a task's outputs. Nothing of it is visible before :meth:`commit` returns.

    As a context manager it commits when the block ends well, and abandons what it staged when the block raises.
    """

    def __init__(
        self,
        home: Store,
        data: Store,
        claim: Claim,
        key: TaskKey,
        *,
        inputs: Iterable[Input] = (),
        producer: Producer | None = None,
        attached: bool = False,
        then: Callable[[TaskKey, int], None] | None = None,
    ) -> None:
        self._home = home
        self._data = data
        self._claim = claim
        self._inputs: list[Input] = []
        self.read(*inputs)
        self._producer = producer or Producer(owner=claim.owner)
        self._outputs: dict[str, OutputWriter] = {}
        self._references: dict[str, Output] = {}
        self._begun: tuple[Manifest, bytes] | None = None
        self._committed: Committed | None = None
        self._abandoned = False
        self._refused = False
        self._lock = threading.Lock()
        self._heartbeat = _Heartbeat(home, f"{layout.attempt_path(key, claim.attempt)}/{layout.ALIVE}")
        self.key = key
        self._attached = attached
        self._then = then

    @property
    def number(self) -> int:
        """The attempt's number, which storage assigned."""
        return self._claim.attempt

    @property
    def claim(self) -> Claim:
        """The claim that holds the number."""
        return self._claim

    @property
    def committed(self) -> Committed | None:
        """What it has committed; None while it has not."""
        return self._committed

    def output(self, name: str = DEFAULT_OUTPUT, *, packed: bool | None = None) -> OutputWriter:
        """Return the writer of one named output; the same one for the same name.

        Args:
            name: The output's name.
            packed: Whether its small files are laid together into packs of 64 MiB: thousands of them are then written and read by a few
                requests. A packed output is read through this library, not by Spark or by its folder. By default not.

        Raises:
            InvalidKeyError: The name cannot be an output's.
            PublishError: It is a new one, and the attempt has ended; or it is not, and was asked for otherwise before.
        """
        if name not in self._outputs:
            check_output_name(name)
            self._refuse_if_ended()
            self._outputs[name] = OutputWriter(self._data, self.key, self.number, name, packed=bool(packed))
        writer = self._outputs[name]
        if packed is not None and packed != writer.packed:
            raise self._error(
                f"output {name!r} was begun with packed={writer.packed}: say packed where it is first asked for"
            )
        return writer

    def refer(self, name: str, tier: str, location: Location, entries: list[Entry]) -> None:
        """Make an output a reference to data that already lies elsewhere, pinned entry by entry.

        Raises:
            InvalidKeyError: The name cannot be an output's.
            PublishError: The attempt has ended.
            VerificationError: An entry has a name that a file of an output cannot have.
        """
        self._refuse_if_ended()
        size = sum(entry.length for entry in entries)
        self._references[check_output_name(name)] = self._with_index(
            name, Output(REFERENCE, tier, len(entries), size, location=str(location), entries=entries)
        )

    def read(self, *inputs: Input) -> None:
        """Add to the lineage: upstream outputs that this attempt reads."""
        for one in inputs:
            if not isinstance(one, Input):
                raise TypeError(
                    f"an input is {one!r}: give resolution.pin(alias), which names the attempt that is read"
                )
        self._inputs += inputs

    def commit(self) -> Manifest:
        """Verify what was staged and make it the task's output, in one conditional request. Committing twice returns the same manifest.

        Nothing can be written to the attempt from then on. Where what was staged cannot be committed, it is open again.

        Raises:
            PublishError: There is no output, a file is still being written, or the attempt was abandoned.
            VerificationError: An output has no file, or what landed is not what was written.
            CommitConflictError: A higher attempt committed, or this one was fenced as abandoned.
            CommitStateUnknownError: The store did not say whether the commit was applied. Committing again is safe.
        """
        with self._lock:
            if self._abandoned:
                raise self._error(f"{_ABANDONED}, and nothing of it is left. Publish again for a new attempt")
            if self._begun is None:
                self._begun = self._prepare()
            manifest, document = self._begun
            try:
                open_log(self._home, self.key).commit(self.number, document)
            except CommitConflictError:
                self._refused = True
                raise
            self._committed = Committed(manifest, document)
        self._heartbeat.stop()
        then, self._then = self._then, None
        if then:
            then(self.key, self.number)
        return manifest

    def abandon(self) -> None:
        """Give up: remove what was staged. The number stays taken. What cannot be removed now, a sweep removes later.

        Once a commit has begun, nothing is removed, unless it was refused: it may be visible, or have been for a moment, and must not lose its files.
        """
        self._heartbeat.stop()
        with self._lock:
            if self._begun is not None and not self._refused:
                return
            self._abandoned = True
            self._seal(_ABANDONED)
            for writer in self._outputs.values():
                writer.drop()
            try:
                # The process that made the claim may be at the same attempt. Either it has committed, or it must not any more.
                if (self._attached or self._refused) and not open_log(self._home, self.key).fence(self.number):
                    return
            except DataLayerError:
                return
            self._remove_staged()

    def __enter__(self) -> Self:
        self._heartbeat.start(at_once=_is_old(self._claim))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()
            return
        try:
            self.commit()
        except BaseException:  # also an interrupted task has failed
            self.abandon()
            raise

    def _prepare(self) -> tuple[Manifest, bytes]:
        """Verify what was staged and return the manifest with its bytes. What is staged stays as it is from here on, unless this raises."""
        if not self._outputs and not self._references:
            raise self._error("it has no output: call output(...) and write at least one file")
        self._seal(_BEGUN)
        try:
            outputs = {
                name: self._finished(writer) for name, writer in sorted(self._outputs.items())
            } | self._references
        except BaseException:  # also after an interrupt more may be written
            self._seal("")
            raise
        manifest = Manifest(
            wire.PACKED if any(output.packs for output in outputs.values()) else wire.VERSION,
            str(self.key),
            self.number,
            self._claim.nonce,
            datetime.now(UTC).isoformat(),
            self._producer,
            self._inputs,
            outputs,
        )
        return manifest, wire.encode(manifest)

    def _seal(self, reason: str) -> None:
        for writer in self._outputs.values():
            writer.seal(reason)

    def _refuse_if_ended(self) -> None:
        if self._abandoned or self._begun is not None:
            raise self._error(
                f"{_ABANDONED if self._abandoned else _BEGUN}, so nothing is added to it any more. Publish again for a new attempt"
            )

    def _error(self, reason: str) -> PublishError:
        return PublishError(f"attempt {self.number} of {self.key}: {reason}", key=str(self.key), attempt=self.number)

    def _remove_staged(self) -> None:
        folder = layout.attempt_path(self.key, self.number)
        keep = f"{folder}/{layout.CLAIM}"
        stores = [self._data] if self._data is self._home else [self._data, self._home]
        for store in stores:
            try:
                store.reap_uploads(folder, timedelta(0))
                store.delete(info.path for info in list(store.list(folder)) if info.path != keep)
            except DataLayerError:
                # The failure that led here is the one to report; a sweep finds the rest.
                continue

    def _finished(self, writer: OutputWriter) -> Output:
        entries = writer.finish()
        size = sum(entry.length for entry in entries)
        output = Output(
            FILES,
            writer.tier,
            len(entries),
            size,
            rows=writer.rows,
            schema=writer.schema,
            entries=entries,
            packs=writer.packs,
        )
        return self._with_index(writer.name, output)

    def _with_index(self, name: str, output: Output) -> Output:
        # What readers would refuse must not supersede what they can read.
        check_entries(output, output.entries or (), f"output {name!r} of {self.key}, attempt {self.number}")
        if output.files <= MAX_INLINE_ENTRIES:
            return output
        data, index = encode_index(output.entries or [], name)
        self._home.put(f"{layout.attempt_path(self.key, self.number)}/{index.object}", data)
        return msgspec.structs.replace(output, entries=None, index=index)


class Publisher:
    """Starts attempts on a home store, with their data on another or the same one.

    Args:
        home: Where they commit.
        data: Where their outputs are written.
        then: Called once with the key and the number of each that has committed. It must not raise.
    """

    def __init__(self, home: Store, data: Store, then: Callable[[TaskKey, int], None] | None = None) -> None:
        self._home = home
        self._data = data
        self._then = then

    def publish(
        self,
        key: TaskKey,
        *,
        owner: str | None = None,
        inputs: Iterable[Input] = (),
        producer: Producer | None = None,
    ) -> Attempt:
        """Claim the next attempt of a task and return it.

        Args:
            key: The task.
            owner: The scheduler's id of the task instance. An attempt that it began before is fenced: its files never mix with this one's,
                whether or not that start is still alive. To go on with it instead, :meth:`attach` to the claim that ``find_claim`` finds.
            inputs: Upstream outputs that the attempt reads: its lineage.
            producer: Who makes it.

        Raises:
            InvalidKeyError: The address is too long below this root.
            CommitConflictError: The owner's attempt has committed already.
        """
        layout.check_object_path(self._home.location(f"{layout.attempt_path(key, 10**6)}/{layout.CLAIM}").path)
        claim = claim_attempt(self._home, key, owner)
        if owner is not None and claim.attempt > 1:
            self._fence_earlier(key, owner, claim.attempt)
        return Attempt(self._home, self._data, claim, key, inputs=inputs, producer=producer, then=self._then)

    def attach(
        self, key: TaskKey, claim: Claim, *, inputs: Iterable[Input] = (), producer: Producer | None = None
    ) -> Attempt:
        """Return the attempt of a claim that was made before, by this process or another. One process at a time may stage under it."""
        return Attempt(
            self._home, self._data, claim, key, inputs=inputs, producer=producer, attached=True, then=self._then
        )

    def _fence_earlier(self, key: TaskKey, owner: str, number: int) -> None:
        for earlier in sorted(attempt_numbers(self._home, key), reverse=True):
            if earlier >= number:
                continue
            claim = read_claim(self._home, key, earlier)
            if claim is None or claim.owner != owner or open_log(self._home, key).fence(earlier):
                continue
            raise CommitConflictError(
                f"task instance {owner!r} has committed attempt {earlier} of {key} already, and a commit is final. Resolve the key instead",
                key=str(key),
                attempt=earlier,
            )


def _is_old(claim: Claim) -> bool:
    """Whether a claim was made so long ago that it alone may soon not show a living attempt."""
    try:
        return datetime.now(UTC) - datetime.fromisoformat(claim.started) > LEASE / 8
    except (ValueError, TypeError):
        return True


class _Heartbeat:
    """Shows a long attempt to be alive: one small put each quarter of the lease, so none at all for a task of less than six hours."""

    def __init__(self, home: Store, path: str) -> None:
        self._home = home
        self._path = path
        self._stopped = threading.Event()

    def start(self, *, at_once: bool) -> None:
        threading.Thread(target=self._beat, args=(at_once,), name="datalayer-heartbeat", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _beat(self, at_once: bool) -> None:
        while not self._stopped.wait(0 if at_once else LEASE.total_seconds() / 4):
            at_once = False
            try:
                self._home.put(self._path, b"")
            except DataLayerError:
                # The next beat tries again; three in a row must fail before a sweep takes notice.
                continue
