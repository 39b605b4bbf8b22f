"""Jobs under a design with a hot tier: what they commit is warmed and pinned for their readers, and every tier is counted."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from datalayer import Config, ConfigError, DataLayer, VerificationError
from datalayer.cli.app import run as run_cli
from datalayer.handoff.context import HotPlace, InputSpec, TaskContext, context_config, decode_context, layer_for
from datalayer.handoff.journal import FileJournal, Record, read_journal, read_receipts
from datalayer.handoff.task import open_task
from datalayer.stores.counting import Receipt, TierReceipt
from tests.behaviour.environment import environment_of
from tests.behaviour.hot import MemoryHot, hot_layer, memory_hot
from tests.handoff.conftest import ROOT, Bench

WRITE = "echo result > $DATALAYER_OUT/default/out"


@pytest.fixture
def hot(tmp_path: Path) -> Bench:
    return Bench(hot_layer(), tmp_path / "work")


def pinned(bench: Bench) -> set[str]:
    return {path.split("/")[2] for path in memory_hot(bench.layer).pinned}


def misses(bench: Bench) -> list[str]:
    receipt = bench.layer.receipt.by_tier().get("hot")
    return [reason for reason in (receipt.misses if receipt else {}) if reason not in {"no copy yet", "unavailable"}]


def block(bench: Bench, context: TaskContext, tmp_path: Path, fail: bool = False) -> None:
    """The same job through open_task(), unwrapped."""
    path = tmp_path / "context.json"
    path.write_bytes(context.encode())
    with open_task(layer=bench.layer, environ={"DATALAYER_CONTEXT": str(path)}) as task:
        task.output().put("out", b"result\n")
        if fail:
            raise ZeroDivisionError


def job(bench: Bench, wrapped: bool, context: TaskContext, tmp_path: Path, fail: bool = False) -> None:
    if wrapped:
        result = bench.shell(f"{WRITE}; {'false' if fail else 'true'}", context)
        assert result.exit_code == int(fail), result.report.error
    elif fail:
        with pytest.raises(ZeroDivisionError):
            block(bench, context, tmp_path, fail)
    else:
        block(bench, context, tmp_path)


@pytest.mark.parametrize("wrapped", [True, False], ids=["run", "open_task"])
def test_outputs_are_warmed_for_their_readers_and_held_until_these_have_ended_well(
    hot: Bench, wrapped: bool, tmp_path: Path
) -> None:
    readers = [str(hot.key("late")), str(hot.key("early"))]
    job(hot, wrapped, hot.context("extract", readers=readers), tmp_path)
    (status,) = hot.layer.hot.status(hot.key("extract")).outputs
    assert (status.hot, sorted(lease.holder for lease in status.leases)) == (status.bytes, sorted(readers))
    assert pinned(hot) == {"extract"}
    reads = {"extract": InputSpec()}
    job(hot, wrapped, hot.context("late", inputs=reads), tmp_path, fail=True)
    job(hot, wrapped, hot.context("early", inputs=reads), tmp_path)
    # The one that failed will read it again.
    (status,) = hot.layer.hot.status(hot.key("extract")).outputs
    assert [lease.holder for lease in status.leases] == [str(hot.key("late"))]
    assert pinned(hot) == {"extract"}
    job(hot, wrapped, hot.context("late", inputs=reads), tmp_path)
    assert pinned(hot) == set()
    # Released, and still hot; what nobody reads was not warmed.
    assert hot.layer.hot.status(hot.key("extract")).hot == 7
    assert hot.layer.hot.status(hot.key("late")).hot == 0
    assert misses(hot) == []


def test_the_time_it_took_is_told(hot: Bench) -> None:
    report = hot.shell(WRITE, hot.context("extract", readers=[str(hot.key("late"))])).report
    assert "hot" in report.seconds
    assert report.receipt["hot"].bytes_read == 7
    assert report.receipt["hot"].misses == {"no copy yet": 1}


@pytest.mark.parametrize("wrapped", [True, False], ids=["run", "open_task"])
def test_a_hot_tier_that_fails_after_the_commit_fails_no_job(
    hot: Bench, wrapped: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory_hot(hot.layer).failing = "connection refused"
    job(hot, wrapped, hot.context("extract", readers=[str(hot.key("late"))]), tmp_path)
    assert hot.files("extract") == {"out": b"result\n"}
    assert misses(hot) == ["not warmed: StoreUnavailableError"]
    (record,) = caplog.records
    assert (
        record.getMessage()
        == f"{hot.key('extract')}@1/default was not warmed after its commit: the hot tier: connection refused"
    )


def test_what_was_passed_over_is_in_the_report_and_in_one_warning(hot: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for task in ("one", "two"):
        hot.publish(hot.key(task), {"f": b"x"})
    memory_hot(hot.layer).failing = "connection refused"
    result = hot.shell(WRITE, hot.context(inputs={"one": InputSpec(), "two": InputSpec()}))
    assert result.exit_code == 0
    assert result.report.receipt["hot"].misses["unavailable"] >= 2
    assert [pin.tier for pin in (*result.report.inputs["one"], *result.report.inputs["two"])] == ["cold", "cold"]
    slower = [record.getMessage() for record in caplog.records if "slower" in record.getMessage()]
    assert slower == [f"input {hot.key('one')}/default and 1 more is read from a slower tier (hot: connection refused)"]


def test_told_to_end_while_it_warms_a_job_has_still_succeeded(hot: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, released = MemoryHot.pieces, threading.Event()

    def slow(self: MemoryHot, *args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        released.wait(20)
        return pieces(self, *args)

    hot.publish(hot.key("upstream"), {"f": b"x"})
    hot.layer.hot.committed(hot.key("upstream"), readers=[hot.key("job")])
    monkeypatch.setattr(MemoryHot, "pieces", slow)
    monkeypatch.setattr("datalayer.handoff.steps.release_inputs", _then(released))
    context = hot.context(readers=[str(hot.key("late"))], inputs={"upstream": InputSpec(access="in-place")})
    result = hot.shell(WRITE, context)
    assert (result.exit_code, result.report.state) == (0, "succeeded")
    assert result.report.receipt["hot"].misses["not warmed: told to end"] == 1
    assert pinned(hot) == {"job"}


def _then(event: threading.Event) -> Any:
    from datalayer.handoff.hot import release_inputs

    def release(*args: Any) -> None:
        event.set()
        release_inputs(*args)

    return release


def test_designs_without_a_hot_tier_have_no_use_for_readers(volume: Bench) -> None:
    result = volume.shell(WRITE, volume.context(readers=[str(volume.key("late"))]))
    assert (result.exit_code, "hot" in result.report.seconds, "hot" in result.report.receipt) == (0, False, False)


# Everything that is committed is hot ----------------------------------------------------------------------------------------------------


def alluxio_layer(write_type: str) -> DataLayer:
    settings = {"url": "alluxio://nowhere:19998/outputs", "proxy": "http://nowhere:39999", "write_type": write_type}
    return hot_layer(hot=settings)


@pytest.mark.parametrize(("write_type", "hot_bytes"), [("CACHE_THROUGH", 7), ("THROUGH", 0)])
@pytest.mark.parametrize("way", ["publish", "run", "open_task"])
def test_cache_through_warms_what_is_committed(write_type: str, hot_bytes: int, way: str, tmp_path: Path) -> None:
    bench = Bench(alluxio_layer(write_type), tmp_path / "work")
    if way == "publish":
        bench.publish(bench.key("job"), {"out": b"result\n"})
    else:
        job(bench, way == "run", bench.context(), tmp_path)
    assert bench.layer.hot.status(bench.key("job")).hot == hot_bytes
    assert pinned(bench) == set()


def test_it_is_warmed_once_and_its_failure_is_no_error() -> None:
    layer = alluxio_layer("CACHE_THROUGH")
    bench = Bench(layer, Path())
    memory_hot(layer).failing = "down"
    with layer.publish(bench.key("job")) as attempt:
        attempt.output().put("out", b"x")
        attempt.commit()
        assert len(misses(bench)) == 1
        attempt.commit()
    assert bench.layer.receipt.by_tier()["hot"].misses["not warmed: StoreUnavailableError"] == 1
    assert bench.files() == {"out": b"x"}


# The context ----------------------------------------------------------------------------------------------------------------------------


def test_a_reader_that_is_no_address_is_named() -> None:
    text = '{"version": "1.0", "key": "/team/dag/job/20130101T000000Z", "readers": ["/team/dag/late/20130101T000000Z", "late"]}'
    with pytest.raises(ConfigError, match=r"the context.readers\[1\]: 'late' is not an address"):
        decode_context(text.encode())


def test_a_job_works_on_the_same_hot_tier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiers = {"cold": {"url": str(tmp_path / "cold")}}
    for settings in (
        {"url": "alluxio://m:19998/o", "proxy": "http://p:39999", "mount": "/mnt/o", "budget": 7, "timeout": 2.5},
        {"url": str(tmp_path / "cache"), "budget": "3GB", "write_type": "THROUGH"},
        {},
    ):
        config = Config.from_mapping({"design": "hot-cold", "tiers": tiers, "hot": settings})
        told = TaskContext(key="/t/d/j/20130101T000000Z", config=context_config(config))
        assert layer_for(decode_context(told.encode())).config.hot == config.hot
    # Wherever the job runs, a folder is the same one.
    config = Config.from_mapping({"design": "hot-cold", "tiers": tiers, "hot": {"url": "cache"}})
    assert context_config(config).hot == HotPlace(url=str(tmp_path / "cache"), budget="10GB", timeout=1.5)
    assert context_config(Config.from_mapping({"tiers": tiers})).hot is None


def test_a_hot_tier_that_is_not_configured_is_an_error_before_the_job_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(hot_layer(hot={"budget": "1GB"}), tmp_path / "work")
    bench.layer._hot = None

    def fails(*_: object) -> None:
        raise ConfigError("hot.url: not that one")

    monkeypatch.setattr("datalayer.layer.open_hot", fails)
    monkeypatch.setattr(type(bench.layer), "data", property(lambda self: self.store(self.design.data)))
    result = bench.shell(f"touch {tmp_path}/started; {WRITE}")
    assert result.exit_code == 78
    assert not (tmp_path / "started").exists()
    with pytest.raises(ConfigError, match="not that one"):
        block(bench, bench.context(), tmp_path)


# What a wrapped job asked by itself -----------------------------------------------------------------------------------------------------

READING = """
import sys
from datalayer import open_task

