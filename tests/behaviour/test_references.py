"""Data that already lies somewhere gets a task address in place, pinned by version and size."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from datalayer import Config, ConfigError, DataLayer, NotFoundError, TaskKey, VerificationError
from datalayer.commit.manifest import Entry
from datalayer.resolve.output import ResolvedOutput
from tests.services.s3server import S3Server

KEY = TaskKey("aviation", "lake", "airports", "20130101T000000Z")
Put = Callable[[str, bytes], None]


@pytest.fixture(params=["volume", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[DataLayer, str, Put]:
    """A layer that allows references below a lake, the lake's URL, and a way to change it behind the library's back."""
    (tmp_path / "store").mkdir()
    document: dict[str, object] = {"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path / "store")}}}
    if request.param == "volume":
        (tmp_path / "lake" / "raw").mkdir(parents=True)
        url = f"file://{tmp_path}/lake/raw"
        document["references"] = [{"prefix": url}]

        def put(name: str, data: bytes) -> None:
            path = tmp_path / "lake" / "raw" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)

    else:
        server: S3Server = request.getfixturevalue("versitygw")
        bucket = server.new_bucket("lake")
        url = f"s3://{bucket}/raw"
        keys = {"access_key_id": server.root.access_key, "secret_access_key": server.root.secret_key}
        document["connections"] = {"lake": {"endpoint": server.endpoint, "region": server.region, **keys}}
        document["references"] = [{"prefix": url, "connection": "lake"}]

        def put(name: str, data: bytes) -> None:
            with server.client() as client:
                client.put_object(Bucket=bucket, Key=f"raw/{name}", Body=data)

    put("airports.csv", b"faa,name\nJFK,Kennedy\n")
    put("more/a.csv", b"faa,name\nLGA,La Guardia\n")
    return DataLayer(Config.from_mapping(document)), url, put


def test_an_object_is_read_where_it_lies(lake: tuple[DataLayer, str, Put]) -> None:
    layer, url, _ = lake
    output = layer.reference(KEY, f"{url}/airports.csv")["default"]
    assert output.read_bytes("airports.csv").startswith(b"faa,name")
    assert output.dataset().to_table().to_pydict() == {"faa": ["JFK"], "name": ["Kennedy"]}
    again = layer.resolve(KEY)["default"]
    assert again.open("airports.csv").read() == output.read_bytes("airports.csv")
    assert again.output.kind == "reference"
    assert list(layer.home.list(KEY.path)), "the reference was not committed"
    assert not any("airports.csv" in info.path for info in layer.home.list("")), "bytes were moved"


def test_a_folder_is_pinned_object_by_object(lake: tuple[DataLayer, str, Put]) -> None:
    layer, url, put = lake
    output = layer.reference(KEY, url)["default"]
    assert sorted(output.files) == ["airports.csv", "more/a.csv"]
    put("new.csv", b"not pinned")
    assert sorted(layer.resolve(KEY)["default"].files) == ["airports.csv", "more/a.csv"]
    assert output.read_bytes("more/a.csv") == b"faa,name\nLGA,La Guardia\n"


@pytest.mark.parametrize("data", [b"faa,name\nJFK,Other!!\n", b"short", b""])
def test_what_changed_since_is_an_error_and_never_read(lake: tuple[DataLayer, str, Put], data: bytes) -> None:
    layer, url, put = lake
    output = layer.reference(KEY, url)["default"]
    put("airports.csv", data)
    for read in (output.read_bytes, output.open):
        with pytest.raises(VerificationError, match="changed since it was referenced"):
            read("airports.csv")
    with pytest.raises(VerificationError, match="changed since it was referenced"):
        output.dataset(format="csv")
    assert output.read_bytes("more/a.csv")


def test_only_configured_prefixes_are_allowed(lake: tuple[DataLayer, str, Put]) -> None:
    layer, url, _ = lake
    for elsewhere in (f"{url}-2/x", url.rsplit("/", 1)[0], "s3://other/raw/x", "file:///etc/passwd"):
        with pytest.raises(ConfigError, match="lies below no allowed prefix"):
            layer.reference(KEY, elsewhere)
    with pytest.raises(NotFoundError, match="nothing lies at"):
        layer.reference(KEY, f"{url}/none.csv")


def test_a_reference_whose_prefix_is_no_longer_allowed_is_not_read(lake: tuple[DataLayer, str, Put]) -> None:
    layer, url, _ = lake
    layer.reference(KEY, url)
    stricter = DataLayer(Config(design="shared-fs", tiers=layer.config.tiers))
    with pytest.raises(ConfigError, match="lies below no allowed prefix"):
        stricter.resolve(KEY)["default"]


def test_an_object_that_is_replaced_while_it_is_read_is_never_mixed(lake: tuple[DataLayer, str, Put]) -> None:
    layer, url, put = lake
    old, new = b"o" * (2 << 20), b"n" * (2 << 20)
    put("big", old)
    with layer.reference(KEY, f"{url}/big")["default"].open("big") as file:
        assert file.read(10) == old[:10]
        if url.startswith("file:"):
            put("big.new", new)
            folder = Path(url.removeprefix("file://"))
            (folder / "big.new").replace(folder / "big")
            assert file.read() == old[10:]
        else:
            put("big", new)
            with pytest.raises(VerificationError, match="was replaced while it was being read"):
                file.read()


def test_a_name_that_no_output_can_hold_leaves_what_is_committed(lake: tuple[DataLayer, str, Put]) -> None:
    layer, url, put = lake
    layer.reference(KEY, f"{url}/airports.csv")
    put("odd\\name", b"1")
    with pytest.raises(VerificationError, match="holds a control character or a backslash"):
        layer.reference(KEY, url)
    assert list(layer.resolve(KEY)["default"].files) == ["airports.csv"]


def test_what_references_are_pinned_to_is_asked_side_by_side(
    lake: tuple[DataLayer, str, Put], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, url, _ = lake
    output = layer.reference(KEY, url)["default"]
    together, ask = threading.Barrier(2), ResolvedOutput._check_pinned

    def asked(self: ResolvedOutput, entry: Entry) -> None:
        together.wait(20)
        ask(self, entry)

    monkeypatch.setattr(ResolvedOutput, "_check_pinned", asked)
    assert output.dataset(format="csv").count_rows() == 2
