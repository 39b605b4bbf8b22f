"""The parts of the store on Alluxio that need no Alluxio."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalayer import ConfigError
from datalayer.config import HotConfig
from datalayer.stores.alluxio.address import AlluxioAddress, literal
from datalayer.stores.alluxio.availability import Availability
from datalayer.stores.alluxio.failures import ServiceError
from datalayer.stores.alluxio.fuse import FuseMount
from datalayer.stores.alluxio.recent import RecentBlocks
from datalayer.stores.alluxio.spans import WHOLE, Span, UnverifiedError, cut, only_at_the_end, spans, verified
from datalayer.stores.base import Expected
from datalayer.stores.checksum import BLOCK, crc32c

PROXY = "http://proxy:39999"


def address(url: str, proxy: str = PROXY) -> AlluxioAddress:
    return AlluxioAddress.of(HotConfig(url=url, proxy=proxy))


def test_a_path_has_one_name_on_each_side() -> None:
    found = address("alluxio://master:19998/outputs/a=b/prod", "http://proxy:39999/base/")
    assert (found.bucket, found.prefix) == ("outputs", "a=b/prod")
    assert found.key("t/é x") == "a=b/prod/t/é x"
    assert found.path("") == "/outputs/a=b/prod"
    assert found.object_target("t/é x") == "/base/api/v1/s3/outputs/a%3Db/prod/t/%C3%A9%20x"
    assert found.verb_target("t/x", "free") == "/base/api/v1/paths/%2Foutputs%2Fa%3Db%2Fprod%2Ft%2Fx/free"
    assert found.s3 == "http://proxy:39999/base/api/v1/s3"


@pytest.mark.parametrize(
    ("url", "masters"),
    [
        ("alluxio://master/outputs", [("master", 19998)]),
        ("alluxio://one:1,two:2,three/outputs", [("one", 1), ("two", 2), ("three", 19998)]),
        ("alluxio://zk@one:2181,two:2181/outputs", []),
    ],
)
def test_all_masters_are_known(url: str, masters: list[tuple[str, int]]) -> None:
    assert address(url).masters == masters


@pytest.mark.parametrize(
    ("url", "proxy", "key"),
    [
        ("alluxio://master:19998", PROXY, "hot.url"),
        ("alluxio://master:19998/", PROXY, "hot.url"),
        ("alluxio://master:19998/a?b", PROXY, "hot.url"),
        ("alluxio://master:19998/a/../b", PROXY, "hot.url"),
        ("alluxio:///outputs", PROXY, "hot.url"),
        ("alluxio://master:port/outputs", PROXY, "hot.url"),
        ("alluxio://master:19998/outputs", "http://", "hot.proxy"),
        ("alluxio://master:19998/outputs", "http://proxy:port", "hot.proxy"),
    ],
)
def test_a_place_that_cannot_be_is_named(url: str, proxy: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}"):
        address(url, proxy)


@pytest.mark.parametrize("path", ["a?b", "a\\b", "a\nb", "a\x7fb", "?"])
def test_what_the_proxy_would_take_for_another_path_is_known(path: str) -> None:
    assert not literal(path)
    assert literal("a=b/%2F+é !20#&;\"'.bin")


def contents(length: int) -> bytes:
    return bytes(at % 251 for at in range(length))


LENGTH = 2 * BLOCK + 1000
DATA = contents(LENGTH)
KNOWN = Expected(LENGTH, crc32c(DATA), tuple(crc32c(DATA[at : at + BLOCK]) for at in range(0, LENGTH, BLOCK)))


def delivered(known: Expected, start: int, end: int, *, data: bytes = DATA, piece: int = 100_000) -> bytes:
    wanted = spans(known, start, end)
    if not wanted:
        return b""
    answer = data[wanted[0].start : wanted[-1].stop]
    pieces = (answer[at : at + piece] for at in range(0, len(answer), piece))
    return b"".join(part for span, held in verified(pieces, wanted) for part in cut(span, held, start, end))


@given(
    st.integers(0, LENGTH),
    st.integers(0, LENGTH),
    st.sampled_from([70_000, 1 << 20, BLOCK, 9 << 20]),
    st.sampled_from([KNOWN, KNOWN._replace(blocks=None), KNOWN._replace(blocks=None, checksum=None)]),
)
def test_every_range_is_delivered_as_it_is(one: int, other: int, piece: int, known: Expected) -> None:
    start, end = sorted((one, other))
    assert delivered(known, start, end, piece=piece) == DATA[start:end]


@given(st.integers(0, LENGTH - 1), st.sampled_from([KNOWN, KNOWN._replace(blocks=None)]))
def test_no_byte_of_a_damaged_span_is_delivered(at: int, known: Expected) -> None:
    damaged = DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :]
    wanted = spans(known, 0, LENGTH)
    found = 0
    with pytest.raises(UnverifiedError) as caught:
        for span, held in verified(iter([damaged]), wanted):
            assert span.stop <= at
            found += sum(map(len, held))
    assert caught.value.reason == "corrupt"
    assert found == (at // BLOCK * BLOCK if known.blocks else 0)


def test_bytes_that_end_too_early_are_no_file() -> None:
    with pytest.raises(UnverifiedError, match="ends at byte 5000"):
        list(verified(iter([DATA[:5000]]), spans(KNOWN, 0, LENGTH)))
    assert list(verified(iter([]), [])) == []


def test_only_large_files_without_checksums_of_blocks_wait_for_their_end() -> None:
    large = Expected(WHOLE + 1, 0, None)
    assert only_at_the_end(large, 0, WHOLE + 1)
    assert spans(large, 0, WHOLE + 1) == [Span(0, WHOLE + 1, None)]
    assert not only_at_the_end(large, 1, WHOLE + 1)
    assert not only_at_the_end(large._replace(checksum=None), 0, WHOLE + 1)
    assert not only_at_the_end(KNOWN, 0, LENGTH)
    small = KNOWN._replace(blocks=None)
    assert spans(small, 0, LENGTH) == [Span(0, LENGTH, KNOWN.checksum)]
    assert spans(small, 0, LENGTH - 1) == [Span(0, LENGTH - 1, None)]


def test_few_blocks_are_remembered_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    recent = RecentBlocks()
    span = Span(0, 3, 1)
    for at in range(20):
        recent.keep(f"file-{at}", span, [b"abc"], hot=True)
    assert recent.get("file-0", span) is None
    assert recent.get("file-19", span) == ([b"abc"], True)
    assert recent.get("file-19", Span(0, 3, 2)) is None
    recent.forget("file-19")
    assert recent.get("file-19", span) is None
    assert recent.get("file-18", span) is not None
    monkeypatch.setattr("datalayer.stores.alluxio.recent._SECONDS", 0.0)
    assert recent.get("file-18", span) is None


class Service:
    """What is probed: files that can be read, as the test likes."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self.down = True
        self.probed: list[str] = []
        self.alone: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def probe(self, path: str) -> None:
        self.gate.wait(10)
        self.probed.append(path)
        if self.down or path in self.bad:
            raise ServiceError("unavailable")


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def availability(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Availability]:
    monkeypatch.setattr("datalayer.stores.alluxio.availability._FIRST_SECONDS", 0.05)
    made = Availability("Alluxio", "s3://bucket", service.probe, service.alone.append)
    yield made
    service.gate.set()
    settle(made)


