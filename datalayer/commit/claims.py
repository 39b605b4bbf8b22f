"""Claims: how storage assigns attempt numbers.

An attempt's number is the first free one, taken by an exclusive put of its claim: one request when it is the first. Numbers therefore only
grow, whatever happens to the scheduler's database, its try numbers and everybody's clocks.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from datalayer.addresses import layout
from datalayer.commit import wire
from datalayer.errors import AlreadyExistsError, DataLayerError, NotFoundError, PublishError

if TYPE_CHECKING:
    from datalayer.addresses.keys import TaskKey
    from datalayer.stores.base import Store

# Each round that fails means that another process took a number, so this bounds a storm and never a normal race.
_MAX_ROUNDS = 1000


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """The claim of one attempt. Wire version 1."""

    version: str
    key: str
    attempt: int
    nonce: str
    """Random; tells this claimant from any other."""
    started: str
    """When, by the claimant's clock, ISO-8601. For people."""
    owner: str | None = None
    """The scheduler's id of the task instance, so that a resumed task finds its own attempt again."""


def claim_attempt(store: Store, key: TaskKey, owner: str | None = None) -> Claim:
    """Take the next attempt number of a task and return the claim that holds it.

    Args:
        store: The home store.
        key: The task.
        owner: The scheduler's id of this try of the task instance, which :func:`find_claim` finds the claim by.

    Raises:
        PublishError: The numbers are taken faster than this can claim one.
        StoreError: The store failed; a number may have been taken, which does no harm.
    """
    nonce = os.urandom(16).hex()
    number = 1
    for _ in range(_MAX_ROUNDS):
        claim = Claim(wire.VERSION, str(key), number, nonce, datetime.now(UTC).isoformat(), owner)
        try:
            store.put_exclusive(_claim_path(key, number), wire.encode(claim))
        except AlreadyExistsError:
            there = read_claim(store, key, number)
            if there and there.nonce == nonce:
                return there  # Our own put, whose answer was lost.
            number = max(attempt_numbers(store, key), default=number) + 1
        else:
            return claim
    raise PublishError(
        f"no attempt number of {key} could be claimed in {_MAX_ROUNDS} rounds: something creates claims without end there",
        key=str(key),
    )


def claim_once(store: Store, key: TaskKey, owner: str) -> tuple[Claim, bool]:
    """Return the claim of an owner, and whether it was made now: one request where nobody has claimed before.

    Args:
        store: The home store.
        key: The task.
        owner: The scheduler's id of this try of the task instance. A claim that it has made before is found again.

    Raises:
        PublishError: As for :func:`claim_attempt`.
    """
    claim = Claim(wire.VERSION, str(key), 1, os.urandom(16).hex(), datetime.now(UTC).isoformat(), owner)
    try:
        store.put_exclusive(_claim_path(key, 1), wire.encode(claim))
    except AlreadyExistsError:
        # Its own put, whose answer was lost, is found, too.
        found = find_claim(store, key, owner)
        return (found, found.nonce == claim.nonce) if found else (claim_attempt(store, key, owner), True)
    return claim, True


def find_claim(store: Store, key: TaskKey, owner: str) -> Claim | None:
    """Return the newest claim that a task instance holds, or None."""
    for number in sorted(attempt_numbers(store, key), reverse=True):
        claim = read_claim(store, key, number)
        if claim and claim.owner == owner:
            return claim
    return None


def read_claim(store: Store, key: TaskKey, number: int) -> Claim | None:
    """Return one attempt's claim, or None where there is none that can be read."""
    path = _claim_path(key, number)
    try:
        data, _ = store.get(path)
    except NotFoundError:
        return None
    try:
        return wire.decode(data, Claim, f"the claim at {store.location(path)}", DataLayerError)
    except DataLayerError:
        # Whatever it is, the number is taken. Nothing is decided by a claim's content but whose it is.
        return None


def attempt_numbers(store: Store, key: TaskKey) -> list[int]:
    """Return the numbers that have a folder under the task's attempts."""
    folders, _ = store.children(layout.attempts_path(key))
    return [int(name) for name in folders if name.isascii() and name.isdigit()]


def _claim_path(key: TaskKey, number: int) -> str:
    return f"{layout.attempt_path(key, number)}/{layout.CLAIM}"
