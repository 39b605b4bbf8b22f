"""Inputs as directories."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from datalayer import ConfigError, NotPublishedError, ResolutionError, RunId, TaskKey
from datalayer.addresses import layout
from datalayer.handoff.context import InputSpec
from datalayer.handoff.inputs import Progress
from datalayer.handoff.pinning import pin_inputs
from tests.handoff.conftest import Bench

DAYS = ["20130101T000000Z", "20130102T000000Z", "20130103T000000Z"]


def seen(bench: Bench, inputs: dict[str, InputSpec]) -> dict[str, str]:
    """Every file that a job finds below its input folder, and its text."""
    script = (
        'cd $DATALAYER_IN; find -L . -type f | sort | while read -r f; do printf \'%s\\t\' "$f"; cat "$f"; echo; done'
    )
    result = bench.shell(f"({script}) > $DATALAYER_OUT/default/found", bench.context(inputs=inputs))
    assert result.exit_code == 0, result.report.error
    lines = bench.files()["found"].decode().splitlines()
    return dict(line.removeprefix("./").split("\t") for line in lines)


def test_an_alias_names_the_folder_and_outputs_can_be_chosen(bench: Bench) -> None:
    with bench.layer.publish(bench.key("extract")) as attempt:
        for name in ("default", "csv"):
            attempt.output(name).put("f", name.encode())
    inputs = {
        "extract": InputSpec(),
        "only": InputSpec(key=str(bench.key("extract")), outputs=["csv"]),
    }
    assert seen(bench, inputs) == {"extract/csv/f": "csv", "extract/default/f": "default", "only/csv/f": "csv"}


def test_an_alias_cannot_leave_the_folder(bench: Bench) -> None:
    bench.publish(bench.key("../../up"), {"f": b"x"})
    assert seen(bench, {"../../up": InputSpec()}) == {"..!2f..!2fup/default/f": "x"}


def test_several_runs_and_mapped_upstreams_have_a_folder_each(bench: Bench) -> None:
    for day in DAYS:
        bench.publish(bench.key("extract", day), {"f": day.encode()})
        for index in range(2):
            bench.publish(bench.key("mapped", day, index), {"f": f"{index} {day}".encode()})
    inputs = {
        "days": InputSpec(key=str(bench.key("extract")), runs=DAYS[:2]),
        "mapped": InputSpec(map_indexes=[0, 1]),
        "both": InputSpec(key=str(bench.key("mapped")), runs=DAYS[1:], map_indexes=[1]),
        "one": InputSpec(key=str(bench.key("mapped", map_index=1))),
        "none": InputSpec(key=str(bench.key("mapped")), map_indexes=[]),
    }
    assert seen(bench, inputs) == {
        "days/20130101T000000Z/default/f": DAYS[0],
        "days/20130102T000000Z/default/f": DAYS[1],
        "mapped/0/default/f": f"0 {DAYS[0]}",
        "mapped/1/default/f": f"1 {DAYS[0]}",
        "both/20130102T000000Z/1/default/f": f"1 {DAYS[1]}",
        "both/20130103T000000Z/1/default/f": f"1 {DAYS[2]}",
        "one/default/f": f"1 {DAYS[0]}",
    }


def test_an_optional_input_that_is_missing_is_no_folder(bench: Bench) -> None:
    bench.publish(bench.key("mapped", map_index=1), {"f": b"1"})
    inputs = {"extract": InputSpec(optional=True), "mapped": InputSpec(map_indexes=[0, 1], optional=True)}
    assert seen(bench, inputs) == {"mapped/1/default/f": "1"}
    assert (
        bench.shell(
            "test ! -e $DATALAYER_IN/extract; test ! -e $DATALAYER_IN/mapped/0; echo > $DATALAYER_OUT/default/x",
            bench.context(inputs=inputs),
        ).exit_code
        == 0
    )


def test_latest_is_the_newest_run_and_is_pinned(volume: Bench) -> None:
    for day in DAYS:
        volume.publish(volume.key("extract", day), {"f": day.encode()})
    latest = "/team/dag/extract/latest"
    assert seen(volume, {"new": InputSpec(key=latest)}) == {"new/default/f": DAYS[2]}
    inputs = {"new": InputSpec(key=str(volume.key("extract")), runs=["latest", DAYS[0]])}
    assert set(seen(volume, inputs)) == {f"new/{DAYS[2]}/default/f", f"new/{DAYS[0]}/default/f"}
    pins = volume.shell(
        "echo > $DATALAYER_OUT/default/x", volume.context(inputs={"new": InputSpec(key=latest)})
    ).report.inputs
    assert [pin.key for pin in pins["new"]] == [str(volume.key("extract", DAYS[2]))]


def test_the_latest_of_a_mapped_task_is_the_newest_run_that_has_every_index(volume: Bench) -> None:
    for day, index in ((DAYS[0], 0), (DAYS[0], 1), (DAYS[1], 0)):
        volume.publish(volume.key("mapped", day, index), {"f": f"{index} {day}".encode()})
    found = seen(volume, {"m": InputSpec(key="/team/dag/mapped/latest", map_indexes=[0, 1])})
    assert found == {"m/0/default/f": f"0 {DAYS[0]}", "m/1/default/f": f"1 {DAYS[0]}"}
    with pytest.raises(NotPublishedError):
        pin_inputs(
            volume.layer, volume.context(inputs={"m": InputSpec(key="/team/dag/mapped/latest", map_indexes=[0, 2])})
        )
    gone = InputSpec(key="/team/dag/none/latest", optional=True)
    assert pin_inputs(volume.layer, volume.context(inputs={"gone": gone})) == []


def test_a_run_without_a_date_is_read_by_its_run_id(volume: Bench) -> None:
    key = TaskKey("team", "dag", "extract", RunId("manual__1"))
    volume.publish(key, {"f": b"x"})
    assert seen(volume, {"e": InputSpec(key=str(key), runs=[key.run])}) == {"e/run_id-manual__1/default/f": "x"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (InputSpec(key="no address"), "inputs.a.key: 'no address' is not an address"),
        (InputSpec(key="/team/dag/../x"), "inputs.a.key"),
        (InputSpec(key="/t/d/e/latest/map_index-1", map_indexes=[2]), "map_indexes cannot name others"),
        (InputSpec(runs=["20130101T000000Z", "20130101T000000Z"]), "the same run or map index is named twice"),
        (InputSpec(runs=["yesterday"]), "inputs.a: run 'yesterday'"),
        (InputSpec(map_indexes=[-2]), "inputs.a: map_index -2"),
    ],
)
def test_inputs_that_name_nothing_are_configuration_errors(volume: Bench, spec: InputSpec, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pin_inputs(volume.layer, volume.context(inputs={"a": spec}))
    assert said in str(caught.value)


def test_an_output_that_is_not_there_is_an_error_before_the_command(volume: Bench) -> None:
    volume.publish(volume.key("extract"), {"f": b"x"})
    context = volume.context(inputs={"extract": InputSpec(outputs=["csv"])})
    with pytest.raises(ResolutionError):
        pin_inputs(volume.layer, context)
    result = volume.shell("true", context)
    assert result.exit_code == 66
    assert "has no output 'csv'; it has default" in str(result.report.error)


def test_on_a_mounted_tier_files_are_linked_and_only_those_of_the_manifest(volume: Bench) -> None:
    volume.publish(volume.key("extract"), {"f": b"x", "d/g": b"y"})
    stranger = volume.layer.data.local_path(f"{layout.output_path(volume.key('extract'), 1, 'default')}/stranger")
    assert stranger is not None
    stranger.write_text("never committed")
    script = 'cd $DATALAYER_IN/extract/default; find . -type l | sort > $DATALAYER_OUT/default/links; test -z "$(find . -type f)"'
    assert volume.shell(script, volume.context(inputs={"extract": InputSpec()})).exit_code == 0
    assert volume.files() == {"links": b"./d/g\n./f\n"}


def test_a_committed_file_that_became_a_link_is_refused(volume: Bench, tmp_path: Path) -> None:
    volume.publish(volume.key("extract"), {"f": b"12345678"})
    path = volume.layer.resolve(volume.key("extract"))["default"].path
    assert path is not None
    (path / "f").unlink()
    context = volume.context(inputs={"extract": InputSpec()})
    result = volume.shell("true", context)
    assert result.exit_code == 74
    assert "gone from" in str(result.report.error)
    (path / "f").symlink_to("/etc/hostname")
    result = volume.shell("true", context)
    assert (result.exit_code, result.report.command_exit_code) == (65, None)


def test_a07_a_folder_that_became_a_link_is_refused(volume: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere"
    secret.mkdir()
    (secret / "token").write_bytes(b"12345678")
    volume.publish(volume.key("extract"), {"sub/token": b"12345678"})
    path = volume.layer.resolve(volume.key("extract"))["default"].path
    assert path is not None
    (path / "sub" / "token").unlink()
    (path / "sub").rmdir()
    (path / "sub").symlink_to(secret)
    result = volume.shell("true", volume.context(inputs={"extract": InputSpec()}))
    assert result.exit_code == 65
    assert "symbolic link" in str(result.report.error)


def test_bytes_that_are_not_the_committed_ones_never_reach_a_job(
    versitygw: object, s3_direct: Bench, tmp_path: Path
) -> None:
    s3_direct.publish(s3_direct.key("extract"), {"f": b"good", "g": b"good"})
    s3_direct.layer.data.put(f"{layout.output_path(s3_direct.key('extract'), 1, 'default')}/f", b"evil")
    result = s3_direct.shell(f"touch {tmp_path}/started", s3_direct.context(inputs={"extract": InputSpec()}))
    assert result.exit_code == 65
    assert "committed were 4 bytes" in str(result.report.error)
    assert not (tmp_path / "started").exists()


def test_in_place_access_is_a_folder_all_the_same_where_the_design_copies(bench: Bench) -> None:
    bench.publish(bench.key("extract"), {"f": b"x"})
    inputs = {"extract": InputSpec(access="in-place")}
    assert seen(bench, inputs) == ({} if bench.layer.design.in_place else {"extract/default/f": "x"})


def test_progress_ends_at_all_bytes(s3_direct: Bench) -> None:
    s3_direct.publish(s3_direct.key("extract"), {str(number): b"x" * number for number in range(30)})
    told: list[Progress] = []
    context = s3_direct.context(inputs={"extract": InputSpec()})
    assert s3_direct.shell("echo > $DATALAYER_OUT/default/x", context, progress=told.append).exit_code == 0
    assert told[-1] == Progress("inputs", 435, 435)


def test_an_output_whose_list_is_too_long_for_the_manifest(bench: Bench) -> None:
    names = [f"{number:04}" for number in range(1001)]
    with bench.layer.publish(bench.key("extract")) as attempt:
        for name in names:
            attempt.output().put(name, name.encode())
    job = """
