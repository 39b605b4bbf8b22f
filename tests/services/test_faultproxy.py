from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import botocore.exceptions
import pytest
import urllib3.exceptions
from mypy_boto3_s3 import S3Client

from tests.services.faultproxy import Answer, Fault, FaultProxy, Request
from tests.services.process import HOST
from tests.services.s3server import S3Server

CONNECTION_LOST = (
    botocore.exceptions.ConnectionClosedError,
    botocore.exceptions.EndpointConnectionError,
)


@pytest.fixture
def bucket(versitygw: S3Server) -> str:
    return versitygw.new_bucket()


@pytest.fixture
def s3(versitygw: S3Server, fault_proxy: FaultProxy) -> Iterator[S3Client]:
    """A client that goes through the proxy and tries once."""
    with versitygw.client(endpoint=fault_proxy.endpoint) as client:
        yield client


@pytest.fixture
def behind(versitygw: S3Server) -> Iterator[S3Client]:
    """A client that goes to the server itself."""
    with versitygw.client() as client:
        yield client


def keys(client: S3Client, bucket: str) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_requests_pass_and_are_counted_by_kind(s3: S3Client, fault_proxy: FaultProxy, bucket: str) -> None:
    data = bytes(range(256)) * 20_000
    s3.put_object(Bucket=bucket, Key="a b/ü+%/c", Body=data, Metadata={"note": "x"})
    head = s3.head_object(Bucket=bucket, Key="a b/ü+%/c")
    assert (head["ContentLength"], head["Metadata"]) == (len(data), {"note": "x"})
    with s3.get_object(Bucket=bucket, Key="a b/ü+%/c")["Body"] as body:
        assert body.read() == data
    with s3.get_object(Bucket=bucket, Key="a b/ü+%/c", Range="bytes=256-1023")["Body"] as body:
        assert body.read() == data[256:1024]
    assert keys(s3, bucket) == ["a b/ü+%/c"]
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a b/ü+%/c"}]})
    s3.delete_object(Bucket=bucket, Key="a b/ü+%/c")
    assert fault_proxy.counts == {"PUT": 1, "HEAD": 1, "GET": 2, "LIST": 1, "POST": 1, "DELETE": 1}
    put, first_head, first_get, ranged = fault_proxy.requests[:4]
    assert put.bytes_up >= len(data)  # botocore may frame the body to sign it
    assert (first_head.bytes_down, first_get.bytes_down, ranged.bytes_down) == (0, len(data), 768)
    assert put.path == f"/{bucket}/a b/ü+%/c"
    assert [request.status for request in fault_proxy.requests] == [200, 200, 200, 206, 200, 200, 204]


def test_a_conditional_put_keeps_its_condition(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
    with pytest.raises(botocore.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")


def test_a_multipart_upload_passes(s3: S3Client, behind: S3Client, bucket: str) -> None:
    part = b"p" * (5 << 20)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etags = [
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=part)["ETag"]
        for number in (1, 2)
    ]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key="k",
        UploadId=upload,
        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item] # a comprehension makes plain dicts
    )
    assert behind.head_object(Bucket=bucket, Key="k")["ContentLength"] == 2 * len(part)


def test_rules_choose_by_kind_path_predicate_and_number(s3: S3Client, fault_proxy: FaultProxy, bucket: str) -> None:
    fault_proxy.script(Fault(answer=Answer(503)), kind="PUT", path="/x", skip=1, times=2)
    statuses = []
    for number in range(5):
        s3.head_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="other", Body=b"")
        try:
            s3.put_object(Bucket=bucket, Key=f"x{number}", Body=b"1")
            statuses.append(200)
        except botocore.exceptions.ClientError as error:
            statuses.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
    assert statuses == [200, 503, 503, 200, 200]
    fault_proxy.reset()
    assert fault_proxy.requests == []
    fault_proxy.script(Fault(answer=Answer(500, "InternalError")), where=lambda request: request.index == 2, times=-1)
    s3.head_bucket(Bucket=bucket)
    s3.head_bucket(Bucket=bucket)
    with pytest.raises(botocore.exceptions.ClientError, match="500"):
        s3.head_bucket(Bucket=bucket)
    assert [bool(request.fault) for request in fault_proxy.requests] == [False, False, True]


def test_an_answer_of_the_proxy_never_reaches_the_server(
    s3: S3Client, behind: S3Client, fault_proxy: FaultProxy, bucket: str
) -> None:
    fault_proxy.script(Fault(answer=Answer(503)))
    with pytest.raises(botocore.exceptions.ClientError, match="SlowDown") as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x" * (3 << 20))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert keys(behind, bucket) == []
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")  # the same connection goes on


def test_an_error_inside_a_200(s3: S3Client, behind: S3Client, fault_proxy: FaultProxy, bucket: str) -> None:
    behind.put_object(Bucket=bucket, Key="k", Body=b"x")
    fault_proxy.script(Fault(replace_answer=Answer(200, "InternalError")), kind="PUT")
    with pytest.raises(botocore.exceptions.ClientError, match="InternalError"):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    assert "copy" in keys(behind, bucket)


def test_a_dropped_request_is_not_applied(s3: S3Client, behind: S3Client, fault_proxy: FaultProxy, bucket: str) -> None:
    fault_proxy.script(Fault(drop_request=True))
    with pytest.raises(CONNECTION_LOST):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert keys(behind, bucket) == []
    assert fault_proxy.requests[0].status is None


