"""The commit log against a model: any order of claims, commits, fences, lost answers and writes that arrive late."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from datalayer import CommitConflictError, CommitStateUnknownError, Location, StoreError, StoreTimeoutError, TaskKey
from datalayer.commit import log as commit_log
from datalayer.commit import wire
from datalayer.commit.claims import Claim, claim_attempt
from datalayer.commit.log import open_log
from datalayer.commit.manifest import Entry, Manifest, Output, Producer
from datalayer.stores.base import ObjectInfo, Store, Tier
from datalayer.stores.memory import MemoryStore
from datalayer.stores.volume import VolumeStore
from datalayer.stores.wrapping import WrappingStore

KEY = TaskKey("t", "d", "k", "20130101T000000Z")


class LossyStore(WrappingStore):
    """A store whose conditional puts may lose their answer, be lost, be applied only later, or be overtaken by a rival."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.script: list[str] = []
        self.late: list[Callable[[], ObjectInfo]] = []
        self.overtake: Callable[[], None] = lambda: None

    def put(self, path: str, data: bytes) -> ObjectInfo:
        return self._conditional(lambda: self.inner.put(path, data))

    def put_exclusive(self, path: str, data: bytes) -> ObjectInfo:
        return self._conditional(lambda: self.inner.put_exclusive(path, data))

    def compare_and_put(self, path: str, data: bytes, version: str) -> ObjectInfo:
        return self._conditional(lambda: self.inner.compare_and_put(path, data, version))

    def _conditional(self, put: Callable[[], ObjectInfo]) -> ObjectInfo:
        fate = self.script.pop(0) if self.script else "answered"
        if fate == "overtaken":
            self.overtake()
        if fate in {"answered", "overtaken"}:
            return put()
        if fate == "answer lost":
            put()
        elif fate == "late":
            self.late.append(put)
        raise StoreTimeoutError(f"scripted: {fate}")


class CommitModel(RuleBasedStateMachine):
    """Two or more publishers, a sweeper and a bad network, on one task."""

    claims = Bundle("claims")

    def make_store(self) -> Store:
        return MemoryStore()

    def __init__(self) -> None:
        super().__init__()
        self.no_waiting = mock.patch.object(commit_log, "_PAUSE_AFTER_LOST_ANSWER", 0)
        self.no_waiting.start()
        self.store = LossyStore(self.make_store())
        self.log = open_log(self.store, KEY)
        self.store.overtake = self.rival_commits
        self.numbers: set[int] = set()
        self.acknowledged: set[int] = set()
        self.fenced: set[int] = set()
        self.seen: dict[int, str] = {}
        self.highest_head = 0

    @rule(target=claims)
    def claim(self) -> Claim:
        claim = claim_attempt(self.store, KEY)
        assert claim.attempt > max(self.numbers, default=0), "a number was given out twice"
        self.numbers.add(claim.attempt)
        return claim

    @rule(
        claim=claims,
        script=st.lists(st.sampled_from(["answered", "overtaken", "answer lost", "lost", "late"]), max_size=6),
    )
    def commit(self, claim: Claim, script: list[str]) -> None:
        number = claim.attempt
        self.store.script = list(script)
        try:
            self.log.commit(number, manifest_of(claim))
        except CommitConflictError:
            self.store.script.clear()
            if number in self.acknowledged:
                # Told "done" before, and asked again after a higher one took over.
                assert self.highest_head > number or self.head() > number
        except CommitStateUnknownError:
            pass
        else:
            assert number not in self.fenced, "a fenced attempt was told that it committed"
            committed = self.log.attempt(number)
            assert committed is not None
            assert committed.manifest.nonce == claim.nonce
            assert number == self.head() or number in self.seen, (
                "an attempt that was never the head was told that it committed"
            )
            self.acknowledged.add(number)
        finally:
            self.store.script.clear()

    def rival_commits(self) -> None:
        claim = claim_attempt(self.store.inner, KEY)
        self.numbers.add(claim.attempt)
        open_log(self.store.inner, KEY).commit(claim.attempt, manifest_of(claim))
        self.acknowledged.add(claim.attempt)

    @rule(claim=claims, script=st.lists(st.sampled_from(["answered", "overtaken", "answer lost", "late"]), max_size=3))
    def fence(self, claim: Claim, script: list[str]) -> None:
        self.store.script = list(script)
        try:
            if self.log.fence(claim.attempt):
                assert claim.attempt not in self.acknowledged, "an acknowledged commit was fenced"
                self.fenced.add(claim.attempt)
        except StoreTimeoutError:
            pass  # Whether it is fenced is not known, and nobody may act on it.
        finally:
            self.store.script.clear()

    @rule()
    def what_was_late_arrives(self) -> None:
        while self.store.late:
            try:
                self.store.late.pop(0)()
            except StoreError:
                continue  # Its condition no longer holds.

    @invariant()
    def the_head_only_grows_and_is_never_fenced(self) -> None:
        head = self.head()
        assert head >= self.highest_head, "the head went back"
        assert head not in self.fenced, "a fenced attempt became the head"
        if self.acknowledged:
            assert head >= max(self.acknowledged), "an acknowledged commit was lost"
        self.highest_head = head

    @invariant()
    def whatever_was_read_once_can_be_read_again(self) -> None:
        committed = self.log.head()
        if committed:
            self.seen[committed.manifest.attempt] = committed.digest
        for number, digest in self.seen.items():
            again = self.log.attempt(number)
            assert again is not None
            assert again.digest == digest

    def teardown(self) -> None:
        self.no_waiting.stop()

    def head(self) -> int:
        committed = self.log.head()
        return committed.manifest.attempt if committed else 0


class VolumeCommitModel(CommitModel):
    """The same on a volume."""

    def make_store(self) -> Store:
        self.folder = tempfile.TemporaryDirectory(prefix="datalayer-model-")
        return VolumeStore(Location.parse(str(Path(self.folder.name).resolve())), tier=Tier.SHARED)

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


def manifest_of(claim: Claim) -> bytes:
    output = Output("files", "cold", 1, 1, entries=[Entry("a", 1)])
    document = Manifest("1.0", str(KEY), claim.attempt, claim.nonce, "", Producer(), [], {"default": output})
    return wire.encode(document)


TestCommitModel = CommitModel.TestCase
TestCommitModel.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestVolumeCommitModel = VolumeCommitModel.TestCase
TestVolumeCommitModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
