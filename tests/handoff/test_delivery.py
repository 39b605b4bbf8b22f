"""Deliveries to real buckets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datalayer import (
    CommitConflictError,
    Config,
    ConfigError,
    DataLayer,
    NotSupportedError,
    PermissionDeniedError,
    StoreUnavailableError,
    TaskKey,
    VerificationError,
)
from datalayer.addresses import layout
from datalayer.addresses.location import Location
from datalayer.delivery import deliver
from datalayer.handoff.context import AttemptRef, OutputSpec, TaskContext, context_config
from datalayer.handoff.destinations import Destination, S3Place
from datalayer.handoff.packing import context_environment
from datalayer.handoff.report import Delivered, TaskReport, decode_report
from datalayer.stores.s3 import S3Store
from tests.behaviour.conftest import s3_config
from tests.behaviour.environment import environment_of
from tests.handoff.conftest import ROOT, RUN, Bench
from tests.services.faultproxy import Answer, Fault, FaultProxy
from tests.services.s3server import Credentials, S3Server

KEY = TaskKey("team", "dag", "job", RUN)
LIST = "out/_delivery/team/dag/job/default.json"
PENDING = "out/_delivery/team/dag/job/default.pending.json"


class Site:
    """A layer that publishes, and a bucket to deliver to."""

    def __init__(self, server: S3Server, layer: DataLayer, user: Credentials | None = None) -> None:
        self.server = server
        self.layer = layer
        self.bucket = server.new_bucket("delivered")
        self.user = user

    def destination(self, path: str = "out") -> Destination:
        return Destination("s3", S3Place(self.bucket, path, "test"))

    def publish(self, files: dict[str, bytes], key: TaskKey = KEY, output: str = "default") -> None:
        with self.layer.publish(key) as attempt:
            for name, data in files.items():
                attempt.output(output).put(name, data)

    def deliver(self, key: TaskKey = KEY, path: str = "out", output: str = "default") -> Delivered:
        (done,) = deliver(self.layer, self.layer.resolve(key), output, [self.destination(path)])
        return done

    def objects(self) -> dict[str, bytes]:
        """Everything in the bucket besides lists."""
        return {name: data for name, data in self.everything().items() if "_delivery/" not in name}

    def everything(self) -> dict[str, bytes]:
        with self.server.client() as client:
            found = client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
            return {one["Key"]: client.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].read() for one in found}

    def put(self, name: str, data: bytes) -> None:
        with self.server.client() as client:
            client.put_object(Bucket=self.bucket, Key=name, Body=data)


def volume_site(server: S3Server, folder: Path, **connection: Any) -> Site:
    """Data on a volume, so that deliveries are streamed."""
    made = s3_config(server, "none", **connection)
    folder.mkdir()
    document = {
        "design": "shared-fs",
        "tiers": {"shared": {"url": str(folder)}},
        "connections": {"test": msgspec.structs.asdict(made.connections["test"])},
    }
    return Site(server, DataLayer(Config.from_mapping(document)))


@pytest.fixture
def s3_site(versitygw: S3Server) -> Site:
    """Data on the same service as the destination, so that the server copies."""
    return Site(versitygw, DataLayer(s3_config(versitygw, versitygw.new_bucket())))


@pytest.fixture
def streamed_site(versitygw: S3Server, tmp_path: Path) -> Site:
    return volume_site(versitygw, tmp_path / "volume")


@pytest.fixture(params=["copied", "streamed"])
def site(request: pytest.FixtureRequest) -> Site:
    name = "s3_site" if request.param == "copied" else "streamed_site"
    made: Site = request.getfixturevalue(name)
    return made


def test_files_arrive_and_the_list_names_them(site: Site) -> None:
    files = {"a.txt": b"one", "deep/er/b c%2e.txt": b"two", "empty": b"", "\u00e9+&?": b"x"}
    site.publish(files)
    done = site.deliver()
    assert site.objects() == {f"out/{name}": data for name, data in files.items()}
    copied = len(files) if site.layer.data.root.scheme == "s3" else 0
    assert (done.files, done.bytes, done.copied_by_server, done.removed) == (4, 7, copied, 0)
    assert done.location == f"s3://{site.bucket}/out"
    content = json.loads(site.everything()[LIST])
    resolution = site.layer.resolve(KEY)
    assert (content["key"], content["attempt"], content["digest"]) == (str(KEY), 1, resolution.digest)
    entries = resolution["default"].files
    assert {file["name"]: (file["length"], file["checksum"]) for file in content["files"]} == {
        name: (entry.length, entry.checksum) for name, entry in entries.items()
    }
    assert "leftovers" not in content
    assert PENDING not in site.everything()


def test_a_large_file(site: Site) -> None:
    data = os.urandom(1 << 20) * 30
    with site.layer.publish(KEY) as attempt, attempt.output().open("large") as file:
        file.write(data)
    assert site.deliver().bytes == len(data)
    assert site.objects() == {"out/large": data}


def test_a_file_above_the_size_of_one_copy_goes_by_parts(s3_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from datalayer.delivery import copying

    monkeypatch.setattr(copying, "_COPY_WHOLE", 1 << 20)
    monkeypatch.setattr(copying, "_COPY_PART", 5 << 20)
    data = os.urandom(1 << 20) * 12
    s3_site.publish({"large": data})
    assert s3_site.deliver().copied_by_server == 1
    assert s3_site.objects() == {"out/large": data}


def test_delivering_again_changes_nothing(site: Site) -> None:
    site.publish({"a": b"1", "b": b"2"})
    site.deliver()
    before = site.everything()
    assert site.deliver().removed == 0
    assert site.everything() == before


def test_what_an_earlier_delivery_left_is_removed_and_nothing_else(site: Site) -> None:
    site.put("out/of-others", b"x")
    site.put("out/sub/of-others", b"x")
    site.publish({"stays": b"1", "goes": b"1", "sub/goes": b"1"})
    site.deliver()
    other = TaskKey("team", "dag", "job", "20130102T000000Z")
    site.publish({"stays": b"2", "new": b"2"}, other)
    assert site.deliver(other).removed == 2
    assert site.objects() == {
        "out/of-others": b"x",
        "out/sub/of-others": b"x",
        "out/stays": b"2",
        "out/new": b"2",
    }


def test_what_another_output_delivered_since_under_the_same_name_stays(site: Site) -> None:
    site.publish({"shared": b"of job", "own": b"1"})
    site.deliver()
    other = TaskKey("team", "dag", "other", RUN)
    site.publish({"shared": b"of other"}, other)
    site.deliver(other)
    site.publish({"new": b"2"})
    assert site.deliver().removed == 1
    assert site.objects() == {"out/shared": b"of other", "out/new": b"2"}


def test_a_mapped_task_delivers_into_a_folder_each(site: Site) -> None:
    for index in range(2):
        key = TaskKey("team", "dag", "job", RUN, index)
        site.publish({"f": b"%d" % index, "old": b"x"}, key)
        assert site.deliver(key).location == f"s3://{site.bucket}/out/map_index-{index}"
    site.publish({"f": b"again"}, TaskKey("team", "dag", "job", RUN, 1))
    assert site.deliver(TaskKey("team", "dag", "job", RUN, 1)).removed == 1
    assert site.objects() == {
        "out/map_index-0/f": b"0",
        "out/map_index-0/old": b"x",
        "out/map_index-1/f": b"again",
    }
    assert "out/_delivery/team/dag/job/map_index-0/default.json" in site.everything()


def test_hostile_ids_stay_below_the_lists(streamed_site: Site) -> None:
    key = TaskKey("..", "../../x", "a/b\n", RUN)
    streamed_site.publish({"f": b"x"}, key)
    streamed_site.deliver(key)
    assert set(streamed_site.everything()) == {"out/f", "out/_delivery/!2e!2e/..!2f..!2fx/a!2fb!0a/default.json"}


def test_several_destinations_and_the_root_of_a_bucket(site: Site) -> None:
    site.publish({"f": b"x"})
    wanted = [site.destination("one"), site.destination("two/deep"), site.destination("")]
    done = deliver(site.layer, site.layer.resolve(KEY), "default", wanted)
    assert [one.location for one in done] == [f"s3://{site.bucket}/{path}" for path in ("one", "two/deep", "")]
    assert set(site.objects()) == {"one/f", "two/deep/f", "f"}


def test_a_file_that_would_lie_among_the_lists_is_refused(streamed_site: Site) -> None:
    streamed_site.publish({"_delivery/team/x.json": b"x"})
    with pytest.raises(VerificationError, match="would lie among the delivery lists"):
        streamed_site.deliver()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (S3Place("", "p", "test"), r"outputs.default.data.bucket: '' is no bucket name"),
        (S3Place("a/b", "p", "test"), "bucket"),
        (S3Place("bucket", "../p", "test"), r"outputs.default.data.path"),
        (S3Place("bucket", "p", "none"), "no connection named 'none'"),
    ],
)
def test_bad_destinations(streamed_site: Site, place: S3Place, said: str) -> None:
    streamed_site.publish({"f": b"x"})
    with pytest.raises(ConfigError, match=said):
        deliver(
            streamed_site.layer,
            streamed_site.layer.resolve(KEY),
            "default",
            [streamed_site.destination(), Destination("s3", place)],
        )
    # Nothing is begun while one of several cannot be used.
    assert streamed_site.everything() == {}


def test_a_superseded_attempt_is_not_delivered(site: Site) -> None:
    site.publish({"f": b"old"})
    old = site.layer.resolve(KEY)
    site.publish({"f": b"new"})
    with pytest.raises(CommitConflictError, match="attempt 2 has committed since"):
        deliver(site.layer, old, "default", [site.destination()])
    assert site.everything() == {}


def test_bytes_that_are_not_the_committed_ones_are_not_delivered(streamed_site: Site) -> None:
    large = bytes(6 << 20)
    streamed_site.publish({"small": b"good", "large": large})
    data = streamed_site.layer.data
    folder = layout.output_path(KEY, 1, "default")
    data.put(f"{folder}/small", b"evil")
    with pytest.raises(VerificationError, match="committed were 4 bytes"):
        streamed_site.deliver()
    data.put(f"{folder}/small", b"good")
    data.put(f"{folder}/large", large[:-1] + b"x")
    # Elsewhere: the first delivery may have got as far as the large file, which was good then.
    with pytest.raises(VerificationError, match=f"committed were {len(large)} bytes"):
        streamed_site.deliver(path="second")
    assert "second/large" not in streamed_site.objects()
    assert not any(name.endswith("/default.json") for name in streamed_site.everything())


def test_without_the_right_to_read_the_source_it_is_streamed(versitygw: S3Server) -> None:
    user = versitygw.add_user()
    config = s3_config(versitygw, versitygw.new_bucket())
    document: dict[str, Any] = msgspec.to_builtins(config)
    theirs = {"access_key_id": user.access_key, "secret_access_key": user.secret_key}
    document["connections"]["theirs"] = document["connections"]["test"] | theirs
    site = Site(versitygw, DataLayer(Config.from_mapping(document)))
    versitygw.allow(user, site.bucket)
    site.publish({"a": b"1", "b": b"2"})
    place = Destination("s3", S3Place(site.bucket, "out", "theirs"))
    (done,) = deliver(site.layer, site.layer.resolve(KEY), "default", [place])
    assert done.copied_by_server == 0
    assert site.objects() == {"out/a": b"1", "out/b": b"2"}
    other = Destination("s3", S3Place(versitygw.new_bucket(), "out", "theirs"))
    with pytest.raises(PermissionDeniedError):
        deliver(site.layer, site.layer.resolve(KEY), "default", [other])


def test_another_endpoint_is_another_service(versitygw: S3Server, fault_proxy: FaultProxy) -> None:
    document: dict[str, Any] = msgspec.to_builtins(s3_config(versitygw, versitygw.new_bucket()))
    document["connections"]["far"] = document["connections"]["test"] | {"endpoint": fault_proxy.endpoint}
    site = Site(versitygw, DataLayer(Config.from_mapping(document)))
    site.publish({"a": b"1"})
    place = Destination("s3", S3Place(site.bucket, "out", "far"))
    (done,) = deliver(site.layer, site.layer.resolve(KEY), "default", [place])
    assert done.copied_by_server == 0
    assert site.objects() == {"out/a": b"1"}


def test_a_reference_is_delivered_as_it_was_pinned(versitygw: S3Server) -> None:
    raw = versitygw.new_bucket("raw")
    document: dict[str, Any] = msgspec.to_builtins(s3_config(versitygw, versitygw.new_bucket()))
    document["references"] = [{"prefix": f"s3://{raw}/events", "connection": "test"}]
    site = Site(versitygw, DataLayer(Config.from_mapping(document)))
    connection = site.layer.connection("test")
    store = S3Store(Location("s3", raw), connection=connection)
    store.put("events/f", b"one")
    site.layer.reference(KEY, f"s3://{raw}/events")
    assert site.deliver().copied_by_server == 1
    assert site.objects() == {"out/f": b"one"}
    store.put("events/f", b"two")
    with pytest.raises(VerificationError, match="changed since it was referenced"):
        site.deliver()
    assert site.objects() == {"out/f": b"one"}


@pytest.fixture
def proxied(versitygw: S3Server, fault_proxy: FaultProxy, tmp_path: Path) -> Site:
    """Data on a volume, and the destination behind the proxy."""
    site = volume_site(versitygw, tmp_path / "volume")
    document: dict[str, Any] = msgspec.to_builtins(site.layer.config)
    document["connections"]["test"]["endpoint"] = fault_proxy.endpoint
    site.layer = DataLayer(Config.from_mapping(document))
    return site


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


FILES = 6


@pytest.mark.parametrize("where", range(FILES + 8))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_any_request_every_file_is_whole_and_the_next_delivery_cleans_up(
    proxied: Site, fault_proxy: FaultProxy, where: int, moment: str
) -> None:
    bodies = {f"f{number}": (b"%d" % number) * (100 + number) for number in range(FILES)}
    old = {"out/old-1": b"1", "out/old-2": b"2"}
    proxied.publish({name.removeprefix("out/"): data for name, data in old.items()})
    proxied.deliver()
    proxied.put("out/of-others", b"x")
    proxied.publish(bodies)
    process: list[subprocess.Popen[bytes]] = []
    begun = threading.Event()

    def kill(_: object) -> None:
        begun.wait()
        process[0].send_signal(signal.SIGKILL)
        process[0].wait()

    fault = Fault(before=kill, drop_request=True) if moment == "before" else Fault(after=kill, drop_answer=True)
    fault_proxy.reset()
    fault_proxy.script(fault, skip=where)
    command = [sys.executable, "-m", "tests.handoff.delivering_process", str(KEY), proxied.bucket, "out"]
    process.append(subprocess.Popen(command, cwd=ROOT, env=environment_of(proxied.layer)))
    begun.set()
    killed = process[0].wait() == -signal.SIGKILL
    allowed = {f"out/{name}": data for name, data in bodies.items()} | old | {"out/of-others": b"x"}
    found = proxied.objects()
    assert all(allowed[name] == data for name, data in found.items())
    assert found["out/of-others"] == b"x"
    content = json.loads(proxied.everything()[LIST])
    # What the last list names is there, whole, whenever it was written.
    for file in content["files"]:
        assert len(found[f"out/{file['name']}"]) == file["length"]
    if not killed:
        assert found == {f"out/{name}": data for name, data in bodies.items()} | {"out/of-others": b"x"}
    fault_proxy.reset()
    third = TaskKey("team", "dag", "job", "20130102T000000Z")
    proxied.publish({"f0": b"third"}, third)
    proxied.deliver(third)
    assert proxied.objects() == {"out/f0": b"third", "out/of-others": b"x"}
    assert PENDING not in proxied.everything()


def test_an_intent_that_was_never_carried_out_removes_nothing_of_others(site: Site) -> None:
    site.put("out/theirs", b"x")
    site.publish({"theirs": b"y", "mine": b"1"})
    # As a delivery leaves it that was killed after its first step.
    intent = {
        "version": "1.0",
        "key": str(KEY),
        "attempt": 1,
        "digest": "sha256:00",
        "output": "default",
        "files": [{"name": "theirs", "length": 1}, {"name": "mine", "length": 1}],
    }
    # The service's clock has whole seconds.
    time.sleep(1.1)
    site.put(PENDING, json.dumps(intent).encode())
    other = TaskKey("team", "dag", "job", "20130102T000000Z")
    site.publish({"other": b"2"}, other)
    assert site.deliver(other).removed == 0
    assert site.objects() == {"out/theirs": b"x", "out/other": b"2"}


def test_two_deliveries_at_once_end_with_one_of_them_whole(proxied: Site, fault_proxy: FaultProxy) -> None:
    keys = [TaskKey("team", "dag", "job", f"2013010{day}T000000Z") for day in (1, 2)]
    for day, key in enumerate(keys):
        proxied.publish({"both": b"%d" % day, f"own-{day}": b"%d" % day}, key)
    came = threading.Event()

    def other_first(_: object) -> None:
        if not came.is_set():
            came.set()
            proxied.deliver(keys[1])

    # While the first one is about to write its list, the second one is delivered from beginning to end.
    fault_proxy.script(Fault(before=other_first), kind="PUT", path="/default.json")
    proxied.deliver(keys[0])
    assert came.is_set()
    assert proxied.objects() == {"out/both": b"0", "out/own-0": b"0"}
    assert json.loads(proxied.everything()[LIST])["key"] == str(keys[0])
    assert PENDING not in proxied.everything()


def test_a_list_that_always_changes_ends_in_an_error_that_says_so(proxied: Site, fault_proxy: FaultProxy) -> None:
    proxied.publish({"f": b"x"})
    fault_proxy.script(Fault(answer=Answer(412, "PreconditionFailed")), kind="PUT", path="/default.json", times=-1)
    with pytest.raises(StoreUnavailableError, match="kept changing"):
        proxied.deliver()


ESCAPING = {
    "version": "1.0",
    "key": "k",
    "attempt": 1,
    "digest": "",
    "output": "o",
    "files": [{"name": "../../x", "length": 1}],
}


@pytest.mark.parametrize("content", [b"{", b'{"version": "1.0"}', json.dumps(ESCAPING).encode()])
def test_a_damaged_list_is_an_error_and_removes_nothing(site: Site, content: bytes) -> None:
    site.publish({"f": b"x"})
    site.put("x", b"of others")
    site.put(LIST, content)
    with pytest.raises(VerificationError, match="the delivery list"):
        site.deliver()
    assert site.objects() == {"x": b"of others"}


def test_a_run_delivers_and_reports(s3_direct: Bench, versitygw: S3Server) -> None:
    site = Site(versitygw, s3_direct.layer)
    outputs = {"default": OutputSpec([site.destination("a"), site.destination("b")]), "second": OutputSpec()}
    context = s3_direct.context(outputs=outputs, owner="ti")
    script = "echo x > $DATALAYER_OUT/default/f; echo y > $DATALAYER_OUT/second/g"
    result = s3_direct.shell(script, context)
    assert result.exit_code == 0, result.report.error
    assert site.objects() == {"a/f": b"x\n", "b/f": b"x\n"}
    assert [one.location for one in result.report.delivered] == [f"s3://{site.bucket}/a", f"s3://{site.bucket}/b"]
    counted = result.report.receipt["destination"]
    assert counted.calls["copy"] == 2
    assert counted.calls["put"] >= 4, "the lists and intents of both deliveries are counted apart from the tiers"


def test_a_delivery_that_failed_is_made_up_for_without_running_the_job_again(
    proxied: Site, fault_proxy: FaultProxy, tmp_path: Path
) -> None:
    bench = Bench(proxied.layer, tmp_path / "work")
    context = bench.context(outputs={"default": OutputSpec([proxied.destination()])}, owner="ti")
    fault_proxy.script(Fault(answer=Answer(403, "AccessDenied")), kind="PUT", times=-1)
    result = bench.shell("echo x > $DATALAYER_OUT/default/f", context)
    report = result.report
    assert (result.exit_code, report.state) == (77, "failed")
    # Committed all the same, and the report says so.
    assert report.digest == proxied.layer.resolve(KEY).digest
    assert report.error is not None
    assert "The outputs of attempt 1 are committed; what failed is their delivery" in report.error.message
    assert report.delivered == []
    fault_proxy.reset()
    again = bench.shell(f"touch {tmp_path}/started", context)
    assert (again.exit_code, again.report.digest) == (0, report.digest)
    assert proxied.objects() == {"out/f": b"x\n"}
    assert not (tmp_path / "started").exists()


def test_progress_ends_at_all_bytes(site: Site) -> None:
    site.publish({str(number): b"x" * number for number in range(20)})
    told: list[Any] = []
    callback: Callable[[Any], None] = told.append
    deliver(site.layer, site.layer.resolve(KEY), "default", [site.destination()], progress=callback)
    assert max(told) == ("delivery", 190, 190)


def test_by_the_server_alone_it_is_the_same_delivery(s3_site: Site) -> None:
    s3_site.publish({"a": b"1", "empty": b""})
    (done,) = deliver(s3_site.layer, s3_site.layer.resolve(KEY), "default", [s3_site.destination()], stream=False)
    assert done.copied_by_server == 2
    assert s3_site.objects() == {"out/a": b"1", "out/empty": b""}


def test_where_the_server_alone_cannot_nothing_is_written(streamed_site: Site) -> None:
    streamed_site.publish({"a": b"1"})
    with pytest.raises(NotSupportedError, match="different services.*Deliver from where"):
        deliver(
            streamed_site.layer,
            streamed_site.layer.resolve(KEY),
            "default",
            [streamed_site.destination()],
            stream=False,
        )
    assert streamed_site.everything() == {}


def test_without_the_right_to_read_the_source_nothing_is_written_to_any_destination(versitygw: S3Server) -> None:
    user = versitygw.add_user()
    document: dict[str, Any] = msgspec.to_builtins(s3_config(versitygw, versitygw.new_bucket()))
    theirs = {"access_key_id": user.access_key, "secret_access_key": user.secret_key}
    document["connections"]["theirs"] = document["connections"]["test"] | theirs
    site = Site(versitygw, DataLayer(Config.from_mapping(document)))
    versitygw.allow(user, site.bucket)
    site.publish({"a": b"1"})
    place = Destination("s3", S3Place(site.bucket, "out", "theirs"))
    with pytest.raises(NotSupportedError, match="cannot copy") as raised:
        deliver(site.layer, site.layer.resolve(KEY), "default", [site.destination("first"), place], stream=False)
    assert not raised.value.retryable
    assert site.everything() == {}


def packed_context(site: Site, *destinations: Destination) -> dict[str, str]:
    """The environment of a delivery's pod: the context without keys, and the keys."""
    claim = site.layer.resolve(KEY)
    context = TaskContext(
        key=str(KEY),
        attempt=AttemptRef(claim.attempt, claim.manifest.nonce),
        outputs={"default": OutputSpec(list(destinations))},
        config=context_config(site.layer.config),
    )
    return {**environment_of(site.layer), **context_environment(context)}