def test_a_dropped_answer_leaves_the_request_applied(
    s3: S3Client, behind: S3Client, fault_proxy: FaultProxy, bucket: str
) -> None:
    fault_proxy.script(Fault(drop_answer=True))
    with pytest.raises(CONNECTION_LOST):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert keys(behind, bucket) == ["k"]


def test_a_truncated_answer(s3: S3Client, fault_proxy: FaultProxy, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000)
    fault_proxy.script(Fault(truncate=1_000), kind="GET")
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert answer["ContentLength"] == 100_000
    with pytest.raises(urllib3.exceptions.ProtocolError), answer["Body"] as body:
        body.read()
    assert fault_proxy.requests[-1].bytes_down == 1_000


def test_a_delay_holds_back_the_request_or_the_answer(
    versitygw: S3Server, behind: S3Client, fault_proxy: FaultProxy, bucket: str
) -> None:
    """No clock: what waits an hour has not happened, and ends with the proxy."""
    arrived = threading.Semaphore(0)
    held = Fault(before=lambda _: arrived.release(), delay=3600)
    applied = Fault(after=lambda _: arrived.release(), delay_answer=3600)
    fault_proxy.script(held, path="held")
    fault_proxy.script(applied, path="applied")
    lost: list[str] = []

    def put(key: str) -> None:
        with versitygw.client(endpoint=fault_proxy.endpoint) as client:
            try:
                client.put_object(Bucket=bucket, Key=key, Body=b"x")
            except CONNECTION_LOST:
                lost.append(key)

    threads = [threading.Thread(target=put, args=(key,)) for key in ("held", "applied")]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert arrived.acquire(timeout=60)
    assert keys(behind, bucket) == ["applied"]
    assert lost == []
    fault_proxy.__exit__(None, None, None)
    for thread in threads:
        thread.join()
    assert sorted(lost) == ["applied", "held"]
    assert keys(behind, bucket) == ["applied"]


CLIENT = """
import boto3, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id=sys.argv[2],
                  aws_secret_access_key=sys.argv[3])
for number in range(3):
    s3.put_object(Bucket=sys.argv[4], Key=str(number), Body=b"x")
"""


@pytest.mark.parametrize(("moment", "left"), [("before", ["0"]), ("after", ["0", "1"])])
def test_a_process_is_killed_at_a_request(
    versitygw: S3Server, behind: S3Client, fault_proxy: FaultProxy, bucket: str, moment: str, left: list[str]
) -> None:
    root = versitygw.root
    ready = threading.Event()

    def kill(request: Request) -> None:
        assert ready.wait(60)
        process.kill()
        process.wait()

    killing = Fault(before=kill, drop_request=True) if moment == "before" else Fault(after=kill)
    fault_proxy.script(killing, kind="PUT", skip=1)
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, fault_proxy.endpoint, root.access_key, root.secret_key, bucket]
    )
    ready.set()
    assert process.wait(timeout=60) == -9
    assert keys(behind, bucket) == left
    assert fault_proxy.counts["PUT"] == 2


def test_a_body_that_its_client_did_not_finish_is_not_applied(
    behind: S3Client, fault_proxy: FaultProxy, bucket: str
) -> None:
    url = urlsplit(fault_proxy.endpoint)
    with socket.create_connection((str(url.hostname), int(url.port or 0))) as half:
        half.sendall(f"PUT /{bucket}/k HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf".encode())
        half.shutdown(socket.SHUT_WR)
        assert half.recv(1) == b""
    assert keys(behind, bucket) == []


def test_chunked_bodies_pass_both_ways() -> None:
    """In front of a bare socket: neither of the S3 servers takes and gives chunks."""
    seen = bytearray()

    def serve() -> None:
        connection = listener.accept()[0]
        with connection:
            while not seen.endswith(b"0\r\n\r\n"):
                seen.extend(connection.recv(65536))
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
            )

    with socket.create_server((HOST, 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        with FaultProxy(f"http://{HOST}:{listener.getsockname()[1]}") as proxy:
            url = urlsplit(proxy.endpoint)
            connection = HTTPConnection(str(url.hostname), url.port, timeout=60)
            headers = {"Host": "signed.example", "Expect": "100-continue"}
            connection.request("PUT", "/b/k?x=%2F", body=iter([b"one", b"two"]), headers=headers)
            with connection.getresponse() as answer:
                assert answer.read() == b"abcdefg"
            connection.close()
        server.join()
    head, _, body = bytes(seen).partition(b"\r\n\r\n")
    line, *headers_seen = head.split(b"\r\n")
    assert line == b"PUT /b/k?x=%2F HTTP/1.1"
    assert sorted(headers_seen) == [
        b"Accept-Encoding: identity",
        b"Host: signed.example",
        b"Transfer-Encoding: chunked",
    ]
    assert body == b"6\r\nonetwo\r\n0\r\n\r\n"
    assert (proxy.bytes_up, proxy.bytes_down) == (6, 7)


def test_a_server_that_refuses_early_is_heard(versitygw: S3Server, fault_proxy: FaultProxy) -> None:
    bucket, stranger = versitygw.new_bucket(), versitygw.add_user()
    with (
        versitygw.client(stranger, endpoint=fault_proxy.endpoint) as client,
        pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"),
    ):
        client.put_object(Bucket=bucket, Key="k", Body=b"x" * (32 << 20))


def test_only_loopback_servers_are_fronted() -> None:
    with pytest.raises(ValueError, match="loopback"):
        FaultProxy("http://192.0.2.1:80")
