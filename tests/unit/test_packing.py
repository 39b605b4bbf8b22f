"""A context in the environment of a container."""

from __future__ import annotations

import base64
import gzip
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalayer.errors import ConfigError, HandoffError, ProtocolVersionError
from datalayer.handoff.context import InputSpec, Pin, TaskContext
from datalayer.handoff.packing import context_environment, context_from_environment

KEY = "/team/dag/task/20130101T000000Z"
FIRST = "DATALAYER_INTERNAL_CONTEXT_0"


def with_pins(count: int) -> TaskContext:
    # Digests do not compress, like real ones.
    numbers = random.Random(1)
    pins = [Pin(f"/team/dag/up/run_id-{at}", 1, f"sha256:{numbers.randbytes(32).hex()}") for at in range(count)]
    return TaskContext(key=KEY, inputs={"up": InputSpec(pins=pins)})


@given(owner=st.text(max_size=50), alias=st.text("abcé!/", min_size=1, max_size=20), count=st.integers(0, 5))
def test_a_context_comes_back_as_it_went(owner: str, alias: str, count: int) -> None:
    pins = [Pin(f"/team/dag/up/run_id-{at}", at + 1, "sha256:x") for at in range(count)]
    context = TaskContext(key=KEY, owner=owner, inputs={alias: InputSpec(pins=pins)})
    assert context_from_environment({"PATH": "/bin", **context_environment(context)}) == context


def test_a_long_context_goes_in_pieces_that_linux_takes() -> None:
    context = with_pins(10_000)
    pieces = context_environment(context)
    assert len(pieces) > 2
    assert max(len(name) + len(piece) for name, piece in pieces.items()) < 128 << 10
    assert context_from_environment(pieces) == context


def test_the_same_context_gives_the_same_variables() -> None:
    assert context_environment(with_pins(3)) == context_environment(with_pins(3))


def test_one_that_no_pod_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task/20130101T000000Z has \d+ bytes .*40000 pinned inputs.* Read fewer"):
        context_environment(with_pins(40_000))


def test_without_one_the_error_says_who_sets_it() -> None:
    with pytest.raises(HandoffError, match=r"CONTEXT_0 is not set.*operator"):
        context_from_environment({"PATH": "/bin"})


@pytest.mark.parametrize(
    "piece",
    [
        "",
        "not base64!",
        "é",
        "AAAA",
        base64.b64encode(b"plain").decode(),
        base64.b64encode(gzip.compress(b"[]")[:-4]).decode(),
    ],
)
def test_damage_is_an_error_that_names_the_variable(piece: str) -> None:
    with pytest.raises(HandoffError, match=r"CONTEXT_0"):
        context_from_environment({FIRST: piece})


def test_a_missing_piece_is_noticed() -> None:
    pieces = context_environment(with_pins(10_000))
    del pieces["DATALAYER_INTERNAL_CONTEXT_1"]
    with pytest.raises(HandoffError, match="not whole"):
        context_from_environment(pieces)


def test_what_would_unpack_without_bound_is_refused() -> None:
    bomb = base64.b64encode(gzip.compress(b" " * (32 << 20))).decode()
    with pytest.raises(HandoffError, match="larger than"):
        context_from_environment({FIRST: bomb})


def test_a_newer_major_version_is_refused() -> None:
    newer = base64.b64encode(gzip.compress(b'{"version": "2.0"}')).decode()
    with pytest.raises(ProtocolVersionError):
        context_from_environment({FIRST: newer})
