"""F11: 503, an error inside a 200, an answer cut short. Retried within the deadline, and never taken for the truth."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import pytest

from datalayer.addresses.location import Location
from datalayer.config import Connection
from datalayer.errors import AlreadyExistsError, StoreUnavailableError, TransientStoreError, VerificationError
from datalayer.stores.s3 import S3Store
from tests.behaviour.stores import s3_store
from tests.services.faultproxy import Answer, Fault, FaultProxy
from tests.services.process import HOST
from tests.services.s3server import S3Server

MIB = 1 << 20
DATA = bytes(range(256)) * 80_000  # 20 MB
CUT = Fault(truncate=100_000)


@pytest.fixture
def direct(versitygw: S3Server) -> S3Store:
    """A store that goes to the server itself."""
    return s3_store(versitygw)


@pytest.fixture
def store(versitygw: S3Server, fault_proxy: FaultProxy, direct: S3Store) -> S3Store:
    """The same store through the fault proxy."""
    return s3_store(versitygw, direct.root.authority, endpoint=fault_proxy.endpoint)


@pytest.fixture
def hasty(versitygw: S3Server, fault_proxy: FaultProxy, direct: S3Store) -> S3Store:
    """The same with little patience."""
    return s3_store(versitygw, direct.root.authority, endpoint=fault_proxy.endpoint, timeout=0.5, deadline=1)


def write(store: S3Store, path: str, data: bytes) -> None:
    with store.writer(path) as writer:
        writer.write(data)


CALLS: dict[str, Callable[[S3Store], object]] = {
    "head": lambda store: store.head("a"),
    "get": lambda store: store.get("a"),
    "get_range": lambda store: store.get_range("a", 1, 2),
    "open": lambda store: store.open("a").read(),
    "stream": lambda store: list(store.stream("a")),
    "put": lambda store: store.put("b", b"1"),
    "put_exclusive": lambda store: store.put_exclusive("b", b"1"),
    "compare_and_put": lambda store: store.compare_and_put("a", b"1", store.head("a").version),
    "writer": lambda store: write(store, "b", bytes(30 * MIB)),
    "copy": lambda store: store.copy("a", "b"),
    "delete": lambda store: store.delete(["a"]),
    "list": lambda store: list(store.list("")),
    "children": lambda store: store.children(""),
    "reap_uploads": lambda store: store.reap_uploads("", timedelta(hours=1)),
}


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_f11_a_storm_passes(
    store: S3Store, direct: S3Store, fault_proxy: FaultProxy, call: Callable[[S3Store], object], status: int
) -> None:
    direct.put("a", b"hello")
    fault_proxy.script(Fault(answer=Answer(status)), times=3)
    call(store)
    assert [request.status for request in fault_proxy.requests[:3]] == [status] * 3
    assert fault_proxy.count() > 3


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_f11_a_storm_without_end_is_unavailable(
    hasty: S3Store, direct: S3Store, fault_proxy: FaultProxy, call: Callable[[S3Store], object]
) -> None:
    direct.put("a", b"hello")
    fault_proxy.script(Fault(answer=Answer(503)), times=-1)
    with pytest.raises(StoreUnavailableError) as caught:
        call(hasty)
    assert caught.value.retryable
    assert fault_proxy.count() > 1
    assert [info.path for info in direct.list("")] == ["a"]


READS: dict[str, Callable[[S3Store], bytes]] = {
    "get": lambda store: store.get("a")[0],
    "get_range": lambda store: store.get_range("a", 0, len(DATA)),
    "open": lambda store: store.open("a").read(),
    "open by pieces": lambda store: b"".join(iter(partial(store.open("a").read, 700_000), b"")),
    "stream": lambda store: b"".join(store.stream("a", chunk_size=3 * MIB)),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("times", [1, 3])
def test_f11_an_answer_cut_short_is_read_on(
    store: S3Store, direct: S3Store, fault_proxy: FaultProxy, read: Callable[[S3Store], bytes], times: int
) -> None:
    write(direct, "a", DATA)
    fault_proxy.script(CUT, kind="GET", times=times)
    assert read(store) == DATA
    assert sum(request.fault is CUT for request in fault_proxy.requests) == times


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_f11_answers_cut_short_without_end_are_an_error(
    hasty: S3Store, direct: S3Store, fault_proxy: FaultProxy, read: Callable[[S3Store], bytes]
) -> None:
    write(direct, "a", DATA)
    fault_proxy.script(Fault(truncate=0), kind="GET", times=-1)
    with pytest.raises((TransientStoreError, VerificationError)):
        read(hasty)


def test_f11_an_object_replaced_while_it_is_read_is_never_mixed(store: S3Store, direct: S3Store) -> None:
    write(direct, "a", b"1" * len(DATA))
    stream = store.stream("a", chunk_size=MIB)
    read = next(iter(stream))
    write(direct, "a", b"2" * len(DATA))
    with pytest.raises(VerificationError, match="replaced"):
        for chunk in stream:
            read += chunk
    assert set(read) == {ord("1")}
    with store.open("a") as file:
        file.read(10)
        write(direct, "a", b"3" * len(DATA))
        with pytest.raises(VerificationError, match="replaced"):
            file.read()


@pytest.mark.parametrize("applied", [False, True], ids=["not applied", "applied"])
def test_f11_an_upload_that_fails_inside_a_200_is_completed(
    store: S3Store, direct: S3Store, fault_proxy: FaultProxy, applied: bool
) -> None:
    answer = Answer(200, "InternalError")
    fault = Fault(replace_answer=answer) if applied else Fault(answer=answer)
    fault_proxy.script(fault, where=lambda request: request.kind == "POST" and "uploadId" in request.query, times=2)
    write(store, "a", DATA)
    assert direct.get("a")[0] == DATA
    assert sum(request.fault is fault for request in fault_proxy.requests) == 2


def test_f11_an_upload_that_always_fails_inside_a_200_leaves_nothing(
    hasty: S3Store, direct: S3Store, fault_proxy: FaultProxy
) -> None:
    fault = Fault(answer=Answer(200, "InternalError"))
    fault_proxy.script(fault, where=lambda request: request.kind == "POST" and "uploadId" in request.query, times=-1)
    with pytest.raises(StoreUnavailableError):
        write(hasty, "a", DATA)
    assert list(direct.list("")) == []
    uploads = direct.client.list_multipart_uploads(Bucket=direct.root.authority)
    assert uploads.get("Uploads", []) == []


def test_f11_a_copy_that_fails_inside_a_200_is_made(store: S3Store, direct: S3Store, fault_proxy: FaultProxy) -> None:
    direct.put("a", b"hello")
    fault_proxy.script(Fault(answer=Answer(200, "InternalError")), kind="PUT", times=2)
    assert store.copy("a", "b").size == 5
    assert direct.get("b")[0] == b"hello"


def test_f11_a_lost_answer_to_an_exclusive_put_is_never_a_second_object(
    store: S3Store, direct: S3Store, fault_proxy: FaultProxy
) -> None:
    """The contract: after an answer that was lost, what is there may be the caller's own bytes."""
    fault_proxy.script(Fault(drop_answer=True), kind="PUT")
    with pytest.raises((AlreadyExistsError, TransientStoreError)):
        store.put_exclusive("a", b"mine")
    assert direct.get("a")[0] == b"mine"