def settle(availability: Availability) -> None:
    if availability._prober:
        availability._prober.join()


def back(availability: Availability) -> None:
    deadline = time.monotonic() + 10
    while availability.reason():
        assert time.monotonic() < deadline
        settle(availability)
        time.sleep(0.01)


def test_an_outage_is_said_once_and_tried_in_the_background(
    service: Service, availability: Availability, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert availability.reason() is None
    service.gate.clear()
    assert not availability.failed("a", "refused")
    # Nobody waits for the probe.
    assert availability.reason() == availability.reason("b") == "unavailable"
    for _ in range(5):
        assert not availability.failed("b", "refused")
    service.gate.set()
    settle(availability)
    assert service.probed == ["a"]
    assert availability.reason() == "unavailable"
    service.down = False
    back(availability)
    assert set(service.probed) == {"a"}
    assert [(record.levelname, "a" in record.message.split()) for record in caplog.records] == [
        ("WARNING", True),
        ("INFO", False),
    ]


def test_it_is_tried_ever_more_seldom(service: Service, availability: Availability) -> None:
    availability.failed("a", "refused")
    until = time.monotonic() + 1
    while time.monotonic() < until:
        availability.reason()
        time.sleep(0.005)
    # At once, and after 0.05, 0.15, 0.35 and 0.75 seconds.
    assert 3 <= len(service.probed) <= 5


def test_what_was_slow_for_a_moment_is_back_at_once_and_then_left_alone_for_a_while(
    service: Service, availability: Availability, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.down = False
    availability.failed("a", "timed out")
    settle(availability)
    assert availability.reason() is None
    monkeypatch.setattr("datalayer.stores.alluxio.availability._FIRST_SECONDS", 60.0)
    availability.failed("b", "timed out")
    settle(availability)
    assert availability.reason() == "unavailable"
    assert service.probed == ["a"]


def test_a_file_that_alone_fails_is_avoided(service: Service, availability: Availability) -> None:
    service.down = False
    service.bad.add("bad")
    availability.served("good")
    availability.failed("bad", "HTTP 500", answered=True)
    back(availability)
    assert service.alone == ["bad"]
    assert availability.reason("bad") == "unavailable"
    assert availability.reason("good") is None


def test_a_file_that_fails_again_though_its_first_byte_comes_is_told(
    service: Service, availability: Availability
) -> None:
    service.down = False
    assert not availability.failed("bad", "HTTP 500", answered=True)
    back(availability)
    assert availability.failed("bad", "HTTP 500", answered=True)
    assert availability.reason("bad") is None
    # It may be the service after all.
    assert not availability.failed("bad", "HTTP 500", answered=True)


def test_a_file_that_is_avoided_again_is_avoided_for_longer(availability: Availability) -> None:
    availability.avoid("a", "being replaced", 0.02)
    assert availability.reason("a") == "being replaced"
    time.sleep(0.03)
    assert availability.reason("a") is None
    availability.avoid("a", "being replaced", 0.02)
    time.sleep(0.03)
    assert availability.reason("a") == "being replaced"
    assert availability.reason("b") is None


def test_a_folder_of_the_disk_is_no_mount(tmp_path: Path) -> None:
    assert not FuseMount(tmp_path, 1).answers()
    assert not FuseMount(tmp_path / "absent", 1).answers()


def test_a_mount_that_never_answers_is_waited_for_no_longer_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(Path, "is_dir", lambda _: answer.wait(20))
    monkeypatch.setattr("datalayer.stores.alluxio.fuse._REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr("datalayer.stores.alluxio.fuse._kind_of_mount", lambda _: "fuse.alluxio")
    mount = FuseMount(tmp_path, 0.1)
    clock = time.monotonic()
    assert not mount.answers()
    looking = mount._looking
    # Who asks meanwhile does not wait behind the first.
    for _ in range(10):
        assert not mount.answers()
    assert mount._looking is looking
    assert time.monotonic() - clock < 5
    answer.set()
    assert looking
    looking.join()
    assert mount.answers()
