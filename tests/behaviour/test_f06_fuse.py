"""F6 by FUSE: a program that reads Alluxio's files gets right bytes or an error within 30 seconds, never a hang."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services.alluxio import AlluxioFolder, AlluxioServer
from tests.services.faultproxy import FaultProxy
from tests.services.s3server import S3Server

pytestmark = pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="this machine has no /dev/fuse")

SIZE = 32 << 20
DEADLINE = 30
# A reader in a process of its own: one that hangs in the kernel cannot be interrupted from within. It reads the file again and again,
# past the page cache, and ends with 0 after so many times, or with 5 at an error.
READER = """
import hashlib, os, sys
path, digest, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
for number in range(1000):
    try:
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        found, at = hashlib.sha256(), 0
        while data := os.pread(file, 1 << 20, at):
            found.update(data)
            at += len(data)
        os.close(file)
    except OSError as error:
        print(f"error {error.errno}", flush=True)
        sys.exit(5)
    if at == size and found.hexdigest() != digest:
        sys.exit("other bytes")
    if at != size:
        sys.exit(f"ended well at {at} of {size} bytes")
    print(f"read {number}", flush=True)
"""


@pytest.fixture
def bucket(versitygw: S3Server) -> str:
    return versitygw.new_bucket()


@pytest.fixture
def folder(alluxio: AlluxioServer, fault_proxy: FaultProxy, bucket: str) -> Iterator[AlluxioFolder]:
    with alluxio.mount(bucket, endpoint=fault_proxy.endpoint) as mounted:
        yield mounted


@pytest.fixture
def file(versitygw: S3Server, bucket: str, folder: AlluxioFolder) -> tuple[Path, bytes]:
    data = os.urandom(SIZE)
    with versitygw.client() as client:
        client.put_object(Bucket=bucket, Key="a/large", Body=data)
    assert folder.mount is not None
    return folder.mount / "a" / "large", data


def test_warm_reads_by_fuse_ask_s3_for_no_data(
    file: tuple[Path, bytes], folder: AlluxioFolder, fault_proxy: FaultProxy
) -> None:
    path, data = file
    assert path.read_bytes() == data
    # The kernel reads ahead in parts, which Alluxio passes on; the whole block it fetches beside them.
    while folder.status("a/large")["inAlluxioPercentage"] < 100:
        time.sleep(0.1)
    asked = fault_proxy.count("GET", "a/large")
    assert asked > 0
    for _ in range(3):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(descriptor, 1000, 20_000_000) == data[20_000_000:20_001_000]
        finally:
            os.close(descriptor)
        assert path.read_bytes() == data
    assert fault_proxy.count("GET", "a/large") == asked


@pytest.mark.kills
@pytest.mark.parametrize("killed", ["worker", "master", "fuse"])
def test_a_reader_ends_soon_when_a_server_is_killed(
    alluxio: AlluxioServer, file: tuple[Path, bytes], killed: str, record_property: Callable[[str, object], None]
) -> None:
    import hashlib

    path, data = file
    words = [sys.executable, "-c", READER, str(path), hashlib.sha256(data).hexdigest(), str(len(data))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        assert reader.stdout.readline() == "ready\n"
        assert reader.stdout.readline() == "read 0\n"
        part = getattr(alluxio, killed)
        part.kill()
        begin = time.monotonic()
        try:
            code = reader.wait(DEADLINE)
        finally:
            reader.kill()
        took = time.monotonic() - begin
        said, failed = reader.stdout.read(), reader.stderr.read()
    # A worker or master that is gone is an error of the file system, not an end of the file that looks well.
    assert code == 5, (said, failed)
    assert "error" in said
    record_property("seconds until the error", round(took, 1))
    alluxio.start()
    assert path.read_bytes() == data
