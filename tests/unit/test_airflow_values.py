"""What a Python task returns, as files; and where the link to them leads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_ops.links import console_page
from airflow_ops.triggers import TaskOutputTrigger
from airflow_ops.values import write_value
from datalayer import DataLayer, PublishError, TaskKey, Tier
from datalayer.addresses.location import Location
from datalayer.config import Config
from datalayer.resolve.output import ResolvedOutput
from datalayer.stores.base import Store
from datalayer.stores.memory import MemoryStore

KEY = TaskKey("aviation", "flights", "extract", "20261123T080000Z")


@pytest.fixture
def layer(tmp_path: Path) -> DataLayer:
    return DataLayer(Config.from_mapping({"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path / "data")}}}))


def published(layer: DataLayer, value: Any) -> ResolvedOutput:
    Path(layer.config.tiers["shared"].url).mkdir(exist_ok=True)
    with layer.publish(KEY) as attempt:
        write_value(attempt.output(), value)
    return layer.resolve(KEY)["default"]


def test_frames_and_tables_become_parquet_with_rows_and_columns(layer: DataLayer) -> None:
    import pandas
    import polars
    import pyarrow

    columns = {"a": [1, 2, 3]}
    for value in (
        pandas.DataFrame(columns),
        polars.DataFrame(columns),
        polars.LazyFrame(columns),
        pyarrow.table(columns),
    ):
        found = published(layer, value)
        assert list(found.files) == ["part-0.parquet"]
        assert found.dataset().to_table().column("a").to_pylist() == [1, 2, 3]
        assert (found.output.rows, [one.name for one in found.output.schema or ()]) == (3, ["a"])


@pytest.mark.parametrize(
    ("value", "name", "data"),
    [
        (b"\0\1", "data.bin", b"\0\1"),
        (bytearray(b"x"), "data.bin", b"x"),
        ("Zürich", "data.txt", "Zürich".encode()),
        ("", "data.txt", b""),
        ({"a": [1, None]}, "data.json", b'{"a": [1, null]}'),
        ([], "data.json", b"[]"),
        (0, "data.json", b"0"),
        (False, "data.json", b"false"),
    ],
)
def test_small_values_become_one_file(layer: DataLayer, value: Any, name: str, data: bytes) -> None:
    assert dict(published(layer, value).read_many()) == {name: data}


def test_a_path_is_that_file_or_all_of_that_folder(layer: DataLayer, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "more").mkdir(parents=True)
    (folder / "a.csv").write_bytes(b"1")
    (folder / "more" / "b.csv").write_bytes(b"2")
    assert dict(published(layer, folder).read_many()) == {"a.csv": b"1", "more/b.csv": b"2"}
    assert dict(published(layer, folder / "a.csv").read_many()) == {"a.csv": b"1"}
    with pytest.raises(PublishError, match="and nothing lies there"):
        published(layer, folder / "gone.csv")


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), {"a": b"x"}])
def test_what_cannot_be_written_says_what_can(layer: DataLayer, value: Any) -> None:
    with pytest.raises(
        PublishError, match=f"returned a {type(value).__name__}, which cannot be written.*Return a DataFrame"
    ):
        published(layer, value)


# The link --------------------------------------------------------------------------------------------------------------------------


def in_bucket() -> MemoryStore:
    """Objects in memory, that say they lie in a bucket."""
    store = MemoryStore()
    store.root = Location("s3", "out puts", "root")
    return store


def page(connection: dict[str, str] | None, *outputs: str) -> str | None:
    place: dict[str, Any] = {"url": "s3://outputs/root", **({"connection": "lake"} if connection is not None else {})}
    named = {"lake": connection} if connection is not None else {}
    stores: dict[Tier, Store] = {Tier.COLD: in_bucket()}
    layer = DataLayer(Config.from_mapping({"tiers": {"cold": place}, "connections": named}), stores=stores)
    with layer.publish(KEY) as attempt:
        for name in outputs:
            attempt.output(name).put("x", b"")
    return console_page(layer, layer.resolve(KEY))


@pytest.mark.parametrize(
    ("connection", "region"),
    [
        (None, ""),
        ({"region": "eu-west-1"}, "region=eu-west-1&"),
        ({"endpoint": "https://s3.eu-west-1.amazonaws.com", "region": "eu-west-1"}, "region=eu-west-1&"),
    ],
)
def test_on_aws_the_link_leads_to_the_console(
    connection: dict[str, str] | None, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    folder = "root%2Faviation%2Fflights%2Fextract%2F20261123T080000Z%2Fattempts%2F1%2F"
    start = f"https://console.aws.amazon.com/s3/buckets/out%20puts?{region}prefix={folder}"
    assert page(connection, "default") == f"{start}default%2F"
    assert page(connection, "one", "two") == start


def test_elsewhere_there_is_no_console(monkeypatch: pytest.MonkeyPatch) -> None:
    assert page({"endpoint": "https://minio.example.com"}, "default") is None
    assert page({"endpoint": "https://amazonaws.com.example.com"}, "default") is None
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert page(None, "default") is None


# The trigger -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[str]:
    """The endpoint of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_store_that_does_not_answer_holds_up_no_other_trigger(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "datalayer.toml"
    known = 'access_key_id = "a"\nsecret_access_key = "b"\nregion = "eu-west-1"\ntimeout = 1\ndeadline = 2'
    path.write_text(
        f'[tiers.cold]\nurl = "s3://outputs/root"\nconnection = "lake"\n[connections.lake]\nendpoint = "{silent}"\n{known}\n'
    )
    monkeypatch.setenv("AIRFLOW__DATALAYER__CONFIG_FILE", str(path))
    references = [{"task_id": "load", "dag_id": "other"}]
    trigger = TaskOutputTrigger(key=str(KEY), references=references, interval=0.1)

    async def both() -> int:
        waiting = asyncio.ensure_future(anext(aiter(trigger.run())))
        turns = 0
        while turns < 20 and not waiting.done():
            await asyncio.sleep(0.05)
            turns += 1
        assert not waiting.done()
        waiting.cancel()
        return turns

    assert asyncio.run(both()) == 20


def test_a_configuration_that_cannot_be_used_ends_the_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "datalayer.toml"
    path.write_text('design = "gone"')
    monkeypatch.setenv("AIRFLOW__DATALAYER__CONFIG_FILE", str(path))
    trigger = TaskOutputTrigger(key=str(KEY), references=[{"task_id": "load", "dag_id": "other"}], interval=0.1)

    async def first() -> Any:
        return await anext(aiter(trigger.run()))

    assert asyncio.run(first()).payload["error"].startswith("ConfigError: ")
