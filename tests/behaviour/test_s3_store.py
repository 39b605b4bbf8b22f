"""S3 stores that are not reachable, not allowed, or share a bucket with strangers; and what they ask of a server."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datalayer import StoreTimeoutError, StoreUnavailableError
from datalayer.addresses.location import Location
from datalayer.config import Connection
from datalayer.errors import AlreadyExistsError, ConfigError, PermissionDeniedError, StoreError
from datalayer.stores.s3 import S3Store
from datalayer.stores.s3_writer import PART
from tests.behaviour.stores import s3_store
from tests.services.faultproxy import Answer, Fault, FaultProxy
from tests.services.process import HOST
from tests.services.s3server import Credentials, S3Server

CALLS: dict[str, Callable[[S3Store], object]] = {
    "head": lambda store: store.head("a"),
    "get": lambda store: store.get("a"),
    "get_range": lambda store: store.get_range("a", 0, 1),
    "open": lambda store: store.open("a"),
    "stream": lambda store: list(store.stream("a")),
    "put": lambda store: store.put("a", b"1"),
    "put_exclusive": lambda store: store.put_exclusive("a", b"1"),
    "compare_and_put": lambda store: store.compare_and_put("a", b"1", '"0"'),
    "writer": lambda store: write(store, "a", 2 * PART),
    "copy": lambda store: store.copy("a", "b"),
    "delete": lambda store: store.delete(["a"]),
    "list": lambda store: list(store.list("")),
    "children": lambda store: store.children(""),
}


def write(store: S3Store, path: str, size: int) -> None:
    with store.writer(path) as writer:
        writer.write(bytes(size))


def connected(endpoint: str, **settings: float) -> S3Store:
    keys = Connection(endpoint=endpoint, access_key_id="known", secret_access_key="hidden", **settings)  # type: ignore[arg-type]  # its numbers
    return S3Store(Location.parse("s3://bucket/root"), connection=keys)


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that takes connections and says nothing."""
    with socket.create_server((HOST, 0), backlog=1000) as server:
        yield f"http://{HOST}:{server.getsockname()[1]}"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_endpoint_that_nobody_serves_is_unavailable(call: Callable[[S3Store], object]) -> None:
    with socket.create_server((HOST, 0)) as server:
        endpoint = f"http://{HOST}:{server.getsockname()[1]}"
    with pytest.raises(StoreUnavailableError, match="check the connection's endpoint") as caught:
        call(connected(endpoint, timeout=1, deadline=2))
    assert caught.value.retryable
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_endpoint_that_says_nothing_times_out(silent: str, call: Callable[[S3Store], object]) -> None:
    """Bounded by the deadline: the test would not end otherwise."""
    with pytest.raises(StoreTimeoutError, match="no answer within the timeout"):
        call(connected(silent, timeout=0.2, deadline=0.4))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("known", [True, False], ids=["wrong secret", "unknown key"])
def test_wrong_credentials_are_named(versitygw: S3Server, call: Callable[[S3Store], object], known: bool) -> None:
    user = Credentials(versitygw.root.access_key if known else "nobody", "not-the-secret")
    with pytest.raises(PermissionDeniedError, match="access_key_id") as caught:
        call(s3_store(versitygw, "bucket", user=user))
    told = f"{caught.value} {caught.value.__cause__}"
    assert user.secret_key not in told
    assert versitygw.root.secret_key not in told


@pytest.mark.parametrize("call", [call for name, call in CALLS.items() if name not in {"head", "copy"}])
def test_a_missing_bucket_is_told_from_a_missing_object(versitygw: S3Server, call: Callable[[S3Store], object]) -> None:
    with pytest.raises(ConfigError, match="no such bucket"):
        call(s3_store(versitygw, "no-such-bucket"))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_denied_action_names_the_policy(versitygw: S3Server, call: Callable[[S3Store], object]) -> None:
    bucket, stranger = versitygw.new_bucket(), versitygw.add_user()
    with pytest.raises(PermissionDeniedError, match="policy"):
        call(s3_store(versitygw, bucket, user=stranger))


