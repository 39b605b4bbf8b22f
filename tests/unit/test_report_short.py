"""A report short enough for a container's termination message."""

from __future__ import annotations

import json

import pytest

from datalayer.handoff.context import Pin
from datalayer.handoff.destinations import Destination, S3Place
from datalayer.handoff.report import MAX_SHORT, Delivered, OutputReport, ReportedError, TaskReport, decode_report
from datalayer.stores.counting import TierReceipt

LARGE = 500
DELIVERED = Delivered("default", Destination("s3", S3Place("bucket", "path", "conn")), "s3://bucket/path", 3, 4, 5, 6)


def report(**rest: object) -> TaskReport:
    fields: dict[str, object] = {"state": "failed", "key": "/team/dag/task/run", "exit_code": 3, "digest": "sha256:x"}
    return TaskReport(**{**fields, **rest})  # type: ignore[arg-type]  # whatever a test gives


def test_a_small_one_loses_only_what_was_read() -> None:
    whole = report(outputs={"default": OutputReport("cold", 1, 2)}, receipt={"cold": TierReceipt({"get": 1})})
    assert decode_report(whole.encode_short()) == whole
    read = report(inputs={"up": [Pin("/team/dag/up/run", 1, "sha256:y")]})
    assert decode_report(read.encode_short()) == report()


@pytest.mark.parametrize(
    "large",
    [
        {"inputs": {f"up{at}": [Pin("/t/d/u/r", 1, "x")] for at in range(LARGE)}},
        {"receipt": {f"tier{at}": TierReceipt({"get": 1}) for at in range(LARGE)}},
        {"outputs": {f"out{at}": OutputReport("cold", 1, 2) for at in range(LARGE)}},
        {"delivered": [DELIVERED] * LARGE},
        {"error": ReportedError("X", "long and 日本語 \"'\\\n\x00" * LARGE, retryable=False)},
    ],
)
def test_a_large_one_fits_and_is_read_as_any(large: dict[str, object]) -> None:
    data = report(**large).encode_short()
    assert len(data) <= MAX_SHORT
    json.loads(data)
    found = decode_report(data)
    assert (found.state, found.key, found.exit_code, found.digest) == ("failed", "/team/dag/task/run", 3, "sha256:x")
    if "error" in large:
        assert found.error is not None
        assert found.error.message.startswith("long and 日本語")
        assert not found.error.retryable


def test_the_outputs_of_a_committed_one_stay_as_long_as_they_fit() -> None:
    outputs = {"default": OutputReport("cold", 1, 2)}
    found = decode_report(report(outputs=outputs, delivered=[DELIVERED] * LARGE).encode_short())
    assert found.outputs == outputs
