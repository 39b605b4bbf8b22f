"""``datalayer deliver`` as a person or a script uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datalayer import DataLayer
from datalayer.handoff.context import AttemptRef, OutputSpec, TaskContext
from datalayer.handoff.destinations import Destination, S3Place
from tests.integration.configured import configure
from tests.integration.test_cli import KEY, SHORT, Cli, cli, publish
from tests.services.s3server import S3Server

__all__ = ["cli"]


@pytest.fixture
def layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli: Cli) -> DataLayer:
    monkeypatch.chdir(tmp_path)
    return configure("s3", request, monkeypatch, tmp_path / "store")


@pytest.fixture
def bucket(layer: DataLayer, versitygw: S3Server) -> str:
    return versitygw.new_bucket("delivered")


def place(layer: DataLayer, bucket: str) -> dict[str, Any]:
    (connection,) = layer.config.connections
    return {"type": "s3", "data": {"bucket": bucket, "path": "out", "aws_conn_id": connection}}


def delivered(server: S3Server, bucket: str) -> list[str]:
    with server.client() as client:
        found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return [one["Key"] for one in found if "_delivery/" not in one["Key"]]


def test_by_a_job_config(layer: DataLayer, bucket: str, versitygw: S3Server, cli: Cli) -> None:
    publish(layer)
    Path("job.json").write_text(json.dumps({"output": {"default": {"destinations": [place(layer, bucket)]}}}))
    for _ in range(2):
        code, out, err = cli("deliver", SHORT, "--job-config", "job.json")
        assert (code, err) == (0, "")
        assert out.splitlines()[1].split() == ["default", f"s3://{bucket}/out", "1", "19", "B", "1", "0"]
        assert delivered(versitygw, bucket) == ["out/flights.csv"]


def test_by_a_context_and_for_a_script(layer: DataLayer, bucket: str, versitygw: S3Server, cli: Cli) -> None:
    publish(layer)
    (connection,) = layer.config.connections
    destination = Destination("s3", S3Place(bucket, "out", connection))
    nonce = layer.resolve(KEY).manifest.nonce
    context = TaskContext(key=str(KEY), attempt=AttemptRef(1, nonce), outputs={"default": OutputSpec([destination])})
    Path("context.json").write_bytes(context.encode())
    (one,) = cli("deliver", "--context", "context.json", "--json").json["delivered"]
    assert (one["output"], one["location"], one["files"]) == ("default", f"s3://{bucket}/out", 1)
    # The attempt that the context names, and no other.
    publish(layer, {"newer.csv": b"1"})
    ended = cli("deliver", "--context", "context.json")
    assert ended.code == 1
    assert "attempt 2 has committed since" in ended.err
    assert delivered(versitygw, bucket) == ["out/flights.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((SHORT,), "needs either --context FILE, or ADDRESS and --job-config FILE"),
        (("--job-config", "job.json"), "needs either"),
        ((SHORT, "--context", "job.json"), "give it alone"),
        ((SHORT, "--job-config", "job.json"), "names no destination"),
        ((SHORT, "--job-config", "unknown.json"), "no connection named 'nobody'"),
        ((), "needs either"),
    ],
)
def test_what_cannot_be_delivered(layer: DataLayer, cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    publish(layer)
    Path("job.json").write_text("{}")
    unknown = {"type": "s3", "data": {"bucket": "bucket", "path": "out", "aws_conn_id": "nobody"}}
    Path("unknown.json").write_text(json.dumps({"output": {"default": {"destinations": [unknown]}}}))
    ended = cli("deliver", *arguments)
    assert ended.code != 0
    assert said in ended.err + ended.out
