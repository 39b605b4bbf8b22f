"""The demo's S3 server: what it counts, and that it goes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from examples.flights import __main__ as demo
from examples.flights.running import DesignResult
from examples.flights.server import ACCESS_KEY, REGION, SECRET_KEY, Counts, S3Server

ROOT = Path(__file__).parents[2]


def test_requests_and_bytes_are_counted_at_the_server() -> None:
    import boto3

    with S3Server() as server:
        server.make_bucket("reports")
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        try:
            before = server.counts()
            client.put_object(Bucket="reports", Key="a", Body=bytes(300_000))
            assert server.counts().since(before) == Counts(1, 0, 300_000, 0)
            before = server.counts()
            client.get_object(Bucket="reports", Key="a", Range="bytes=10-1009")["Body"].read()
            client.head_object(Bucket="reports", Key="a")
            assert server.counts().since(before) == Counts(2, 1000, 0, 0)
            folder = "outputs/team/dag/task/run/attempts/1"
            for name, is_data in (
                ("default/a", True),
                ("default/b/c", True),
                ("index/default.json.gz", False),
                ("claim.json", False),
            ):
                client.put_object(Bucket="reports", Key=f"{folder}/{name}", Body=bytes(9))
                before = server.counts()
                client.get_object(Bucket="reports", Key=f"{folder}/{name}", Range="bytes=0-6")["Body"].read()
                assert server.counts().since(before) == Counts(1, 7, 0, 7 if is_data else 0)
            assert server.counts() == server.counts()
        finally:
            client.close()


def test_the_server_ends_with_the_process_that_started_it() -> None:
    code = (
        "import sys\n"
        "from examples.flights.server import S3Server\n"
        "with S3Server():\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdin is not None
    assert starter.stdout is not None
    with starter.stdin, starter.stdout:
        assert starter.stdout.readline() == "ready\n"
        servers = psutil.Process(starter.pid).children(recursive=True)
        assert servers
        starter.send_signal(signal.SIGKILL)
        starter.wait()
        assert not psutil.wait_procs(servers, timeout=60)[1]


def test_results_that_differ_end_the_demo_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ran(*_: Any) -> list[DesignResult]:
        return [DesignResult(design, 1, 2, 3, 4.0, 5, 6, design, 3) for design in ("s3-poc", "s3-direct")]

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(demo, "_run", ran)
    monkeypatch.setattr(sys, "argv", ["examples.flights"])
    try:
        assert demo.main() == 1
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert "The results differ" in capsys.readouterr().out
