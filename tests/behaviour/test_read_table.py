"""Columns of Parquet files, read in two round trips: the right ones, by few requests, on every kind of store."""

from __future__ import annotations

import io
from collections.abc import Callable

import pyarrow
import pyarrow.parquet
import pytest

from datalayer import DataLayer, NotFoundError, NotSupportedError, TaskKey, VerificationError
from datalayer.resolve import columnar
from datalayer.resolve.resolution import ResolvedOutput
from tests.services.faultproxy import FaultProxy

ROWS = 3000
TABLE = pyarrow.table(
    {
        "number": list(range(ROWS)),
        "text": [f"row {number}" for number in range(ROWS)],
        "place": [{"city": f"c{number % 7}", "at": {"x": number / 2}} for number in range(ROWS)],
        "many": [[number] * (number % 3) for number in range(ROWS)],
        "nothing": pyarrow.nulls(ROWS, pyarrow.int32()),
    }
)


def parquet(table: pyarrow.Table, rows: int = 1000) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, row_group_size=rows)
    return file.getvalue()


def publish(layer: DataLayer, key: TaskKey, *, packed: bool = False, **files: bytes) -> ResolvedOutput:
    with layer.publish(key) as attempt:
        output = attempt.output(packed=packed)
        for name, data in files.items():
            output.put(f"{name}.parquet", data)
    return layer.resolve(key)["default"]


@pytest.mark.parametrize(
    "columns",
    [None, ["number"], ["text", "number"], ["place"], ["place.city"], ["place.at"], ["many", "nothing"], []],
)
def test_columns_are_what_pyarrow_reads(layer: DataLayer, key: TaskKey, columns: list[str] | None) -> None:
    output = publish(layer, key, a=parquet(TABLE), b=parquet(TABLE.slice(5, 10)))
    expected = [
        pyarrow.parquet.ParquetFile(io.BytesIO(parquet(table))).read(columns) for table in (TABLE, TABLE.slice(5, 10))
    ]
    for _ in range(2):
        assert output.read_table(columns).equals(pyarrow.concat_tables(expected))
        assert layer.resolve(key)["default"].read_table(columns).equals(pyarrow.concat_tables(expected))


def test_columns_of_files_in_packs(layer: DataLayer, key: TaskKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "_SHORTEST_END", 1 << 10)
    output = publish(layer, key, packed=True, a=parquet(TABLE), b=parquet(TABLE))
    assert output.packed
    assert output.read_table(["text"]).equals(pyarrow.concat_tables([TABLE.select(["text"])] * 2))


def test_a_table_without_rows(layer: DataLayer, key: TaskKey) -> None:
    assert (
        publish(layer, key, a=parquet(TABLE.slice(0, 0)))
        .read_table(["text"])
        .equals(TABLE.slice(0, 0).select(["text"]))
    )


def test_a_column_that_is_not_there_is_named(layer: DataLayer, key: TaskKey) -> None:
    output = publish(layer, key, a=parquet(TABLE))
    for _ in range(2):
        with pytest.raises(NotFoundError, match=r"a.parquet.*no column 'delay'; it has number, text"):
            output.read_table(["number", "delay"])


@pytest.mark.parametrize("data", [b"", b"PAR1", b"number,text\n1,one\n", b"PAR1" + bytes(99) + b"\xff\xff\xff\x7fPAR1"])
def test_what_is_no_parquet_file_is_refused(layer: DataLayer, key: TaskKey, data: bytes) -> None:
    output = publish(layer, key, a=data)
    with pytest.raises(NotSupportedError, match=r"a.parquet.*no Parquet file"):
        output.read_table()


def wide(columns: int) -> pyarrow.Table:
    return pyarrow.table({f"a column with a long name {n}": pyarrow.array(range(64)) for n in range(columns)})


@pytest.fixture
def requests(fault_proxy: FaultProxy) -> Callable[[], list[str]]:
    def asked() -> list[str]:
        made = [seen.method for seen in fault_proxy.requests]
        fault_proxy.reset()
        return made

    return asked


def test_a_footer_and_its_columns_are_two_requests_and_later_one(
    proxied: Callable[..., DataLayer], key: TaskKey, requests: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columnar, "_SHORTEST_END", 4 << 10)
    big = pyarrow.table({"a": pyarrow.array(range(100_000)), "b": pyarrow.array(range(100_000))})
    output = publish(proxied(), key, a=parquet(big, 100_000))
    requests()
    assert output.read_table(["a"]).equals(big.select(["a"]))
    assert requests() == ["GET", "GET"]
    assert output.read_table(["b"]).equals(big.select(["b"]))
    assert requests() == ["GET"]


def test_a_footer_that_is_longer_than_the_end_that_was_fetched_takes_one_more(
    proxied: Callable[..., DataLayer], key: TaskKey, requests: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columnar, "_SHORTEST_END", 1 << 10)
    table = wide(300)
    output = publish(proxied(), key, a=parquet(table, 64))
    requests()
    name = table.column_names[0]
    assert output.read_table([name]).equals(table.select([name]))
    assert requests() == ["GET", "GET", "GET"]


def test_a_dataset_asks_for_no_size_and_for_one_footer_once(
    proxied: Callable[..., DataLayer], key: TaskKey, requests: Callable[[], list[str]]
) -> None:
    output = publish(proxied(), key, a=parquet(wide(30), 64))
    requests()
    assert output.dataset().to_table() == wide(30)
    assert "HEAD" not in (made := requests())
    assert len(made) == 2


def test_a_file_that_was_cut_is_seen(proxied: Callable[..., DataLayer], key: TaskKey) -> None:
    layer = proxied()
    data = parquet(TABLE)
    output = publish(layer, key, a=data)
    store, path = output.store_path("a.parquet")
    store.put(path, data[:-100])
    with pytest.raises(VerificationError, match="ends at byte"):
        output.read_table(["text"])
