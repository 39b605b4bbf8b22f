"""Generations of one output whose content tells which one it is, so that a mixed or partial read shows."""

from __future__ import annotations

from datalayer import DataLayer, NotPublishedError, TaskKey
from datalayer.commit.publisher import Attempt

# Large enough that the big file goes up in parts on S3.
BIG = 17 << 20


def contents(generation: int) -> dict[str, bytes]:
    """The files of a generation; no two generations share a byte."""
    mark = bytes([generation])
    return {"a.bin": mark * 1000, f"only-{generation}": mark, "big.bin": mark * BIG}


def stage(attempt: Attempt, generation: int) -> None:
    """Write a generation's files to an attempt."""
    for name, data in contents(generation).items():
        with attempt.output().open(name) as file:
            file.write(data)


def publish(layer: DataLayer, key: TaskKey, generation: int) -> int:
    """Publish a generation, and return the attempt's number."""
    with layer.publish(key) as attempt:
        stage(attempt, generation)
    return attempt.number


def read_generation(layer: DataLayer, key: TaskKey) -> int | None:
    """The generation that a reader sees, whole; None where nothing is published. Anything else fails."""
    try:
        output = layer.resolve(key)["default"]
    except NotPublishedError:
        return None
    found = {name: output.read_bytes(name) for name in output.files}
    generation = found["a.bin"][0]
    assert found == contents(generation), "a reader saw a mixed or partial output"
    return generation