def in_a_pod(environ: dict[str, str], folder: Path) -> tuple[int, TaskReport, str]:
    log = folder / "termination-log"
    log.touch()
    code = f"""
import os, sys
from pathlib import Path
from datalayer.handoff.pod_delivery import run_delivery
sys.exit(run_delivery(os.environ, termination_log=Path({str(log)!r})).exit_code)
"""
    environ = {**environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    return ended.returncode, decode_report(log.read_bytes()), ended.stdout


def test_a_pod_delivers_what_its_environment_names(site: Site, tmp_path: Path) -> None:
    site.publish({"a": b"1", "b": b"2"})
    for _ in range(2):
        code, report, said = in_a_pod(packed_context(site, site.destination()), tmp_path)
        assert (code, report.state, report.attempt) == (0, "succeeded", 1)
        assert [(one.output, one.location, one.files) for one in report.delivered] == [
            ("default", f"s3://{site.bucket}/out", 2)
        ]
        assert f"delivered {KEY}@1 default to s3://{site.bucket}/out" in said
        assert site.objects() == {"out/a": b"1", "out/b": b"2"}


def test_a_pod_that_cannot_deliver_says_that_the_outputs_are_there(site: Site, tmp_path: Path) -> None:
    site.publish({"a": b"1"})
    nowhere = Destination("s3", S3Place("no-such-bucket-here", "out", "test"))
    code, report, said = in_a_pod(packed_context(site, nowhere), tmp_path)
    assert code == report.exit_code != 0
    assert report.error is not None
    assert "no-such-bucket-here" in report.error.message
    assert "are committed; what failed is their delivery" in said


def test_a_pod_delivers_no_attempt_that_has_been_superseded(site: Site, tmp_path: Path) -> None:
    site.publish({"a": b"1"})
    environ = packed_context(site, site.destination())
    site.publish({"a": b"newer"})
    code, report, _ = in_a_pod(environ, tmp_path)
    assert code == 65
    assert report.error is not None
    assert report.error.type == "CommitConflictError"
    assert site.objects() == {}