@pytest.mark.parametrize("name", ["AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "AWS_REGION"])
def test_what_a_connection_sets_is_not_mixed_with_the_environment(
    versitygw: S3Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://elsewhere.invalid" if name == "AWS_ENDPOINT_URL" else "elsewhere")
    store = s3_store(versitygw)
    store.put("a", b"1")
    assert [info.path for info in store.list("")] == ["a"]
    with store.arrow_filesystem.open_input_file(store.filesystem_path("a")) as file:
        assert file.read() == b"1"


def test_the_environment_serves_a_connection_that_sets_nothing(
    versitygw: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", versitygw.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", versitygw.root.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", versitygw.root.secret_key)
    monkeypatch.setenv("AWS_REGION", versitygw.region)
    store = S3Store(Location.parse(f"s3://{versitygw.new_bucket()}"))
    store.put("a", b"1")
    assert [info.path for info in store.list("")] == ["a"]
    with store.arrow_filesystem.open_input_file(store.filesystem_path("a")) as file:
        assert file.read() == b"1"


def test_a_credentials_file_serves_too(versitygw: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bucket = versitygw.new_bucket()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    root = versitygw.root
    lines = ["[team]", f"aws_access_key_id = {root.access_key}", f"aws_secret_access_key = {root.secret_key}"]
    (tmp_path / "credentials").write_text("\n".join(lines))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    connection = Connection(endpoint=versitygw.endpoint, region=versitygw.region)
    store = S3Store(Location.parse(f"s3://{bucket}"), connection=connection)
    assert store.put("a", b"1").size == 1
    assert [info.path for info in store.list("")] == ["a"]


def test_requests_are_as_few_as_can_be(versitygw: S3Server, fault_proxy: FaultProxy) -> None:
    store = s3_store(versitygw, endpoint=fault_proxy.endpoint)

    def asked(call: Callable[[], object]) -> list[str]:
        fault_proxy.reset()
        call()
        return [request.kind for request in fault_proxy.requests]

    def read(path: str) -> bytes:
        with store.open(path) as file:
            return file.read()

    assert asked(lambda: store.put("a", b"1")) == ["PUT"]
    assert asked(lambda: store.put_exclusive("b", b"1")) == ["PUT"]
    assert asked(lambda: write(store, "c", 1 << 20)) == ["PUT"]
    assert asked(lambda: store.get("a")) == ["GET"]
    assert asked(lambda: store.get_range("c", 5, 5)) == ["GET"]
    assert asked(lambda: read("a")) == ["GET"]
    assert asked(lambda: list(store.stream("c"))) == ["GET"]
    assert asked(lambda: list(store.list(""))) == ["LIST"]
    assert asked(lambda: store.children("")) == ["LIST"]
    assert asked(lambda: store.delete(["a", "b", "nothing"])) == ["POST"]
    assert asked(lambda: store.delete([])) == []
    assert asked(lambda: write(store, "c", 2 * PART)) == ["POST", "PUT", "PUT", "POST"]


def test_puts_and_parts_carry_checksums(versitygw: S3Server, fault_proxy: FaultProxy) -> None:
    store = s3_store(versitygw, endpoint=fault_proxy.endpoint)
    store.put("a", b"1")
    write(store, "b", 2 * PART)
    puts = [request for request in fault_proxy.requests if request.kind == "PUT"]
    assert len(puts) == 3
    assert all("x-amz-checksum-sha256" in request.headers for request in puts)


def test_an_undecided_put_is_tried_again(versitygw: S3Server, fault_proxy: FaultProxy) -> None:
    """S3 answers 409 when conditional puts run into each other: nobody has lost yet."""
    store = s3_store(versitygw, endpoint=fault_proxy.endpoint)
    undecided = Fault(answer=Answer(409, "ConditionalRequestConflict"))
    fault_proxy.script(undecided, kind="PUT", times=3)
    version = store.put_exclusive("a", b"1").version
    fault_proxy.script(undecided, kind="PUT", times=2)
    assert store.compare_and_put("a", b"2", version).size == 1
    assert store.get("a")[0] == b"2"
    fault_proxy.script(undecided, kind="PUT", times=-1)
    with pytest.raises(StoreUnavailableError) as caught:
        store.put_exclusive("b", b"1")
    assert not isinstance(caught.value, AlreadyExistsError)


def test_a_large_copy_goes_by_parts(
    versitygw: S3Server, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datalayer.stores.s3._COPY_WHOLE", 10 << 20)
    monkeypatch.setattr("datalayer.stores.s3._COPY_PART", 8 << 20)
    store = s3_store(versitygw, endpoint=fault_proxy.endpoint)
    write(store, "a", 20 << 20)
    fault_proxy.reset()
    assert store.copy("a", "b").size == 20 << 20
    assert fault_proxy.counts["PUT"] == 3
    assert fault_proxy.bytes_up < 10_000


def test_what_strangers_put_beside_us_is_listed_as_it_is(moto: S3Server) -> None:
    """moto: versitygw's disk cannot hold these keys."""
    store = s3_store(moto)
    store.put("a/file", b"1")
    bucket = store.root.authority
    for key in ("root/a/", "root/a/empty/", "root/a//twice", "root/a/../up", "root/a/./here", "rootless"):
        store.client.put_object(Bucket=bucket, Key=key, Body=b"x")
    found = sorted(info.path for info in store.list("a"))
    assert found == ["a/../up", "a/./here", "a//twice", "a/file"]
    folders, objects = store.children("a")
    assert [info.path for info in objects] == ["a/file"]
    assert folders == [".", "..", "empty"]
    assert store.children("")[0] == ["a"]
    assert sorted(info.path for info in store.list("")) == found


def test_a_writer_that_cannot_go_on_says_so_and_leaves_nothing(versitygw: S3Server, fault_proxy: FaultProxy) -> None:
    store = s3_store(versitygw, endpoint=fault_proxy.endpoint)
    fault_proxy.script(Fault(answer=Answer(403, "AccessDenied")), kind="PUT", skip=1, times=-1)
    writer = store.writer("a")
    with pytest.raises(PermissionDeniedError):
        for _ in range(60):
            writer.write(bytes(PART))
    with pytest.raises(StoreError):
        writer.close()
    fault_proxy.reset()
    assert list(store.list("")) == []
    assert store.client.list_multipart_uploads(Bucket=store.root.authority).get("Uploads", []) == []


def test_a_slow_reader_outlasts_the_timeout(versitygw: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream read from one connection keeps it waiting; that its time is up then is not the service's fault."""
    monkeypatch.setattr("datalayer.stores.s3_reading._NEAR_SECONDS", 60)
    monkeypatch.setattr("datalayer.stores.s3_reading._FAST", 0)
    patient = s3_store(versitygw)
    store = s3_store(versitygw, patient.root.authority, timeout=1, deadline=2)
    with patient.writer("a") as writer:
        for number in range(64):
            writer.write(bytes([number]) * (1 << 20))
    read = hashlib.sha256()
    size = 0
    for chunk in store.stream("a"):
        read.update(chunk)
        # At the beginning of the second stretch, most of which is still to come.
        if size < 17 << 20 <= size + len(chunk):
            time.sleep(3)
        size += len(chunk)
    expected = hashlib.sha256(b"".join(bytes([number]) * (1 << 20) for number in range(64)))
    assert read.digest() == expected.digest()


MEMORY = """
import sys
from datalayer.addresses.location import Location
from datalayer.config import Connection
from datalayer.stores.s3 import S3Store

def peak():
    with open("/proc/self/status") as status:
        return int(status.read().partition("VmHWM:")[2].split()[0]) << 10

endpoint, key, secret, root, size = sys.argv[1:]
store = S3Store(Location.parse(root), connection=Connection(endpoint=endpoint, access_key_id=key, secret_access_key=secret))
store.put("small", b"x")
idle = peak()
block = bytes(1 << 20)
with store.writer("large") as writer:
    for _ in range(int(size) >> 20):
        writer.write(block)
written = peak()
total = sum(len(chunk) for chunk in store.stream("large"))
with store.open("large") as file:
    while chunk := file.read(1 << 20):
        total += len(chunk)
assert total == 2 * int(size), total
print(written - idle, peak() - idle)
"""


@pytest.mark.parametrize("size", [512 << 20, pytest.param(4 << 30, marks=pytest.mark.nightly)])
def test_memory_does_not_grow_with_the_object(versitygw: S3Server, size: int) -> None:
    root = f"s3://{versitygw.new_bucket()}/root"
    arguments = [versitygw.endpoint, versitygw.root.access_key, versitygw.root.secret_key, root, str(size)]
    done = subprocess.run([sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    writing, both = map(int, done.stdout.split())
    assert writing < 150 << 20
    assert both < 200 << 20
    assert versitygw.folder is not None
    (versitygw.folder / root.removeprefix("s3://") / "large").unlink()


def test_a_folder_with_what_strangers_put_there_does_not_pass_for_empty(moto: S3Server) -> None:
    store = s3_store(moto)
    store.put("a/claim", b"")
    bucket = store.root.authority
    # Both a folder's marker of Hadoop's, and what has no name, hold no bytes of an output.
    for key in ("root/a//x", "root/a/../x", "root/a/claim/x", "root/a/x%2Fy", "root/a/deep/x"):
        assert store.holds_only("a", "a/claim"), key
        store.client.put_object(Bucket=bucket, Key=key, Body=b"")
        assert not store.holds_only("a", "a/claim"), key
        store.client.delete_object(Bucket=bucket, Key=key)
