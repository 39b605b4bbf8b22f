"""The commands as a person or a script uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from datalayer import DataLayer, RunId, TaskKey
from datalayer.addresses import layout
from datalayer.cli.app import run
from tests.integration.configured import configure

KEY = TaskKey("aviation", "flights", "extract", "20130101T000000Z")
SHORT = "aviation/flights/extract@2013-01-01"


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ended]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command line in this process."""
    monkeypatch.setenv("DATALAYER_DESIGN", "")  # A test's --design and --config end with it.
    monkeypatch.delenv("DATALAYER_DESIGN")
    monkeypatch.setenv("DATALAYER_CONFIG", "")
    monkeypatch.delenv("DATALAYER_CONFIG")

    def call(*arguments: object) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture(params=["volume", "s3"])
def layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli: Cli) -> DataLayer:
    monkeypatch.chdir(tmp_path)
    return configure(request.param, request, monkeypatch, tmp_path / "store")


@pytest.fixture
def volume(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli: Cli) -> DataLayer:
    monkeypatch.chdir(tmp_path)
    return configure("volume", request, monkeypatch, tmp_path / "store")


def publish(layer: DataLayer, files: dict[str, bytes] | None = None, key: TaskKey = KEY) -> None:
    with layer.publish(key) as attempt:
        for name, data in (files or {"flights.csv": b"carrier,delay\nUA,5\n"}).items():
            attempt.output().put(name, data)


# Looking --------------------------------------------------------------------------------------------------------------------------------


def test_from_a_file_to_an_output_and_back(layer: DataLayer, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "flights.csv").write_text("carrier,delay\nUA,5\n")
    assert cli("put", SHORT, "flights.csv") == (0, f"{KEY}@1, output default: 1 file, 19 B\n", "")
    assert cli("cat", SHORT, "flights.csv").out == "carrier,delay\nUA,5\n"
    assert cli("cat", f"task:/{KEY}/default/flights.csv").out == "carrier,delay\nUA,5\n"
    assert cli("ls", "aviation/flights").out == "name\nextract\n"
    shown = cli("show", SHORT).out
    assert f"address    {KEY}\nattempt    1\n" in shown
    assert f"\n  uri        task:/{KEY}@1/default\n" in shown
    assert f"\n  tier       {layer.data.tier}\n" in shown
    assert cli("verify", SHORT).out == f"{KEY}@1: 1 file, 19 B, as committed\n"


def test_every_level_of_ls(layer: DataLayer, cli: Cli) -> None:
    publish(layer)
    publish(layer, {"a/b": b"1", "c": b"22"})
    publish(layer, {"x": b"1"}, TaskKey("aviation", "flights", "a task", RunId("r"), 3))
    layer.publish(TaskKey("aviation", "flights", "extract", "20130102T000000Z"))  # Never committed.

    def entries(address: str = "") -> Any:
        document = cli("ls", address, "--json").json
        assert set(document) == {"address", "level", "entries"}
        return document["level"], document["entries"]

    assert entries() == ("teams", [{"name": "aviation", "id": "aviation", "address": "/aviation"}])
    assert [entry["id"] for entry in entries("aviation/flights")[1]] == ["a task", "extract"]
    level, (run_,) = entries("/aviation/flights/extract")
    assert (level, run_["run"], run_["attempt"], run_["files"], run_["bytes"]) == ("runs", KEY.run, 2, 2, 3)
    assert run_["address"] == str(KEY)
    level, (mapped,) = entries("aviation/flights/a!20task")
    assert (level, mapped["run"]) == ("runs", "run_id-r/map_index-3")
    assert entries("/aviation/flights/a!20task/run_id-r") == ("instances", [mapped])
    level, (output,) = entries(SHORT)
    assert level == "outputs"
    assert output == {
        "output": "default",
        "kind": "files",
        "tier": layer.data.tier.value,
        "files": 2,
        "bytes": 3,
        "rows": None,
        "address": f"{KEY}@2/default",
    }
    level, files = entries(f"{SHORT}/default")
    assert level == "files"
    assert [(file["name"], file["bytes"]) for file in files] == [("a/", 0), ("c", 2)]
    assert files[1]["address"] == f"{KEY}@2/default/c"
    assert [file["name"] for file in entries(f"{KEY}@1/default")[1]] == ["flights.csv"]
    assert [file["name"] for file in entries("aviation/flights/extract@latest/default/a")[1]] == ["b"]


