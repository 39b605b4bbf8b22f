"""``task://`` under the tools that people read data with: through the environment's configuration, by URL alone."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from upath import UPath

from datalayer import (
    DataLayer,
    InvalidKeyError,
    NotFoundError,
    NotPublishedError,
    NotSupportedError,
    RunId,
    StoreUnavailableError,
    TaskKey,
)
from datalayer.taskfs import TaskFileSystem
from tests.integration.configured import configure

KEY = TaskKey("aviation", "flights", "extract", "20130101T000000Z")
UNPINNED = f"task:/{KEY}"
ADDRESSES = {"unpinned": UNPINNED, "latest": "task://aviation/flights/extract/latest", "pinned": f"{UNPINNED}@1"}


@pytest.fixture(params=["volume", "s3"])
def layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DataLayer]:
    """A layer that the environment configures, so that a URL is all that a reader needs."""
    TaskFileSystem.clear_instance_cache()
    yield configure(request.param, request, monkeypatch, tmp_path / "store")
    TaskFileSystem.clear_instance_cache()


@pytest.fixture
def published(layer: DataLayer) -> DataLayer:
    with layer.publish(KEY) as attempt:
        output = attempt.output()
        output.write_table(pa.table({"a": [1, 2]}), "part-0.parquet")
        output.write_table(pa.table({"a": [3]}), "part-1.parquet")
        output.put("_SUCCESS", b"")
        years = attempt.output("years")
        years.write_table(pa.table({"a": [1, 2]}), "year=2013/p.parquet")
        years.write_table(pa.table({"a": [3]}), "year=2014/odd @1 50%+é.parquet")
        with attempt.output("text").open("t.csv", "w") as file:
            file.write("a,b\n1,2\n")
    return layer


@pytest.fixture(params=ADDRESSES)
def uri(request: pytest.FixtureRequest, published: DataLayer) -> str:
    return ADDRESSES[request.param]


def duck(query: str) -> list[Any]:
    with duckdb.connect() as connection:
        connection.register_filesystem(fsspec.filesystem("task"))
        found: list[Any] = connection.sql(query).fetchall()
        return found


READERS: dict[str, Callable[[str], int]] = {
    "pandas, folder": lambda uri: len(pd.read_parquet(f"{uri}/default")),
    "pandas, files": lambda uri: sum(len(pd.read_parquet(f"{uri}/default/part-{n}.parquet")) for n in (0, 1)),
    "pandas, file system given": lambda uri: len(
        pd.read_parquet(f"{uri}/default", filesystem=fsspec.filesystem("task"))
    ),
    "pyarrow, URL": lambda uri: ds.dataset(f"fsspec+{uri}/default").count_rows(),
    "pyarrow, file system given": lambda uri: ds.dataset(
        f"{uri}/default", filesystem=fsspec.filesystem("task")
    ).count_rows(),
    "polars, file": lambda uri: sum(
        len(pl.read_parquet(f"{uri}/default/part-{n}.parquet", use_pyarrow=True)) for n in (0, 1)
    ),
    "polars, lazily": lambda uri: len(pl.scan_pyarrow_dataset(ds.dataset(f"fsspec+{uri}/default")).collect()),
    "polars, open files": lambda uri: len(
        pl.scan_parquet([opened.open() for opened in fsspec.open_files(f"{uri}/default/*.parquet")]).collect()
    ),
    "duckdb, glob": lambda uri: duck(f"SELECT count(*) FROM read_parquet('{uri}/default/*.parquet')")[0][0],
    "duckdb, files": lambda uri: duck(
        f"SELECT count(*) FROM read_parquet(['{uri}/default/part-0.parquet', '{uri}/default/part-1.parquet'])"
    )[0][0],
    "upath": lambda uri: sum(
        len(pd.read_parquet(path.open("rb"))) for path in UPath(f"{uri}/default").glob("*.parquet")
    ),
    "upath, children": lambda uri: sum(
        len(pd.read_parquet(path.open("rb"))) for path in UPath(f"{uri}/default").iterdir() if path.suffix == ".parquet"
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_tool_reads_a_parquet_output(uri: str, reader: str) -> None:
    assert READERS[reader](uri) == 3


def test_partitions_are_found_as_the_producer_made_them(uri: str) -> None:
    rows = [(1, 2013), (2, 2013), (3, 2014)]
    frame = pd.read_parquet(f"{uri}/years").astype({"year": int})
    assert list(frame.itertuples(index=False, name=None)) == rows
    assert sorted(duck(f"SELECT a, year FROM read_parquet('{uri}/years/*/*.parquet')")) == rows
    # The address itself is no partition of anything.
    assert [name for name, *_ in duck(f"DESCRIBE SELECT * FROM read_parquet('{uri}/default/*.parquet')")] == ["a"]


def test_text_and_bytes(uri: str) -> None:
    path = f"{uri}/text/t.csv"
    assert len(pd.read_csv(path)) == 1
    assert UPath(path).read_text() == "a,b\n1,2\n"
    with fsspec.open(path, "rt") as file:
        assert file.readlines() == ["a,b\n", "1,2\n"]
    fs = fsspec.filesystem("task")
    assert fs.cat(path) == b"a,b\n1,2\n"
    assert (fs.cat_file(path, 1, 3), fs.cat_file(path, -3), fs.cat_file(path, 5, 2)) == (b",b", b",2\n", b"")
    assert (fs.head(path, 2), fs.tail(path, 2)) == (b"a,", b"2\n")
    assert fs.cat_ranges([path, path], [0, 4], [3, 7]) == [b"a,b", b"1,2"]
    assert fs.du(f"{uri}/text") == 8


def test_a_folder_is_downloaded_as_it_is(uri: str, tmp_path: Path) -> None:
    fsspec.filesystem("task").get(f"{uri}/years", str(tmp_path / "out"), recursive=True)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet") if "out" in path.parts)
    assert found == ["out/year=2013/p.parquet", "out/year=2014/odd @1 50%+é.parquet"]


def test_a_file_system_within_a_folder(uri: str) -> None:
    inside = DirFileSystem(f"{uri.removeprefix('task://')}/text", fsspec.filesystem("task"))
    assert inside.cat_file("t.csv") == b"a,b\n1,2\n"
    assert inside.info("t.csv")["size"] == 8
    assert [inside.cat_file(name) for name in inside.ls("", detail=False)] == [b"a,b\n1,2\n"]


def test_the_uri_of_a_resolved_output(published: DataLayer) -> None:
    output = published.resolve(KEY)["default"]
    assert len(pd.read_parquet(output.uri)) == 3
    assert len(pd.read_parquet(output.uri, filesystem=output.filesystem)) == 3


def test_what_info_says(published: DataLayer) -> None:
    fs = fsspec.filesystem("task")
    info = fs.info(f"{UNPINNED}@1/text/t.csv")
    entry = published.resolve(KEY)["text"].files["t.csv"]
    assert info == {
        "name": f"{UNPINNED}@1/text/t.csv".removeprefix("task://"),
        "size": 8,
        "type": "file",
        "checksum": entry.checksum,
        "attempt": 1,
    }
    assert fs.info(f"{UNPINNED}/years/year=2013")["type"] == "directory"
    assert fs.modified(f"{UNPINNED}/text/t.csv").isoformat() == published.resolve(KEY).manifest.committed


# What is seen ---------------------------------------------------------------------------------------------------------------------------


def names(fs: TaskFileSystem, path: str) -> list[str]:
    return sorted(name.rpartition("/")[2] for name in fs.ls(path, detail=False))


def test_the_levels_above_an_output(published: DataLayer) -> None:
    fs = fsspec.filesystem("task")
    dirty = TaskKey("aviation", "flights", "extract", "20130102T000000Z")
    staged = published.publish(dirty)
    staged.output().put("half", b"1")
    mapped = TaskKey("aviation", "flights", "mapped", RunId(".."), 3)
    with published.publish(mapped) as attempt:
        attempt.output().put("x", b"3")
    published.publish(TaskKey("aviation", "flights", "mapped", RunId(".."), 4)).output().put("x", b"4")
    published.home.put("not an id/x", b"")
    published.home.put("aviation/!2E/x", b"")
    published.home.put("aviation/flights/extract/README/x", b"")
    published.home.put("aviation/flights/extract/latest/x", b"")
    published.home.put("aviation/flights/mapped/run_id-!2e!2e/map_index-x/manifest.json", b"")
    assert names(fs, "") == ["aviation"]
    assert names(fs, "aviation") == ["flights"]
    assert names(fs, "task://aviation/flights/") == ["extract", "mapped"]
    assert names(fs, "aviation/flights/extract") == ["20130101T000000Z@1"]
    assert names(fs, UNPINNED) == ["default", "text", "years"]
    assert names(fs, "aviation/flights/mapped") == ["run_id-!2e!2e"]
    assert names(fs, "aviation/flights/mapped/run_id-!2e!2e") == ["map_index-3@1"]
    assert fs.find("aviation/flights/mapped") == [f"{mapped.path}@1/default/x"]
    assert fs.isdir("aviation/flights/mapped/run_id-!2e!2e")
    for unseen in (dirty.path, f"{dirty.path}/default", f"{dirty.path}/default/half", f"{dirty.path}@1/default/half"):
        assert not fs.exists(unseen)
        assert fs.find(unseen) == []
        with pytest.raises(NotPublishedError):
            fs.ls(unseen)
        with pytest.raises(NotPublishedError):
            fs.open(f"{unseen}/x")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("{u}/default/*.parquet", ["part-0.parquet", "part-1.parquet"]),
        ("{u}/*/t.csv", ["t.csv"]),
        ("{u}/years/year=*/*", ["odd @1 50%+é.parquet", "p.parquet"]),
        ("{u}/years/**/p*", ["p.parquet"]),
        ("{u}@1/text/*", ["t.csv"]),
        ("aviation/flights/extract/latest/t*/*", ["t.csv"]),
        ("aviation/*/extract/2013*/text/*", ["t.csv"]),
        ("*/flights/*/20130101T000000Z/text/*", ["t.csv"]),
        ("aviation/flights/extract/20130101T000000Z@*/text/*", ["t.csv"]),
        ("aviation/**/*.csv", ["t.csv"]),
        ("{u}/text/t.csv", ["t.csv"]),
        ("aviation/flights/*", ["extract"]),
        ("aviation/flights/extract/*", ["20130101T000000Z@1"]),
        ("{u}/default/*.orc", []),
        ("{u}/none/*", []),
        ("aviation/flights/extract/20140101T000000Z/default/*", []),
        ("aviation/nobody/*/*", []),
        ("no id/*", []),
    ],
)
def test_patterns(published: DataLayer, pattern: str, found: list[str]) -> None:
    fs = fsspec.filesystem("task")
    matched = fs.glob(pattern.format(u=UNPINNED))
    assert sorted(name.rpartition("/")[2] for name in matched) == found
    assert all(fs.exists(name) for name in matched)
    assert sorted(fs.glob(pattern.format(u=UNPINNED), detail=True)) == matched


def test_what_is_absent(published: DataLayer) -> None:
    fs = fsspec.filesystem("task")
    for path, error in {
        "aviation/nobody": NotFoundError,
        f"{UNPINNED}/none/x": NotFoundError,
        f"{UNPINNED}/default/none": NotFoundError,
        f"{UNPINNED}/default": NotFoundError,
        f"{UNPINNED}@9/default/x": NotPublishedError,
        "aviation/flights/extract/20140101T000000Z/default/x": NotPublishedError,
        "aviation/flights/nobody/latest/default/x": NotPublishedError,
        "no id/x": InvalidKeyError,
    }.items():
        with pytest.raises(error):
            fs.open(path)
        assert not fs.isfile(path)


def test_a_missing_upstream_is_named_through_pandas(layer: DataLayer) -> None:
    with pytest.raises(NotPublishedError, match="/aviation/flights/extract/20130101T000000Z has not been published"):
        pd.read_parquet(f"{UNPINNED}/default")


def test_a_store_that_cannot_be_asked_is_no_absence(tmp_path: Path) -> None:
    config = {"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path / "unmounted")}}}
    fs = TaskFileSystem(config=config, skip_instance_cache=True)
    look: list[Callable[[str], object]] = [fs.exists, fs.isfile, fs.isdir, fs.find, fs.glob, fs.ls]
    for ask in look:
        for path in ("aviation", UNPINNED, f"{UNPINNED}/default/x*"):
            with pytest.raises(StoreUnavailableError):
                ask(path)
                fs.info(path)  # glob() of a literal path asks this way


# Writing --------------------------------------------------------------------------------------------------------------------------------

WRITES: dict[str, Callable[[Any, str], object]] = {
    "open": lambda fs, path: fs.open(path, "wb"),
    "append": lambda fs, path: fs.open(path, "ab"),
    "text": lambda fs, path: fs.open(path, "w"),
    "pipe": lambda fs, path: fs.pipe(path, b""),
    "pipe_file": lambda fs, path: fs.pipe_file(path, b""),
    "put": lambda fs, path: fs.put(__file__, path),
    "put_file": lambda fs, path: fs.put_file(__file__, path),
    "rm": lambda fs, path: fs.rm(path, recursive=True),
    "rm_file": lambda fs, path: fs.rm_file(path),
    "mkdir": lambda fs, path: fs.mkdir(path),
    "makedirs": lambda fs, path: fs.makedirs(path, exist_ok=True),
    "rmdir": lambda fs, path: fs.rmdir(path),
    "mv": lambda fs, path: fs.mv(path, path),
    "cp": lambda fs, path: fs.cp(path, path),
    "touch": lambda fs, path: fs.touch(path),
    "write_text": lambda fs, path: fs.write_text(path, "x"),
    "upath": lambda fs, path: UPath(path).write_bytes(b"x"),
    "pandas": lambda fs, path: pd.DataFrame({"a": [1]}).to_parquet(path),
}


@pytest.mark.parametrize("write", WRITES)
def test_writing_says_where_to_go_instead(published: DataLayer, write: str) -> None:
    with pytest.raises(NotSupportedError, match=r"layer\.publish") as caught:
        WRITES[write](fsspec.filesystem("task"), f"{UNPINNED}/text/t.csv")
    assert caught.value.location == f"{UNPINNED}/text/t.csv"
    assert published.resolve(KEY)["text"].read_bytes("t.csv") == b"a,b\n1,2\n"


def test_it_pickles(published: DataLayer) -> None:
    path = f"{UNPINNED}/text/t.csv"
    for fs in (fsspec.filesystem("task"), published.resolve(KEY)["text"].filesystem):
        again = pickle.loads(pickle.dumps(fs))
        assert again.cat_file(path) == b"a,b\n1,2\n"


def test_references_are_read_in_place(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "events.csv").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "root").mkdir()
    config = {
        "design": "shared-fs",
        "tiers": {"shared": {"url": str(tmp_path / "root")}},
        "references": [{"prefix": f"file://{raw}"}],
    }
    layer = DataLayer.from_env(config)
    output = layer.reference(KEY, f"file://{raw}")["default"]
    fs = output.filesystem
    assert fs.cat_file(f"{output.uri}/events.csv", 4) == b"1,2\n"
    assert len(pd.read_csv(fs.open(f"{output.uri}/events.csv"))) == 1