with open_task() as task:
    for _ in range(3):
        task.input("extract").read_bytes("f")
    if "write" in sys.argv:
        task.output().put("out", b"y" * 50)
    if "fail" in sys.argv:
        sys.exit(3)
"""


@pytest.mark.parametrize("end", ["well", "fail"])
def test_what_a_python_job_asked_is_in_the_report_of_its_wrapper(s3_direct: Bench, end: str) -> None:
    s3_direct.publish(s3_direct.key("extract"), {"f": b"x" * 1000})
    before = s3_direct.layer.receipt.by_tier()
    context = s3_direct.context(inputs={"extract": InputSpec(access="in-place")})
    result = s3_direct.run(context, sys.executable, "-c", READING, "write", end)
    assert result.exit_code == (3 if end == "fail" else 0)
    asked = s3_direct.layer.receipt.since(before)["cold"]
    # Besides the data, some manifests.
    assert 3000 <= asked.bytes_read < 9000
    assert 50 <= asked.bytes_written < 5000
    assert result.report.receipt == s3_direct.layer.receipt.by_tier()


def test_what_came_from_copies_is_told(hot_cold: Bench) -> None:
    with hot_cold.layer.publish(hot_cold.key("extract")) as attempt:
        attempt.output().put("f", b"x" * 1000)
        attempt.output().put("g", b"x" * 500)
    hot_cold.layer.hot.evict(hot_cold.key("extract"))
    context = hot_cold.context(inputs={"extract": InputSpec(access="in-place")})
    receipt = hot_cold.run(context, sys.executable, "-c", READING, "write").report.receipt["hot"]
    # Read three times, twice from the copy that the first reading made.
    assert (receipt.bytes_read, receipt.bytes_hit, list(receipt.misses.values())) == (3000, 2000, [1])


def test_a_run_says_what_came_from_copies(
    hot_cold: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hot_cold.publish(hot_cold.key("extract"), {"f": b"x" * 1000})
    context = hot_cold.context(inputs={"extract": InputSpec(access="in-place")})
    (tmp_path / "context.json").write_bytes(context.encode())
    for name, value in environment_of(hot_cold.layer).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def told() -> list[str]:
        with pytest.raises(SystemExit) as ended:
            run_cli(["run", "--context", f"{tmp_path}/context.json", "--", sys.executable, "-c", READING, "write"])
        assert ended.value.code == 0
        return [line for line in capfd.readouterr().err.splitlines() if line.startswith("hot tier")]

    assert told() == ["hot tier: 2.9 KiB of 2.9 KiB came from copies"]
    hot_cold.layer.hot.evict(hot_cold.key("extract"))
    assert told() == ["hot tier: 2.0 KiB of 2.9 KiB came from copies; passed on: not cached (1)"]


def test_a_job_keeps_the_inputs_that_the_cache_drops_meanwhile(hot_cold: Bench) -> None:
    hot_cold.publish(hot_cold.key("extract"), {"a": b"one", "deep/b": b"two"})
    hot = hot_cold.layer.config.hot
    assert hot is not None
    context = hot_cold.context("job", inputs={"extract": InputSpec()})
    script = f"rm -r {hot.url}/objects {hot.url}/tree; cd $DATALAYER_IN/extract/default; cat a deep/b > $DATALAYER_OUT/default/out"
    result = hot_cold.shell(script, context)
    assert result.exit_code == 0, result.report.error
    assert hot_cold.files() == {"out": b"onetwo"}


@pytest.mark.parametrize(
    ("command", "state"),
    [
        ("printf x | dd of=$IN conv=notrunc", "failed"),
        ("printf x >> $IN", "failed"),
        ("touch $IN", "succeeded"),  # the bytes are what they were
        ("rm -f $IN; echo mine > $IN", "succeeded"),  # another file, and nobody else's
    ],
)
def test_a_job_that_was_given_a_file_somebody_wrote_to_commits_nothing(
    hot_cold: Bench, command: str, state: str
) -> None:
    hot_cold.publish(hot_cold.key("extract"), {"a": b"one"})
    context = hot_cold.context("job", inputs={"extract": InputSpec()})
    result = hot_cold.shell(f"IN=$DATALAYER_IN/extract/default/a; chmod u+w $IN; {command}; {WRITE}", context)
    assert result.report.state == state, result.report.error
    if state == "failed":
        assert result.exit_code == 75
        assert result.report.error is not None
        assert "'a'" in result.report.error.message
        assert "was written to while the job ran" in result.report.error.message
        # Whoever comes next is given what was committed.
        again = hot_cold.shell("cp $DATALAYER_IN/extract/default/a $DATALAYER_OUT/default/out", context)
        assert again.exit_code == 0
        assert hot_cold.layer.resolve(hot_cold.key("job"))["default"].read_bytes("out") == b"one"


def test_processes_of_a_job_add_up(volume: Bench, tmp_path: Path) -> None:
    volume.publish(volume.key("extract"), {"f": b"x" * 10_000})
    (tmp_path / "job.py").write_text(READING)
    job = f"{sys.executable} {tmp_path}/job.py"
    context = volume.context(inputs={"extract": InputSpec(access="in-place")})
    before = volume.layer.receipt.by_tier()
    result = volume.shell(f"{job} & {job}; wait; {WRITE}", context)
    assert (result.exit_code, result.report.error) == (0, None)
    assert 60_000 <= volume.layer.receipt.since(before)["shared"].bytes_read < 70_000


def test_a_block_that_is_entered_again_counts_what_is_new(tmp_path: Path, volume: Bench) -> None:
    volume.publish(volume.key("extract"), {"f": b"x" * 1000})
    context = volume.context(inputs={"extract": InputSpec(access="in-place")})
    told = TaskContext(key=context.key, inputs=context.inputs, commit="wrapper", attempt=_claim(volume, context))
    (tmp_path / "context.json").write_bytes(told.encode())
    environ = {
        "DATALAYER_CONTEXT": str(tmp_path / "context.json"),
        "DATALAYER_IN": str(tmp_path),
        "DATALAYER_OUT": str(tmp_path),
        "DATALAYER_INTERNAL_JOURNAL": str(tmp_path / "journal"),
    }
    task = open_task(layer=volume.layer, environ=environ)
    for count in (1, 2, 0):
        with task:
            for _ in range(count):
                task.input("extract").read_bytes("f")
    sizes = [receipt["shared"].bytes_read for receipt in read_receipts(tmp_path / "journal")]
    assert [size // 1000 for size in sizes] == [1, 2]
    assert read_journal(tmp_path / "journal") == {}


def _claim(bench: Bench, context: TaskContext) -> Any:
    from datalayer.handoff.context import AttemptRef

    attempt = bench.layer.publish(context.task_key)
    return AttemptRef(attempt.number, attempt.claim.nonce)


def test_a_damaged_journal_counts_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert read_receipts(path) == []
    FileJournal(str(path)).add(Record(receipt={"cold": TierReceipt({"get": 1}, 5)}))
    with path.open("ab") as file:
        file.write(b"{\n")
    assert read_receipts(path) == [{"cold": TierReceipt({"get": 1}, 5)}]
    with pytest.raises(VerificationError, match="damaged"):
        read_journal(path)


def test_a_receipt_since_another() -> None:
    receipt = Receipt()
    receipt.count("cold", "get", read=5)
    receipt.count("shared", "put", written=7)
    receipt.miss("hot", "down")
    receipt.hit("hot", 10)
    before = receipt.by_tier()
    assert receipt.since(before) == {}
    receipt.count("cold", "get", read=1)
    receipt.count("cold", "head")
    receipt.hit("hot", 3)
    receipt.miss("hot", "full")
    assert receipt.since(before) == {
        "cold": TierReceipt({"get": 1, "head": 1}, 1),
        "hot": TierReceipt(bytes_hit=3, misses={"full": 1}),
    }
    assert receipt.since({}) == receipt.by_tier()