TEN = b"0123456789"


class _ShortServer:
    """Serves an object of ten bytes, and gives of each range that is asked for no more bytes than scripted, though it promises all."""

    def __init__(self, *given: int) -> None:
        self._given = given
        self._socket = socket.create_server((HOST, 0))
        self.endpoint = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        for given in self._given:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # Stopped before all of its answers were wanted.
                return
            with connection:
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    asked += connection.recv(65536)
                found = re.search(rb"range: bytes=(\d+)-(\d+)", asked)
                first, last = (int(found[1]), min(int(found[2]), 9)) if found else (0, 9)
                body = TEN[first : last + 1][:given]
                head = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {len(body)}\r\nContent-Range: bytes {first}-{last}/10\r\n"
                head += 'ETag: "1"\r\nLast-Modified: Mon, 23 Nov 2026 10:00:00 GMT\r\nConnection: close\r\n\r\n'
                connection.sendall(head.encode() + body)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self._socket.close()


@pytest.fixture
def short_server() -> Iterator[Callable[..., S3Store]]:
    servers: list[_ShortServer] = []

    def start(*given: int) -> S3Store:
        servers.append(_ShortServer(*given))
        servers[-1].thread.start()
        endpoint = servers[-1].endpoint
        keys = Connection(endpoint=endpoint, access_key_id="a", secret_access_key="b", timeout=5, deadline=20)
        return S3Store(Location.parse("s3://bucket"), connection=keys)

    yield start
    for server in servers:
        server.stop()


@pytest.mark.parametrize("near", [True, False])
def test_f11_an_answer_that_ends_well_and_too_early_is_asked_for_again(
    short_server: Callable[..., S3Store], monkeypatch: pytest.MonkeyPatch, near: bool
) -> None:
    monkeypatch.setattr("datalayer.stores.s3_reading._NEAR_SECONDS", 60 if near else 0)
    store = short_server(5, 1, 10, 3, 10, 2, 4, 3, 5, 10)
    assert store.get_range("a", 0, 10) == TEN
    assert b"".join(store.stream("a")) == TEN
    assert b"".join(store.stream("a", chunk_size=4)) == TEN


def test_f11_an_answer_that_always_ends_too_early_is_an_error(short_server: Callable[..., S3Store]) -> None:
    with pytest.raises(VerificationError, match="ended at byte 5, before byte 10"):
        short_server(*[5] * 4).get_range("a", 0, 10)
