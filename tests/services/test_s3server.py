from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import botocore.exceptions
import pytest

from tests.services.process import ServerProcess
from tests.services.s3server import Credentials, S3Server, versitygw_server


def test_buckets_are_fresh(versitygw: S3Server, moto: S3Server) -> None:
    for server in (versitygw, moto):
        assert server.new_bucket() != server.new_bucket()


def test_a_user_has_the_rights_of_the_policy_and_no_others(versitygw: S3Server) -> None:
    bucket, user = versitygw.new_bucket(), versitygw.add_user()
    with versitygw.client(user) as client:
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            client.put_object(Bucket=bucket, Key="mine/a", Body=b"")
        versitygw.allow(user, bucket, "mine/")
        client.put_object(Bucket=bucket, Key="mine/a", Body=b"1")
        assert client.list_objects_v2(Bucket=bucket, Prefix="mine/")["KeyCount"] == 1
        for key in ("theirs/a", "mine"):
            with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
                client.put_object(Bucket=bucket, Key=key, Body=b"")
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            client.list_objects_v2(Bucket=bucket, Prefix="theirs/")


def test_a_wrong_secret_is_refused(versitygw: S3Server) -> None:
    wrong = Credentials(versitygw.root.access_key, "wrong")
    with (
        versitygw.client(wrong) as client,
        pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"),
    ):
        client.list_buckets()


def test_the_server_is_gone_after_its_block() -> None:
    with versitygw_server() as server:
        assert server.folder is not None
        os.kill(server.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
    assert not server.folder.parent.exists()


OWNER = """
import sys, time
from tests.services.s3server import versitygw_server
with versitygw_server() as server:
    print(server.pid, flush=True)
    time.sleep(600)
"""


def test_the_server_dies_with_a_killed_test_run() -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, cwd=root) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        watch = os.pidfd_open(pid)  # tells this very process apart from a later one with its number
        owner.send_signal(signal.SIGKILL)
    import select

    assert select.select([watch], [], [], 60)[0] == [watch]
    os.close(watch)


def test_a_server_that_does_not_start_says_why() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with pytest.raises(RuntimeError, match="no such thing"), ServerProcess(lambda _: command, lambda _: False):
        pass