def test_an_empty_root_says_so(volume: DataLayer, cli: Cli) -> None:
    assert cli("ls") == (0, "nothing is committed here\n", "")


def test_resolve(layer: DataLayer, cli: Cli) -> None:
    publish(layer)
    found = cli("resolve", "aviation/flights/extract@latest", "--json").json
    output = layer.resolve(KEY)["default"]
    assert found["uri"] == output.uri
    assert found["spark_uri"] == output.spark_uri
    assert found["path"] == (None if output.path is None else str(output.path))
    assert found["misses"] == []
    assert cli("resolve", SHORT, "--field", "uri").out == f"{output.uri}\n"
    if output.path is None:
        ended = cli("resolve", SHORT, "--field", "path")
        assert ended.code == 1
        assert "has no path on tier cold" in ended.err
    assert cli("resolve", SHORT, "--field", "color").code == 1


def test_show_names_what_it_was_made_from(volume: DataLayer, cli: Cli) -> None:
    publish(volume)
    late = TaskKey("aviation", "flights", "late", KEY.run)
    with volume.publish(late, inputs=[volume.resolve(KEY).pin("extract")], owner="ti-1") as attempt:
        attempt.output().put("x", b"1")
    digest = volume.resolve(KEY).digest
    shown = cli("show", str(late)).out
    assert f"extract  {KEY}@1  {digest}\n" in shown
    assert "owner      ti-1\n" in shown
    document = cli("show", str(late), "--json").json
    assert document["manifest"]["inputs"] == [{"alias": "extract", "key": str(KEY), "attempt": 1, "digest": digest}]
    assert document["outputs"]["default"]["tier"] == "shared"


def test_names_cannot_steer_a_terminal(volume: DataLayer, cli: Cli) -> None:
    publish(volume, {"[red]a\u202egpj.exe": b"1"})
    listed = cli("ls", f"{SHORT}/default").out
    assert "[red]a\\u202egpj.exe" in listed


# cat, get -------------------------------------------------------------------------------------------------------------------------------


def test_a_damaged_file_ends_in_an_error(layer: DataLayer, cli: Cli) -> None:
    publish(layer, {"x": b"1" * 100})
    layer.data.put(f"{layout.output_path(KEY, 1, 'default')}/x", b"2" * 100)
    ended = cli("cat", SHORT, "x")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: ")
    assert cli("get", SHORT, "out").code == 1
    assert list(Path("out").rglob("*")) == [Path("out/default")]


def test_cat_wants_to_know_which(volume: DataLayer, cli: Cli) -> None:
    publish(volume, {"x": b"1", "y": b"2"})
    ended = cli("cat", SHORT)
    assert (ended.code, ended.err) == (
        1,
        f"error: {KEY}/default has 2 files: name one of them. See 'datalayer ls {KEY}/default'\n",
    )
    assert cli("cat", SHORT, "z").code == 1
    assert cli("cat", SHORT, "x", "-o", "none").code == 1
    entry = cli("cat", SHORT, "x", "--json").json["file"]
    assert (entry["name"], entry["length"]) == ("x", 1)


def test_get_is_exact_and_goes_on_where_it_stopped(layer: DataLayer, cli: Cli) -> None:
    with layer.publish(KEY) as attempt:
        attempt.output().put("a/b c%.txt", b"1" * 900)
        attempt.output("more").put("d", b"2")
    ended = cli("get", SHORT, "out")
    assert ended.out == f"2 files, 901 B: {KEY}@1 in out\n"
    assert Path("out/default/a/b c%.txt").read_bytes() == b"1" * 900
    assert Path("out/more/d").read_bytes() == b"2"
    Path("out/more/d").write_bytes(b"3")
    files = cli("get", SHORT, "out", "--json").json["files"]
    assert [(file["name"], file["there"]) for file in files] == [("a/b c%.txt", True), ("d", False)]
    assert Path("out/more/d").read_bytes() == b"2"
    cli("get", SHORT, "one", "--output", "more")
    cli("get", f"{SHORT}/default/a", "part")
    found = sorted(str(path) for folder in ("out", "one", "part") for path in Path(folder).rglob("*") if path.is_file())
    assert found == ["one/d", "out/default/a/b c%.txt", "out/more/d", "part/a/b c%.txt"]
    assert cli("get", f"{SHORT}/default/zzz", "part").code == 1


