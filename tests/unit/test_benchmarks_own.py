"""``python -m benchmarks own``: the designs on the user's own data, which are only read."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from benchmarks.command import app
from benchmarks.origin import Door, Origin
from benchmarks.own.advice import Outcome, advice, outcomes
from benchmarks.own.command import check_columns
from benchmarks.own.readers import Cached, Downloaded, InTheirFolder, Reader, Warmed
from benchmarks.own.source import File, Source, find
from benchmarks.own.workload import OwnData
from benchmarks.prices import prices
from benchmarks.workload import measure
from datalayer import ConfigError, DataLayer, TaskKey
from datalayer.stores.memory import MemoryStore
from tests.services.s3server import S3Server


@pytest.fixture
def origin(versitygw: S3Server) -> Origin:
    return Origin(versitygw, versitygw.new_bucket("bench"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "below").mkdir(parents=True)
    table = pyarrow.table({"a": [1, 2, 3], "b": ["x", "y", None], "c": [0.5, 1.5, 2.5]})
    pyarrow.parquet.write_table(table, data / "one.parquet")
    pyarrow.parquet.write_table(table, data / "below" / "an other.parquet")
    (data / "notes.txt").write_text("not Parquet")
    (data / "_SUCCESS").write_text("")
    return data


def _everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def _told(monkeypatch: pytest.MonkeyPatch, door: Door, url: str) -> None:
    settings = {
        "TIERS__COLD__URL": url,
        "TIERS__COLD__CONNECTION": "lake",
        "CONNECTIONS__LAKE__ENDPOINT": door.endpoint,
        "CONNECTIONS__LAKE__REGION": door.region,
        "CONNECTIONS__LAKE__ACCESS_KEY_ID": door.access_key,
        "CONNECTIONS__LAKE__SECRET_ACCESS_KEY": door.secret_key,
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"DATALAYER_{name}", value)


def _try(source: Source, origin: Origin, columns: list[str]) -> list[Outcome]:
    pieces = source.sample(10**6, 10, whole=bool(columns))
    workload = OwnData(source, pieces, readers=2, columns=columns, rounds=1, efs=False)
    workload.isolated = False
    workload.limits = None
    result = measure(workload, origin, isolated=False)
    return outcomes({timing.name: timing for timing in result.timings}, source, pieces, prices())[0]


def test_a_folder_is_tried_under_each_design_and_left_as_it_was(folder: Path, origin: Origin) -> None:
    before = _everything(folder)
    source = find(str(folder))
    assert sorted(file.path for file in source.files) == ["below/an other.parquet", "notes.txt", "one.parquet"]
    found = {one.name: one for one in _try(source, origin, [])}
    assert set(found) == {Downloaded.name, Reader.name, Cached.name, Warmed.name, InTheirFolder.name}
    # Two readers: of the manifest, and of three files; through the shared cache of each file once.
    assert found[Reader.name].requests == 8
    assert found[Cached.name].requests == 5
    assert found[Warmed.name].requests == 2
    assert found[Reader.name].bytes_down > 2 * source.size
    assert _everything(folder) == before


def test_columns_are_read_from_parquet_files_alone(folder: Path, origin: Origin) -> None:
    source = find(str(folder), columns=True)
    assert len(source.files) == 2
    found = _try(source, origin, ["b", "c"])
    assert len(found) == 5
    piece = source.sample(10**6, 10, whole=True)[0]
    check_columns(source, piece, ["a"])
    with pytest.raises(ConfigError, match="no column z; there are a, b, c"):
        check_columns(source, piece, ["a", "z"])


def test_objects_on_s3_are_found_by_the_configured_connection_and_left_as_they_were(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = origin.door.obstore()
    for name in ("lake/a.bin", "lake/b.bin"):
        store.put(name, bytes(3000))
    bucket = origin.door.bucket
    _told(monkeypatch, origin.door, f"s3://{bucket}/elsewhere")
    source = find(f"s3://{bucket}/lake")
    assert source.files == [File("a.bin", 3000), File("b.bin", 3000)]
    source.probe()
    assert source.measured
    # Loopback is nearer than the suite's S3.
    assert 0 < source.limits.first_byte < 0.03
    assert b"".join(source.read(source.sample(10**6, 1, whole=False)[0])) == bytes(3000)
    assert find(f"s3://{bucket}/lake/a.bin").files == [File("a.bin", 3000)]
    with pytest.raises(ConfigError, match="there is no file with data in it"):
        find(f"s3://{bucket}/nothing")
    assert sorted(info["path"] for page in store.list() for info in page) == ["lake/a.bin", "lake/b.bin"]


def test_a_tasks_output_is_found_by_its_address(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    _told(monkeypatch, origin.door, f"s3://{origin.door.bucket}/root")
    key = TaskKey("aviation", "flights", "extract", "20130101T000000Z")
    with DataLayer.from_env().publish(key) as attempt:
        attempt.output().put("day.csv", b"1,2\n")
    for address in ("aviation/flights/extract@2013-01-01", f"task:/{key}/default"):
        source = find(address)
        assert [file.size for file in source.files] == [4]
        assert b"".join(source.read(source.sample(10**6, 1, whole=False)[0])) == b"1,2\n"


def _source(*sizes: int) -> Source:
    return Source("own", MemoryStore(), [File(str(number), size) for number, size in enumerate(sizes)])


def test_a_sample_is_spread_and_bounded() -> None:
    source = _source(*[10] * 1000)
    assert [int(piece.file.path) for piece in source.sample(10**6, 4, whole=False)] == [0, 250, 500, 750]
    assert sum(piece.length for piece in source.sample(55, 100, whole=False)) <= 55
    assert len(source.sample(55, 100, whole=False)) >= 4
    assert [piece.length for piece in _source(1000).sample(100, 4, whole=False)] == [100]
    with pytest.raises(ConfigError, match="--sample 300MB"):
        _source(300_000_000).sample(100, 4, whole=True)


def _outcome(name: str, seconds: float, dollars: float) -> Outcome:
    return Outcome(name, seconds, seconds, seconds, 10, 100, 1, dollars, 0, 0)


def test_advice_weighs_seconds_and_dollars() -> None:
    found = [
        _outcome(Downloaded.name, 10, 1),
        _outcome(Reader.name, 1.1, 1),
        _outcome(Cached.name, 1, 3),
        _outcome(Warmed.name, 0.1, 0.5),
    ]
    once = advice(found, again=False)
    assert once[0].startswith("s3-direct would serve them")
    assert "9.1 times as fast" in once[1]
    assert "hot-cold would be 11.0 times as fast as s3-direct" in once[-1]
    assert advice(found, again=True)[0].startswith("hot-cold, warm would serve them")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "/nowhere/at/all"], "own: "),
        (["--input", "gs://bucket/x"], "write a folder, an s3:// URI or a task's address"),
        (["--input", ".", "--sample", "much"], "write a whole number and a unit"),
        (["--input", "s3://bucket/x", "--connection", "none"], "no connection named 'none'"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["own", *arguments])
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