from datalayer import open_task
found = open_task().input("extract")
open_task().output().put("n", str(len(found.files)).encode() + found.read_bytes("1000"))
"""
    context = bench.context(inputs={"extract": InputSpec()})
    result = bench.run(context, sys.executable, "-c", job)
    assert result.exit_code == 0, result.report.error
    assert bench.files() == {"n": b"10011000"}


def test_a_full_work_disk_is_said(s3_direct: Bench, tmp_path: Path) -> None:
    s3_direct.publish(s3_direct.key("extract"), {"f": b"x" * 100_000})
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        result = s3_direct.shell("true", s3_direct.context(inputs={"extract": InputSpec()}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert result.exit_code == 78
    assert "cannot be written" in str(result.report.error)


def test_references_arrive_like_other_inputs(volume: Bench, tmp_path: Path) -> None:
    from datalayer import Config, DataLayer

    (tmp_path / "raw" / "day").mkdir(parents=True)
    (tmp_path / "raw" / "day" / "f").write_text("x")
    config = volume.layer.config
    document = {
        "design": config.design,
        "tiers": {"shared": {"url": config.tiers["shared"].url}},
        "references": [{"prefix": str(tmp_path / "raw")}],
    }
    volume.layer = DataLayer(Config.from_mapping(document))
    volume.layer.reference(volume.key("raw"), str(tmp_path / "raw" / "day"))
    assert seen(volume, {"raw": InputSpec()}) == {"raw/default/f": "x"}


def test_pins_are_kept_though_a_newer_attempt_has_committed(bench: Bench) -> None:
    from datalayer.handoff.pinning import with_pins

    bench.publish(bench.key("extract"), {"f": b"old"})
    context = bench.context(inputs={"extract": InputSpec()})
    inputs = with_pins(context, pin_inputs(bench.layer, context))
    bench.publish(bench.key("extract"), {"f": b"new"})
    assert seen(bench, inputs) == {"extract/default/f": "old"}
    assert seen(bench, {"extract": InputSpec()}) == {"extract/default/f": "new"}


def test_the_input_folder_is_private(volume: Bench) -> None:
    assert volume.shell("stat -c %a $(dirname $DATALAYER_IN) > $DATALAYER_OUT/default/x").exit_code == 0
    assert volume.files() == {"x": b"700\n"}