# put ------------------------------------------------------------------------------------------------------------------------------------


def test_put_takes_files_and_folders(layer: DataLayer, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "days/2013").mkdir(parents=True)
    (tmp_path / "days/2013/a.csv").write_bytes(b"1")
    (tmp_path / "b.csv").write_bytes(b"22" * 3_000_000)
    made = cli("put", SHORT, "days", "b.csv", "--output", "both", "--json").json
    assert made == {"address": str(KEY), "attempt": 1, "output": "both", "files": 2, "bytes": 6_000_001}
    output = layer.resolve(KEY)["both"]
    assert output.read_bytes("2013/a.csv") == b"1"
    assert cli("put", SHORT, "b.csv").out.startswith(f"{KEY}@2, ")


def test_small_files_are_packed_and_come_back(layer: DataLayer, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "days/2013").mkdir(parents=True)
    files = {f"2013/{number:03}.csv": str(number).encode() * 9 for number in range(50)} | {"long.bin": b"l" * 2_000_000}
    for name, data in files.items():
        (tmp_path / "days" / name).write_bytes(data)
    assert cli("put", SHORT, "days", "--packed", "--json").json["files"] == 51
    output = layer.resolve(KEY)["default"]
    assert len(output.output.packs or ()) == 1
    assert output.entry("long.bin").object is None
    assert cli("cat", SHORT, "2013/007.csv").out == "7" * 9
    assert cli("verify", SHORT).code == 0
    assert cli("resolve", SHORT, "--json").json["spark_uri"] is None
    refused = cli("resolve", SHORT, "--field", "path")
    assert refused.code != 0
    assert cli("get", SHORT, "back", "--json").code == 0
    assert {name: (tmp_path / "back/default" / name).read_bytes() for name in files} == files
    (tmp_path / "back/default/2013/007.csv").write_bytes(b"other")
    again = cli("get", SHORT, "back", "--json").json["files"]
    assert [file["name"] for file in again if not file["there"]] == ["2013/007.csv"]
    assert (tmp_path / "back/default/2013/007.csv").read_bytes() == files["2013/007.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((SHORT, "nothing.csv"), "nothing.csv is not there"),
        ((SHORT, "empty"), "no file in what was given"),
        ((SHORT, "one/x", "two"), "would both be 'x'"),
        ((SHORT, "links"), "is a symbolic link"),
        (("aviation/flights/extract@latest", "one/x"), "names no task instance"),
        (("aviation/flights/extract", "one/x"), "names no task instance"),
        ((f"{KEY}@3", "one/x"), "names no task instance"),
        ((SHORT, "one/x", "--output", "in/side"), "output name 'in/side'"),
    ],
)
def test_what_cannot_be_put(volume: DataLayer, cli: Cli, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    for folder in ("empty", "one", "two", "links"):
        (tmp_path / folder).mkdir()
    (tmp_path / "one/x").write_bytes(b"1")
    (tmp_path / "two/x").write_bytes(b"2")
    (tmp_path / "links/x").symlink_to(tmp_path / "one/x")
    ended = cli("put", *arguments)
    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert said in ended.err
    assert cli("ls").out == "nothing is committed here\n" or cli("ls", KEY.path).code == 1


# run ------------------------------------------------------------------------------------------------------------------------------------

AWK = 'awk "NR > 1" "$DATALAYER_IN/extract/default/flights.csv" > "$DATALAYER_OUT/default/late.csv"; echo said'


def test_run_with_a_context(layer: DataLayer, cli: Cli, tmp_path: Path) -> None:
    publish(layer)
    late = TaskKey("aviation", "flights", "late", KEY.run)
    context = {"version": "1.0", "key": str(late), "inputs": {"extract": {}}, "outputs": {"default": {}}}
    (tmp_path / "context.json").write_text(json.dumps(context))
    ended = cli("run", "--context", "context.json", "--report", "report.json", "--", "sh", "-c", AWK)
    assert (ended.code, ended.out) == (0, "said\n")
    assert ended.err == f"committed {late}@1: default (1 file, 5 B)\n"
    assert layer.resolve(late)["default"].read_bytes("late.csv") == b"UA,5\n"
    assert json.loads((tmp_path / "report.json").read_text())["state"] == "succeeded"


def test_run_with_a_job_config(volume: DataLayer, cli: Cli, tmp_path: Path) -> None:
    publish(volume)
    (tmp_path / "job.json").write_text(json.dumps({"input": {"operators": [{"task_id": "extract"}]}}))
    arguments = ("--task", "aviation/flights/late@2013-01-01", "--job-config", "job.json", "--owner", "ti-9", "--json")
    ended = cli("run", *arguments, "sh", "-c", AWK)
    said, _, report = ended.out.partition("\n")
    assert (ended.code, said, json.loads(report)["attempt"]) == (0, "said", 1)
    assert volume.resolve(TaskKey("aviation", "flights", "late", KEY.run)).manifest.producer.owner == "ti-9"


def test_run_ends_as_the_command_did(volume: DataLayer, cli: Cli) -> None:
    ended = cli("run", "--task", SHORT, "--", "sh", "-c", "exit 7")
    assert (ended.code, ended.err) == (7, "error: the command 'sh' ended with exit code 7. Nothing was committed\n")
    assert cli("run", "--task", SHORT, "--", "no-such-program").code == 127


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "either --context FILE or --task ADDRESS"),
        (("--context", "a", "--task", SHORT), "either --context FILE or --task ADDRESS"),
        (("--context", "a", "--owner", "x"), "go with --task"),
        (("--context", "nowhere.json"), "nowhere.json cannot be read"),
        (("--task", SHORT, "--job-config", "bad.json"), "is not valid JSON"),
        (("--task", SHORT, "--job-config", "nowhere.json"), "nowhere.json cannot be read"),
        (("--task", "aviation/flights"), "--task: 'aviation/flights' names no task instance"),
        (("--task", SHORT, "--job-config", "list.json"), "must hold an object"),
        (("--task", SHORT, "--job-config", "wrong.json"), "job_config"),
    ],
)
def test_what_cannot_be_run(volume: DataLayer, cli: Cli, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    for name, text in (("bad", "{"), ("list", "[]"), ("wrong", '{"inputs": 1}')):
        (tmp_path / f"{name}.json").write_text(text)
    ended = cli("run", *arguments, "--json", "--", "true")
    assert ended.code == 78
    assert said in ended.err
    assert said in ended.json["error"]["message"]


def test_the_version(cli: Cli) -> None:
    ended = cli("--version")
    assert (ended.code, ended.out.split()[0]) == (0, "datalayer-tasks")


# verify, doctor, sweep, schema ----------------------------------------------------------------------------------------------------------


def test_verify_tells_what_is_damaged(layer: DataLayer, cli: Cli) -> None:
    publish(layer, {"x": b"1", "y": b"2"})
    layer.data.put(f"{layout.output_path(KEY, 1, 'default')}/x", b"3")
    layer.data.put(f"{layout.output_path(KEY, 1, 'default')}/z", b"3")
    ended = cli("verify", SHORT)
    assert ended.code == 1
    assert "damaged  default  x" in ended.out
    assert "2 files, 2 B, NOT as committed" in ended.out
    document = cli("verify", SHORT, "--json").json
    assert (document["ok"], document["attempt"], document["files"]) == (False, 1, 2)
    assert [(one["kind"], one["file"]) for one in document["problems"]] == [("damaged", "x"), ("extra", "z")]


def test_doctor(layer: DataLayer, cli: Cli) -> None:
    ended = cli("doctor")
    assert ended.code == 0
    assert "one winner under concurrency" in ended.out
    document = cli("doctor", "--json").json
    assert document["ok"] is True
    assert {"status", "tier", "check", "detail", "breaks"} == set(document["findings"][0])


def test_doctor_fails_where_a_store_does(volume: DataLayer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATALAYER_TIERS__SHARED__URL", "/nowhere/at/all")
    ended = cli("doctor")
    assert ended.code == 1
    assert "failed: reachable and writable on shared\n  Nothing works on this tier.\n" in ended.out


def test_sweep(layer: DataLayer, cli: Cli) -> None:
    publish(layer)
    for team in ("aviation", "rail"):
        layer.publish(TaskKey(team, "d", "t", KEY.run), owner="ti-5").output().put("x", b"123")
    alive = cli("sweep", "--json").json
    assert (alive["ok"], alive["dry_run"], alive["runs"]) == (True, False, 3)
    assert [(one["outcome"], one["owner"], one["files"]) for one in alive["found"]] == [("alive", "ti-5", 1)] * 2
    would = cli("sweep", "--older-than", "0s", "--dry-run")
    assert "would remove  /aviation/d/t/20130101T000000Z" in would.out
    assert "3 runs looked at; 2 files, 6 B would be removed\n" in would.out
    assert would.err.startswith("warning: a living attempt shows itself every 6:00:00")
    assert "1 run" in cli("sweep", "rail", "--older-than", "0s").out
    left = cli("sweep", "--json").json["found"]
    assert [one["address"] for one in left if one["files"]] == ["/aviation/d/t/20130101T000000Z"]
    assert layer.resolve(KEY)["default"].read_bytes("flights.csv")


@pytest.mark.parametrize("arguments", [("--older-than", "1 week"), ("--older-than", "-1h"), ("a b",), ("a/d/t@x",)])
def test_sweep_refuses_what_it_does_not_understand(volume: DataLayer, cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("sweep", *arguments).code == 1


def test_schema(volume: DataLayer, cli: Cli) -> None:
    names = cli("schema").out.split()
    assert names == ["manifest", "task-context", "task-report"]
    for name in names:
        assert cli("schema", name).json["$schema"].startswith("https://json-schema.org/")
    assert cli("schema", "--json").json == {"schemas": names}
    assert cli("schema", "nonsense").code == 1


# Errors, options ------------------------------------------------------------------------------------------------------------------------


def test_an_error_is_one_line_with_the_next_step(layer: DataLayer, cli: Cli) -> None:
    ended = cli("show", SHORT)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith(f"error: {KEY} has not been published")
    document = cli("show", SHORT, "--json").json
    assert document["error"]["type"] == "NotPublishedError"
    assert document["error"]["retryable"] is False


def test_what_may_pass_ends_with_75(volume: DataLayer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATALAYER_TIERS__SHARED__URL", "/nowhere/at/all")
    ended = cli("ls", "--json")
    assert ended.code == 75
    assert ended.json["error"]["retryable"] is True
    assert ended.err.endswith("Running the same again can help.\n")


def test_a_file_in_the_way_is_an_error_and_no_traceback(volume: DataLayer, cli: Cli, tmp_path: Path) -> None:
    publish(volume)
    (tmp_path / "out").write_text("a file")
    ended = cli("get", SHORT, "out")
    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err


def test_the_options_that_all_commands_share(volume: DataLayer, cli: Cli, tmp_path: Path) -> None:
    publish(volume)
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "other.toml").write_text(f'design = "shared-fs"\n[tiers.shared]\nurl = "{other}"\n')
    assert cli("--config", "nowhere.toml", "ls").code == 1
    assert cli("--design", "nonsense", "ls").err.startswith("error: design: unknown storage design 'nonsense'")
    ended = cli("--design", "s3-poc", "ls")
    assert "tiers.cold: the design 's3-poc' writes there" in ended.err


def test_a_config_file_by_option(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other.toml").write_text('design = "shared-fs"\n[tiers.shared]\nurl = "other"\n')
    assert cli("ls").code == 1
    (tmp_path / "x").write_bytes(b"1")
    assert cli("--config", "other.toml", "put", SHORT, "x").code == 0
    assert cli("--config", "other.toml", "cat", SHORT).out == "1"
    assert (tmp_path / "other/aviation").is_dir()
