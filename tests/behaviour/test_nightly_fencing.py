"""The full sizes: ten thousand zombie commits on each kind of store, ten million ids."""

from __future__ import annotations

import random
import unicodedata

import pytest

from datalayer import CommitConflictError, DataLayer, InvalidKeyError, TaskKey
from datalayer.addresses.encoding import decode_component, encode_component

ZOMBIES = 10_000
IDS = 10_000_000


@pytest.mark.nightly
def test_f03_ten_thousand_zombie_commits_are_fenced(layer: DataLayer) -> None:
    for number in range(ZOMBIES // 20):
        key = TaskKey("t", "d", "k", "20130101T000000Z", number)
        zombies = [layer.publish(key) for _ in range(20)]
        winner = layer.publish(key)
        for attempt in (*zombies, winner):
            attempt.output().put("a", str(attempt.number).encode())
        winner.commit()
        for zombie in zombies:
            with pytest.raises(CommitConflictError):
                zombie.commit()
        assert layer.resolve(key)["default"].read_bytes("a") == b"21"


@pytest.mark.nightly
def test_ten_million_ids_round_trip_without_a_collision_or_an_escape() -> None:
    source = random.Random(20130101)
    alphabet = [".", "..", "/", "\\", "!", "!2e", "%", "%2e", "=", "~", " ", "\n", "\x00", "a", "A", "é", "👩", "{"]
    alphabet += [unicodedata.normalize("NFD", "é"), "map_index-", "run_id-", "0", "-", "_", ":", "+", "2f"]
    seen: dict[str, str] = {}
    for _ in range(IDS):
        text = "".join(source.choices(alphabet, k=source.randint(1, 6)))
        try:
            component = encode_component(text)
        except InvalidKeyError:
            continue
        assert component not in {".", ".."}
        assert "/" not in component
        assert decode_component(component) == text
        assert seen.setdefault(component, text) == text
        if len(seen) > 2_000_000:
            seen.clear()
