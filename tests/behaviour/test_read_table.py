"""Columns of Parquet files, read in two round trips: the right ones, by few requests, on every kind of store."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from pyarrow.parquet import encryption

from datalayer import DataLayer, NotFoundError, NotSupportedError, TaskKey, VerificationError
from datalayer.addresses import layout
from datalayer.commit.manifest import Entry
from datalayer.hot.columns import column_spans
from datalayer.resolve import columnar
from datalayer.resolve.output import ResolvedOutput
from datalayer.stores.checksum import checksum_of
from tests.behaviour.conftest import volume_layer
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


class _Keys(encryption.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    """Wraps no key: what is encrypted with it is encrypted all the same."""

    def __init__(self, config: object) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, master: str) -> bytes:
        return key

    def unwrap_key(self, wrapped: bytes, master: str) -> bytes:
        return wrapped


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_an_encrypted_file_is_refused_by_name(layer: DataLayer, key: TaskKey, plaintext_footer: bool) -> None:
    config = encryption.EncryptionConfiguration(
        footer_key="foot", column_keys={"column": ["number"]}, plaintext_footer=plaintext_footer
    )
    factory = encryption.CryptoFactory(_Keys)
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), config)
    file = io.BytesIO()
    pyarrow.parquet.write_table(TABLE, file, encryption_properties=properties)
    output = publish(layer, key, a=file.getvalue())
    with pytest.raises((NotSupportedError, VerificationError), match=r"a\.parquet"):
        output.read_table(["number"])
    with pytest.raises(NotSupportedError, match=r"a\.parquet.*warm it whole"):
        column_spans(output, "a.parquet", ["number"])


def test_a_page_that_its_writer_took_a_checksum_of_is_compared(layer: DataLayer, key: TaskKey) -> None:
    file = io.BytesIO()
    table = pyarrow.table({"number": pyarrow.array(range(ROWS)), "text": [f"row {number}" for number in range(ROWS)]})
    options = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
    pyarrow.parquet.write_table(table, file, **options)
    data = bytearray(file.getvalue())
    data[data.index((1234).to_bytes(8, "little"))] ^= 1
    output = publish(layer, key, a=bytes(data))
    assert output.read_table(["text"]) == table.select(["text"])
    with pytest.raises(VerificationError, match=r"a\.parquet.*cannot be decoded.*CRC"):
        output.read_table(["number"])


def test_a_file_that_is_gone_is_named(layer: DataLayer, key: TaskKey) -> None:
    output = publish(layer, key, a=parquet(TABLE))
    _, path = output.store_path("a.parquet")
    layer.data.delete([path])
    with pytest.raises(NotFoundError, match=r"a\.parquet"):
        output.read_table(["text"])


@pytest.mark.parametrize("change", ["cut", "longer"])
def test_a_file_on_a_volume_that_has_another_length_is_seen(tmp_path: Path, key: TaskKey, change: str) -> None:
    layer = volume_layer(tmp_path)
    data = parquet(TABLE)
    output = publish(layer, key, a=data)
    path = output.local_path("a.parquet")
    assert path is not None
    path.write_bytes(data[:-100] if change == "cut" else data + b"more")
    with pytest.raises(VerificationError, match=r"a\.parquet.*committed were"):
        output.read_table(["text"])


def test_parts_of_larger_objects_have_columns_too(layer: DataLayer, key: TaskKey) -> None:
    """Without a list of packs, as the wire form allows."""
    data = parquet(TABLE)
    with layer.publish(key) as attempt:
        layer.data.put(f"{layout.output_path(key, attempt.number, 'default')}/pack", b"before" + data)
        attempt.output().adopt([Entry("a.parquet", len(data), checksum_of([data])[0], object="pack", offset=6)])
    assert layer.resolve(key)["default"].read_table(["text"]) == TABLE.select(["text"])
