from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.exceptions
import psutil
import pytest
from mypy_boto3_s3 import S3Client

from spark_env.versions import ALLUXIO
from tests.services.alluxio import AlluxioFolder, AlluxioServer
from tests.services.debian import has_fuse
from tests.services.faultproxy import FaultProxy
from tests.services.process import HOST
from tests.services.s3server import S3Server

NAMES = ("plain", "a b/ü+%2F/c=d&e#f!20", "deep/er/and/deeper")
needs_fuse = pytest.mark.skipif(not has_fuse(), reason="this machine has no /dev/fuse")


@pytest.fixture
def bucket(versitygw: S3Server) -> str:
    return versitygw.new_bucket()


@pytest.fixture
def s3(versitygw: S3Server) -> Iterator[S3Client]:
    with versitygw.client() as client:
        yield client


@pytest.fixture
def folder(alluxio: AlluxioServer, bucket: str, fault_proxy: FaultProxy) -> Iterator[AlluxioFolder]:
    """The bucket's prefix ``outputs``, which Alluxio reaches through the fault proxy."""
    with alluxio.mount(bucket, "outputs", endpoint=fault_proxy.endpoint) as folder:
        fault_proxy.reset()
        yield folder


def read(server: S3Server, folder: AlluxioFolder, name: str, span: str = "") -> bytes:
    with server.client(endpoint=f"{folder.proxy}/api/v1/s3") as client:
        answer = client.get_object(Bucket=folder.path[1:], Key=name, Range=span or "bytes=0-")
        with answer["Body"] as body:
            return body.read()


