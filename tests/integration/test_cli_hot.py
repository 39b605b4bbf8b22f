"""`datalayer hot …` as a person or a script uses it, on a cache folder of this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from datalayer import DataLayer, TaskKey
from datalayer.cli.app import run

KEY = TaskKey("aviation", "flights", "extract", "20130101T000000Z")
SHORT = "aviation/flights/extract@2013-01-01"

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run([str(argument) for argument in arguments])
        return int(ended.value.code or 0), *capfd.readouterr()

    return call


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DataLayer:
    (tmp_path / "cold").mkdir()
    settings = {
        "DESIGN": "hot-cold",
        "TIERS__COLD__URL": str(tmp_path / "cold"),
        "HOT__URL": str(tmp_path / "hot"),
        "HOT__BUDGET": "1MB",
        "HOT__WRITE_TYPE": "THROUGH",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"DATALAYER_{name}", value)
    monkeypatch.setattr("getpass.getuser", lambda: "anna")
    return DataLayer.from_env()


def publish(layer: DataLayer, task: str = "extract", size: int = 300_000, output: str = "default") -> TaskKey:
    key = TaskKey("aviation", "flights", task, KEY.run)
    with layer.publish(key) as attempt:
        attempt.output(output).put("a.csv", b"x" * size)
        attempt.output(output).put("d/b.csv", b"y" * 1000)
    return key


def test_warm_says_what_was_hot_and_what_it_fetched(layer: DataLayer, cli: Cli) -> None:
    publish(layer)
    assert cli("hot", "warm", SHORT) == (0, "2 files, 301 KB: 0 B were hot, 301 KB fetched\n", "")
    assert cli("hot", "warm", SHORT) == (0, "2 files, 301 KB: 301 KB were hot, 0 B fetched\n", "")
    code, out, _ = cli("hot", "warm", SHORT, "--json")
    assert (code, json.loads(out)) == (
        0,
        {"ok": True, "files": 2, "bytes": 301000, "fetched": 0, "hot": 301000, "evicted": [], "left_out": []},
    )


def test_warm_takes_outputs_files_and_columns(layer: DataLayer, cli: Cli) -> None:
    with layer.publish(KEY) as attempt:
        attempt.output("default").put("a.csv", b"x" * 10)
        attempt.output("default").put("d/b.csv", b"x" * 20)
        attempt.output("table").write_table(pyarrow.table({"a": [1], "b": [2]}))

    def warmed(*arguments: str) -> Any:
        return json.loads(cli("hot", "warm", *arguments, "--json")[1])

    assert warmed(SHORT, "-o", "default", "-f", "a.csv")["bytes"] == 10
    assert warmed(f"{SHORT}/default/d")["bytes"] == 20
    assert warmed(f"{KEY}@1/default", "--file", "a.csv", "--file", "d/b.csv")["files"] == 2
    assert 0 < warmed(SHORT, "-o", "table", "-c", "a", "-c", "b", "--parallel", "2")["bytes"] < 1000
    assert warmed(SHORT)["files"] == 3
    for wrong in (["-o", "nothing"], ["-f", "nothing"], ["-o", "table", "-c", "nothing"]):
        code, out, err = cli("hot", "warm", SHORT, *wrong)
        assert (code, out, "'nothing'" in err) == (1, "", True) or wrong[-2] == "-c"


def test_pinned_evicted_and_left_out(layer: DataLayer, cli: Cli) -> None:
    publish(layer)
    publish(layer, "other", 500_000)
    cli("hot", "warm", SHORT)
    code, out, _ = cli("hot", "pin", SHORT, "--for", "90m")
    assert (code, out.startswith("pinned for anna until 2")) == (0, True)
    code, _, err = cli("hot", "evict", SHORT)
    assert code == 1
    assert "is pinned by anna until" in err
    code, out, _ = cli("hot", "warm", "aviation/flights/other@2013-01-01")
    assert code == 0
    publish(layer, "third", 620_000)
    code, out, err = cli("hot", "warm", "aviation/flights/third@2013-01-01")
    assert (code, "evicted /aviation/flights/other/20130101T000000Z@1/default" in out) == (0, True)
    cli("hot", "pin", "aviation/flights/third@2013-01-01", "--holder", "ben")
    code, out, err = cli("hot", "warm", "aviation/flights/other@2013-01-01")
    assert (code, out) == (1, "1 file, 1 KB: 0 B were hot, 1 KB fetched\n")
    assert err.startswith("left out: /aviation/flights/other/20130101T000000Z@1/default/a.csv, 500 KB: 28.85 KB of")
    code, out, _ = cli("hot", "warm", "aviation/flights/other@2013-01-01", "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["left_out"][0]["file"]) == (1, False, "a.csv")
    assert cli("hot", "unpin", SHORT) == (0, f"unpinned {KEY}@1/default\n", "")
    assert cli("hot", "unpin", SHORT) == (0, "nothing there was pinned for anna\n", "")
    assert cli("hot", "evict", SHORT) == (0, f"evicted {KEY}@1/default\n", "")
    code, out, _ = cli("hot", "evict", "aviation/flights/third@2013-01-01", "--force", "--json")
    assert json.loads(out) == {"evicted": ["/aviation/flights/third/20130101T000000Z@1/default"]}


def test_a_large_output_is_refused(layer: DataLayer, cli: Cli) -> None:
    publish(layer, size=1_000_000)
    code, out, err = cli("hot", "warm", SHORT)
    assert (code, out) == (1, "")
    assert (
        "1025576 bytes (with what 2 copies take beside their bytes) are more than hot.budget, which is 1000000" in err
    )


def test_pins_of_every_attempt_and_of_one(layer: DataLayer, cli: Cli) -> None:
    publish(layer)
    cli("hot", "pin", SHORT)
    publish(layer)
    _, out, _ = cli("hot", "pin", SHORT, "--json")
    assert json.loads(out)["holder"] == "anna"
    assert cli("hot", "unpin", f"{KEY}@2")[1] == f"unpinned {KEY}@2/default\n"
    cli("hot", "pin", SHORT)
    _, out, _ = cli("hot", "unpin", SHORT, "--json")
    assert json.loads(out) == {"holder": "anna", "unpinned": [f"{KEY}@1/default", f"{KEY}@2/default"]}


def test_status_by_output_by_team_and_in_all(layer: DataLayer, cli: Cli) -> None:
    publish(layer)
    cli("hot", "warm", SHORT, "-f", "a.csv")
    cli("hot", "pin", SHORT, "--holder", "a reader")
    _, out, _ = cli("hot", "status")
    lines = out.splitlines()
    assert lines[0].split() == ["team", "output", "bytes", "hot", "%", "pinned"]
    assert lines[1].startswith(f"aviation  {KEY}@1/default  301 KB  300 KB  99  a reader until ")
    assert lines[-2].split() == ["aviation", "1", "301", "KB", "300", "KB", "300", "KB"]
    assert lines[-1].startswith("300 KB of 301 KB hot, 300 KB pinned; budget 1 MB; all copies take 3")
    assert lines[-1].endswith(" KB of 1 MB")
    # One output needs no teams.
    assert [len(cli("hot", "status", *one)[1].splitlines()) for one in ([], [SHORT])] == [6, 3]
    for arguments in ([], ["aviation"], [SHORT], [f"{SHORT}/default"], [SHORT, "-o", "default"]):
        document = json.loads(cli("hot", "status", *arguments, "--json")[1])
        assert set(document) == {
            "outputs",
            "teams",
            "bytes",
            "hot",
            "pinned",
            "budget",
            "unavailable",
            "held",
            "capacity",
        }
        (output,) = document["outputs"]
        assert (output["address"], output["bytes"], output["hot"]) == (f"{KEY}@1/default", 301000, 300000)
        assert [lease["holder"] for lease in output["leases"]] == ["a reader"]
        assert document["teams"] == [
            {"team": "aviation", "outputs": 1, "bytes": 301000, "hot": 300000, "pinned": 300000}
        ]
    assert json.loads(cli("hot", "status", "nobody", "--json")[1])["outputs"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["warm", "aviation/flights"], "names no run"),
        (["status", "aviation/flights"], "names no run"),
        (["warm", "aviation/flights/nothing@2013-01-01"], "has not been published"),
    ],
)
def test_what_was_not_meant(layer: DataLayer, cli: Cli, arguments: list[str], said: str) -> None:
    publish(layer)
    code, out, err = cli("hot", *arguments)
    assert (code, out) == (1, "")
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pin", SHORT, "--for", "soon"], "--for 'soon': write a whole number and a unit"),
        (["pin", SHORT, "--for", "0s"], "more than 0 and at most 366 days"),
        (["pin", SHORT, "--for", "400d"], "more than 0 and at most 366 days"),
        (["pin", SHORT, "--holder", ""], "a pin's holder is ''"),
        (["unpin", SHORT, "--holder", " "], "a pin's holder is ' '"),
        (["pin", f"{SHORT}/default/a.csv"], "take whole outputs; leave /a.csv away"),
        (["unpin", f"{KEY}@1/default/d/b.csv"], "take whole outputs; leave /d/b.csv away"),
        (["evict", "aviation/flights/extract@latest/default/a.csv", "--force"], "whole outputs; leave /a.csv away"),
    ],
)
def test_wrong_usage(
    layer: DataLayer, cli: Cli, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    publish(layer)
    cli("hot", "warm", SHORT)
    code, out, err = cli("hot", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert (layer.hot.status(KEY).hot, layer.hot.status(KEY).outputs[0].leases) == (301_000, ())


def test_an_address_of_a_file_warms_that_file(layer: DataLayer, cli: Cli) -> None:
    publish(layer)
    assert cli("hot", "warm", f"{SHORT}/default/d/b.csv")[1] == "1 file, 1 KB: 0 B were hot, 1 KB fetched\n"
    assert layer.hot.status(KEY).hot == 1000


def test_status_where_nothing_was_warmed_or_pinned(layer: DataLayer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(layer)
    layer.resolve(KEY)["default"].read_bytes("a.csv")
    first, last = cli("hot", "status")[1].splitlines()
    assert first.startswith("nothing was warmed here or is pinned. Copies that were made by writing or reading are not")
    assert first.endswith("ask with 'datalayer hot status ADDRESS'")
    assert last.startswith("0 B of 0 B hot, 0 B pinned; budget 1 MB; all copies take 3")
    cli("hot", "warm", SHORT)
    assert cli("hot", "status", "aviaton")[1].splitlines()[0] == "nothing of 'aviaton' was warmed or is pinned"


@pytest.mark.parametrize("kind", ["proxy", "folder"])
def test_a_hot_tier_that_is_dead(layer: DataLayer, cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    publish(layer)
    cli("hot", "warm", SHORT)
    layer.hot.pin(KEY, "ben")
    if kind == "proxy":
        monkeypatch.setenv("DATALAYER_HOT__URL", "alluxio://127.0.0.1:1/outputs")
        monkeypatch.setenv("DATALAYER_HOT__PROXY", "http://127.0.0.1:1")
        why = "the proxy at http://127.0.0.1:1 cannot serve"
    else:
        monkeypatch.setenv("DATALAYER_HOT__URL", "/proc/nope")
        why = "cache folder not usable: /proc/nope"
    code, out, _ = cli("hot", "status", SHORT)
    assert code == 0
    assert out.splitlines()[1].split()[1:6] == [f"{KEY}@1/default", "301", "KB", "?", "?"]
    *_, figures, last = out.splitlines()
    assert figures == "? of 301 KB hot, ? pinned; budget 1 MB"
    assert last.startswith("the hot tier does not serve: ")
    assert why in last
    assert last.endswith(". What is hot is not known. See datalayer doctor")
    assert why in json.loads(cli("hot", "status", "--json")[1])["unavailable"]
    code, _, err = cli("hot", "pin", SHORT)
    assert (code, "Nothing was pinned. See 'datalayer doctor'" in err) == (75, True)
    leases = json.loads(cli("hot", "status", SHORT, "--json")[1])["outputs"][0]["leases"]
    assert [lease["holder"] for lease in leases] == ["ben"]


def test_the_help_says_that_all_outputs_are_meant(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for verb in ("warm", "pin", "unpin", "evict", "status"):
        out = cli("hot", verb, "--help")[1]
        assert "By default all of them" in out
        assert "else 'default'" not in out


def test_without_a_hot_tier_it_says_how_to_get_one(layer: DataLayer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATALAYER_DESIGN", "s3-direct")
    publish(layer)
    for verb in ("warm", "pin", "unpin", "evict"):
        code, _, err = cli("hot", verb, SHORT)
        assert (code, "use the design hot-cold" in err) == (1, True)
    assert cli("hot", "status")[0] == 1


def test_a_hot_tier_that_is_down_ends_with_75(layer: DataLayer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(layer)
    monkeypatch.setattr("datalayer.stores.node_cache.NodeCache.unavailable", lambda self: "connection refused")
    code, _, err = cli("hot", "warm", SHORT)
    assert code == 75
    assert "does not serve: connection refused" in err
    assert "Running the same again can help." in err
    said = "the hot tier does not serve: connection refused. What is hot is not known. See datalayer doctor\n"
    assert cli("hot", "status")[1].endswith(said)


def test_a_user_without_a_name_has_a_number(layer: DataLayer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid")

    monkeypatch.setattr("getpass.getuser", nobody)
    publish(layer)
    assert json.loads(cli("hot", "pin", SHORT, "--json")[1])["holder"].isdigit()
