"""What is wrong with a configuration is said, and never taken for an Alluxio that is down."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from datalayer import ConfigError, DataLayer, DataLayerError, PermissionDeniedError, TaskKey
from datalayer.errors import StoreUnavailableError, TransientStoreError
from datalayer.resolve.output import ResolvedOutput
from tests.behaviour.on_alluxio import OnAlluxio, eventually, hot_receipt, published, store_of
from tests.services.faults import Answer, Fault
from tests.services.process import free_port

REST = "/api/v1/paths/"
PROPERTY = r"alluxio\.proxy\.s3\.v2\.version\.enabled=false"


def output_of(layer: DataLayer, key: TaskKey) -> ResolvedOutput:
    return published(layer, key, {"a.bin": b"a" * 1000})


def refused(layer: DataLayer, output: ResolvedOutput, kind: type[DataLayerError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        output.read_bytes("a.bin")
    for word in words:
        assert word in str(caught.value)
    assert hot_receipt(layer).misses == {}
    assert store_of(layer).unavailable() is None


def test_a_proxy_that_is_an_s3_server(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    layer = on_alluxio.layer(proxy=on_alluxio.server.endpoint)
    refused(layer, output_of(layer, key), PermissionDeniedError, on_alluxio.server.endpoint, "hot.proxy")


def test_a_proxy_that_is_another_server(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    layer = on_alluxio.layer(proxy=f"{on_alluxio.folder.proxy}/elsewhere")
    refused(layer, output_of(layer, key), ConfigError, on_alluxio.folder.proxy, "hot.proxy", "HTTP 404")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(403, "AccessDenied"), PermissionDeniedError),
        (Answer(401, "Unauthorized"), PermissionDeniedError),
        (Answer(404, "NoSuchBucket"), ConfigError),
        (Answer(404, body=b"<html>not found</html>"), ConfigError),
        (Answer(400, "InvalidRequest"), ConfigError),
        (Answer(200, body=b"<html>log in</html>"), ConfigError),
    ],
    ids=lambda one: f"{one.status} {one.code if one.body is None else 'page'}" if isinstance(one, Answer) else "",
)
def test_an_answer_that_refuses(
    on_alluxio: OnAlluxio, key: TaskKey, answer: Answer, kind: type[DataLayerError]
) -> None:
    layer = on_alluxio.layer()
    output = output_of(layer, key)
    on_alluxio.proxy.script(Fault(answer=answer), kind="GET")
    refused(layer, output, kind, on_alluxio.proxy.endpoint, on_alluxio.folder.url)
    assert output.read_bytes("a.bin") == b"a" * 1000
    assert hot_receipt(layer).bytes_hit == 1000


def test_a_folder_that_alluxio_does_not_have(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    url = f"{on_alluxio.folder.server.url}/never-mounted"
    layer = on_alluxio.layer(url=url)
    output = output_of(layer, key)
    refused(layer, output, ConfigError, url, "is not there", "tiers.cold.url")
    with pytest.raises(ConfigError, match="never-mounted"):
        _ = output.spark_uri


def test_a_folder_that_is_mounted_elsewhere(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    layer = on_alluxio.layer(url=f"{on_alluxio.folder.url}/deeper")
    output = output_of(layer, key)
    other = on_alluxio.server.new_bucket()
    with on_alluxio.folder.server.mount(other, "elsewhere") as folder:
        layer = on_alluxio.layer(url=folder.url)
        output = layer.resolve(key)["default"]
        refused(layer, output, ConfigError, folder.url, f"s3://{other}/elsewhere", f"s3://{on_alluxio.bucket}/root")


def test_engines_are_not_sent_to_the_same_paths_of_another_bucket(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    layer = on_alluxio.layer()
    path = output_of(layer, key).store_path("a.bin")[1]
    other = on_alluxio.server.new_bucket()
    with on_alluxio.server.client() as client, on_alluxio.folder.server.mount(other, "elsewhere") as folder:
        client.put_object(Bucket=other, Key=f"elsewhere/{path}", Body=b"another deployment's")
        layer = on_alluxio.layer(url=folder.url, mount=folder.mount and str(folder.mount))
        for ask in (
            (layer.hot_store.spark_uri, layer.hot_store.local_path) if folder.mount else [layer.hot_store.spark_uri]
        ):
            with pytest.raises(ConfigError, match=f"s3://{other}/elsewhere.*s3://{on_alluxio.bucket}/root"):
                ask(path)


@pytest.mark.parametrize(
    "verb",
    [
        lambda layer, path: store_of(layer).pin([path], datetime.now(UTC)),
        lambda layer, path: store_of(layer).evict([path]),
        lambda layer, path: store_of(layer).resident(path, 1000),
        lambda layer, path: store_of(layer).usage(),
        lambda layer, path: store_of(layer).spark_uri(path),
    ],
    ids=["pin", "evict", "resident", "usage", "spark_uri"],
)
def test_a_proxy_without_the_rest_interface(
    on_alluxio: OnAlluxio, key: TaskKey, verb: Callable[[DataLayer, str], object]
) -> None:
    layer = on_alluxio.layer()
    path = output_of(layer, key).store_path("a.bin")[1]
    # As the proxy's second version does.
    on_alluxio.proxy.script(Fault(answer=Answer(200, body=b"")), path="/api/v1/p", times=-1)
    with pytest.raises(ConfigError, match=PROPERTY):
        verb(layer, path)
    assert store_of(layer).unavailable() is None


def test_a_damaged_copy_that_cannot_be_dropped_is_said_and_read_from_the_cold_tier(
    on_alluxio: OnAlluxio, key: TaskKey, caplog: pytest.LogCaptureFixture
) -> None:
    layer = on_alluxio.layer()
    output = output_of(layer, key)
    on_alluxio.warm(output)
    on_alluxio.folder.flip_byte(output.store_path("a.bin")[1], 500)
    on_alluxio.proxy.script(Fault(answer=Answer(200, body=b"")), path=REST, times=-1)
    assert output.read_bytes("a.bin") == b"a" * 1000
    assert hot_receipt(layer).misses == {"corrupt": 1}
    (warning,) = [record.message for record in caplog.records]
    assert "could not be dropped" in warning
    assert "alluxio.proxy.s3.v2.version.enabled=false" in warning


def test_a_verb_that_alluxio_refuses(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    layer = on_alluxio.layer()
    path = output_of(layer, key).store_path("a.bin")[1]
    refusal = b'{"message":"no permission on /","statusCode":"PERMISSION_DENIED"}'
    on_alluxio.proxy.script(Fault(answer=Answer(500, body=refusal)), path=REST)
    with pytest.raises(PermissionDeniedError, match="no permission on /"):
        store_of(layer).evict([path])
    failure = b'{"message":"no master","statusCode":"UNAVAILABLE"}'
    on_alluxio.proxy.script(Fault(answer=Answer(500, body=failure)), path=REST)
    with pytest.raises(StoreUnavailableError, match="no master"):
        store_of(layer).evict([path, path])


def test_verbs_on_an_alluxio_that_is_not_there(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    layer = on_alluxio.layer(proxy=f"http://127.0.0.1:{free_port()}")
    output = output_of(layer, key)
    paths = [output.store_path("a.bin")[1]] * 20
    clock = time.monotonic()
    for verb in (store_of(layer).evict, store_of(layer).unpin):
        with pytest.raises(TransientStoreError):
            verb(paths)
    assert store_of(layer).resident(paths[0], 1000) == 0
    assert output.read_bytes("a.bin") == b"a" * 1000
    assert hot_receipt(layer).misses == {"unavailable": 1}
    assert time.monotonic() - clock < 30


def test_engines_are_not_sent_to_a_master_that_is_out_of_reach(
    on_alluxio: OnAlluxio, key: TaskKey, caplog: pytest.LogCaptureFixture
) -> None:
    layer = on_alluxio.layer(url=f"alluxio://127.0.0.1:{free_port()}{on_alluxio.folder.path}")
    output = output_of(layer, key)
    assert output.spark_uri.startswith("s3a://")
    assert output.spark_uris()[0].startswith("s3a://")
    assert hot_receipt(layer).misses == {"master out of reach": 2}
    assert len(caplog.records) == 1
    # Python does not need it.
    assert output.read_bytes("a.bin") == b"a" * 1000
    assert hot_receipt(layer).bytes_hit == 1000
    assert store_of(layer).unavailable() is None


def test_what_became_a_wrong_configuration_during_an_outage_is_said(on_alluxio: OnAlluxio, key: TaskKey) -> None:
    layer = on_alluxio.layer()
    output = output_of(layer, key)
    on_alluxio.proxy.script(Fault(drop_request=True), kind="GET")
    on_alluxio.proxy.script(Fault(answer=Answer(403, "AccessDenied")), kind="GET", times=-1)
    assert output.read_bytes("a.bin") == b"a" * 1000
    eventually(lambda: store_of(layer).unavailable() is None)
    with pytest.raises(PermissionDeniedError):
        output.read_bytes("a.bin")