def becomes(wanted: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not (so := wanted()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return so


def test_it_serves_what_s3_holds(versitygw: S3Server, s3: S3Client, bucket: str, folder: AlluxioFolder) -> None:
    for name in NAMES:
        s3.put_object(Bucket=bucket, Key=f"outputs/{name}", Body=name.encode() * 10_000)
        assert read(versitygw, folder, name) == name.encode() * 10_000
        assert read(versitygw, folder, name, "bytes=5-30000") == (name.encode() * 10_000)[5:30001]
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchKey"):
        read(versitygw, folder, "absent")


def test_it_is_the_release_that_clients_are_of(alluxio: AlluxioServer) -> None:
    assert alluxio.version == ALLUXIO


def test_warm_reads_ask_s3_for_no_data(
    versitygw: S3Server, s3: S3Client, bucket: str, folder: AlluxioFolder, fault_proxy: FaultProxy
) -> None:
    data = os.urandom(3 << 20)
    s3.put_object(Bucket=bucket, Key="outputs/file", Body=data)
    assert read(versitygw, folder, "file") == data
    assert fault_proxy.count("GET", "/outputs/file") == 1
    assert becomes(lambda: folder.status("file")["inAlluxioPercentage"] == 100)
    for _ in range(3):
        assert read(versitygw, folder, "file") == data
    assert read(versitygw, folder, "file", "bytes=1000-1999") == data[1000:2000]
    if folder.mount:
        assert (folder.mount / "file").read_bytes() == data
    assert fault_proxy.count("GET", "/outputs/file") == 1


@needs_fuse
def test_fuse_shows_the_same_bytes_and_lets_nobody_write(s3: S3Client, bucket: str, folder: AlluxioFolder) -> None:
    assert folder.mount is not None
    for name in NAMES:
        s3.put_object(Bucket=bucket, Key=f"outputs/{name}", Body=name.encode() * 10_000)
        assert (folder.mount / name).read_bytes() == name.encode() * 10_000
    assert sorted(path.name for path in folder.mount.iterdir()) == ["a b", "deep", "plain"]
    with pytest.raises(OSError, match="Read-only"):
        (folder.mount / "plain").unlink()


def test_a_killed_worker_is_missed_and_comes_back_with_what_it_held(
    alluxio: AlluxioServer,
    versitygw: S3Server,
    s3: S3Client,
    bucket: str,
    folder: AlluxioFolder,
    fault_proxy: FaultProxy,
) -> None:
    s3.put_object(Bucket=bucket, Key="outputs/file", Body=b"data")
    assert read(versitygw, folder, "file") == b"data"
    before = alluxio.worker.pid
    alluxio.worker.kill()
    with pytest.raises(botocore.exceptions.ClientError, match="InternalError"):
        read(versitygw, folder, "file")
    alluxio.start()
    assert alluxio.worker.pid != before
    assert read(versitygw, folder, "file") == b"data"
    assert fault_proxy.count("GET", "/outputs/file") == 1


def test_a_killed_master_remembers(
    alluxio: AlluxioServer, versitygw: S3Server, s3: S3Client, bucket: str, folder: AlluxioFolder
) -> None:
    s3.put_object(Bucket=bucket, Key="outputs/file", Body=b"data")
    assert read(versitygw, folder, "file") == b"data"
    alluxio.ask(f"{folder.path}/file", "set-attribute", {"pinned": True})
    url = folder.url
    alluxio.master.kill()
    with pytest.raises(RuntimeError, match="Failed to connect to master"):
        folder.status("file")
    alluxio.start()
    assert folder.status("file")["pinned"]
    assert read(versitygw, folder, "file") == b"data"
    assert folder.url == url


def test_a_killed_proxy_comes_back_at_its_address_and_outlives_the_thread_that_started_it(
    alluxio: AlluxioServer, versitygw: S3Server, s3: S3Client, bucket: str, folder: AlluxioFolder
) -> None:
    s3.put_object(Bucket=bucket, Key="outputs/file", Body=b"data")
    alluxio.proxy.kill()
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        read(versitygw, folder, "file")
    starter = threading.Thread(target=alluxio.start)
    starter.start()
    starter.join()
    assert read(versitygw, folder, "file") == b"data"


@needs_fuse
def test_a_killed_fuse_is_mounted_again(
    alluxio: AlluxioServer, s3: S3Client, bucket: str, folder: AlluxioFolder
) -> None:
    s3.put_object(Bucket=bucket, Key="outputs/file", Body=b"data")
    assert alluxio.fuse is not None
    assert folder.mount is not None
    alluxio.fuse.kill()
    with pytest.raises(OSError, match="abort|not connected"):
        (folder.mount / "file").read_bytes()
    alluxio.start()
    assert (folder.mount / "file").read_bytes() == b"data"


def test_the_next_mount_brings_back_what_a_test_has_killed(
    alluxio: AlluxioServer, versitygw: S3Server, s3: S3Client, bucket: str
) -> None:
    alluxio.worker.kill()
    with alluxio.mount(bucket) as folder:
        s3.put_object(Bucket=bucket, Key="file", Body=b"data")
        assert read(versitygw, folder, "file") == b"data"
        alluxio.proxy.kill()
    assert all(part.serves for part in alluxio.parts)
    with pytest.raises(RuntimeError, match="does not exist"):
        folder.status("file")


def test_a_flipped_byte_is_served_until_it_is_evicted(
    alluxio: AlluxioServer, versitygw: S3Server, s3: S3Client, bucket: str, folder: AlluxioFolder
) -> None:
    s3.put_object(Bucket=bucket, Key="outputs/file", Body=b"abcd")
    with pytest.raises(FileNotFoundError):
        folder.flip_byte("file", 2)
    assert read(versitygw, folder, "file") == b"abcd"
    folder.flip_byte("file", 2)
    assert read(versitygw, folder, "file") == b"ab\x9cd"
    alluxio.ask(f"{folder.path}/file", "set-attribute", {"pinned": True})
    with pytest.raises(RuntimeError, match="pinned"):
        alluxio.ask(f"{folder.path}/file", "free")
    alluxio.ask(f"{folder.path}/file", "set-attribute", {"pinned": False})
    alluxio.ask(f"{folder.path}/file", "free")
    assert becomes(lambda: not folder.blocks("file"))
    assert read(versitygw, folder, "file") == b"abcd"


def test_a_path_that_was_asked_for_too_early_is_found_later(
    versitygw: S3Server, s3: S3Client, bucket: str, folder: AlluxioFolder
) -> None:
    for name in ("new/folder/file", "new/folder/other"):
        with pytest.raises(botocore.exceptions.ClientError, match="NoSuchKey"):
            read(versitygw, folder, name)
        # Alluxio goes on to look, after its answer, which part of the path is absent.
        time.sleep(1)
        s3.put_object(Bucket=bucket, Key=f"outputs/{name}", Body=b"data")
        assert read(versitygw, folder, name) == b"data"


def test_nothing_listens_but_on_loopback(alluxio: AlluxioServer) -> None:
    listening = [
        connection.laddr
        for part in alluxio.parts
        for connection in psutil.Process(part.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 5
    assert {address.ip for address in listening} == {HOST}


def test_the_keys_of_s3_are_in_one_file_that_only_its_owner_reads(
    alluxio: AlluxioServer, versitygw: S3Server, folder: AlluxioFolder
) -> None:
    home, secret = alluxio.folders[0], versitygw.root.secret_key.encode()
    files = [path for part in ("conf", "journal", "logs") for path in home.glob(f"{part}/**/*") if path.is_file()]
    holding = [path for path in files if secret in path.read_bytes()]
    assert holding == [home / "conf" / "alluxio-site.properties"]
    assert holding[0].stat().st_mode & 0o777 == 0o600
    assert not any(versitygw.root.secret_key in " ".join(psutil.Process(part.pid).cmdline()) for part in alluxio.parts)


OWNER = """
import sys, time
from tests.services.alluxio import AlluxioServer
from tests.services.s3server import Credentials, S3Server
s3 = S3Server("http://127.0.0.1:1", Credentials("none", "none"), 0, None)
with AlluxioServer(s3, memory=64 << 20) as alluxio:
    print(*(part.pid for part in alluxio.parts), *alluxio.folders, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another() -> Iterator[tuple[subprocess.Popen[bytes], list[int], list[Path]]]:
    """A process that owns an Alluxio beside that of this run; its servers, and the folders it made."""
    root, pipe = Path(__file__).parents[2], subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=pipe, stdout=pipe, cwd=root) as owner:
        assert owner.stdout is not None
        *pids, home, memory = owner.stdout.readline().decode().split()
        yield owner, list(map(int, pids)), [Path(home), Path(memory)]


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_nothing_is_left_of_it_after_its_owner(end: str) -> None:
    with another() as (owner, pids, folders):
        assert all(folder.is_dir() for folder in folders)
        watches = [os.pidfd_open(pid) for pid in pids]  # tells these very processes apart from later ones
        if end == "killed":
            owner.send_signal(signal.SIGKILL)
    for watch in watches:
        assert select.select([watch], [], [], 60)[0] == [watch]
        os.close(watch)
    assert becomes(lambda: not any(folder.exists() for folder in folders))
    assert not any(str(folders[0]) in mount.mountpoint for mount in psutil.disk_partitions(all=True))


def test_a_server_that_ends_says_why(alluxio: AlluxioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    alluxio.proxy.kill()
    monkeypatch.setattr(alluxio.proxy, "_command", ["sh", "-c", "echo no such thing; exit 1"])
    with pytest.raises(RuntimeError, match="proxy did not get ready(.|\n)*no such thing"):
        alluxio.start()
    monkeypatch.undo()
    alluxio.start()
