"""What S3 stores say before and after they are contacted. No server is needed."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest

from datalayer import ConfigError, DataLayerError, PermissionDeniedError, StoreFullError, Tier
from datalayer.addresses.location import Location
from datalayer.config import Connection
from datalayer.errors import (
    InvalidKeyError,
    NotFoundError,
    PreconditionFailedError,
    StoreError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from datalayer.stores.s3 import S3Store
from datalayer.stores.s3_errors import s3_error

NOWHERE = Connection(endpoint="http://127.0.0.1:9", access_key_id="a", secret_access_key="b", timeout=1, deadline=1)
HERE = Location.parse("s3://bucket/a")


def answer(status: int, code: str = "") -> Exception:
    """An error with the text obstore gives to an answer."""
    document = f"<Error><Code>{code}</Code><Message>said</Message></Error>" if code else ""
    text = f"Generic S3 error: Error performing GET http://host/bucket/a in 1ms - Server returned non-2xx status code: {status} Status: {document}"
    return RuntimeError(f"{text}\n\nDebug source:\nGeneric {{ <Code>NotThisOne</Code> status code: 999 }}")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer(404, "NoSuchKey"), NotFoundError, "no such object"),
        (answer(404), NotFoundError, "no such object"),
        (answer(404, "NoSuchBucket"), ConfigError, "no such bucket; make it"),
        (answer(403, "AccessDenied"), PermissionDeniedError, "policy"),
        (answer(403), PermissionDeniedError, "access_key_id"),
        (answer(403, "SignatureDoesNotMatch"), PermissionDeniedError, "secret_access_key"),
        (answer(403, "InvalidAccessKeyId"), PermissionDeniedError, "not known"),
        (answer(404, "XAdminUserNotFound"), PermissionDeniedError, "not known"),
        (answer(400, "ExpiredToken"), PermissionDeniedError, "expired"),
        (answer(403, "RequestTimeTooSkewed"), PermissionDeniedError, "clock"),
        (answer(301, "PermanentRedirect"), ConfigError, "region"),
        (answer(412, "PreconditionFailed"), PreconditionFailedError, "another version"),
        (answer(409), StoreUnavailableError, "conflicting"),
        (answer(400, "KeyTooLongError"), InvalidKeyError, "shorter"),
        (answer(400, "RequestTimeout"), StoreTimeoutError, "waited too long"),
        (answer(507), StoreFullError, "no room"),
        (answer(403, "QuotaExceeded"), StoreFullError, "quota"),
        (answer(503, "SlowDown"), StoreUnavailableError, "try again later"),
        (answer(500), StoreUnavailableError, "the service failed"),
        (answer(599, "Unheard"), StoreUnavailableError, "the service failed"),
        (answer(418, "Teapot"), StoreError, "refused"),
        (
            RuntimeError("Error performing PUT http://169.254.169.254/x - Server returned non-2xx status code: 403"),
            PermissionDeniedError,
            "no credentials",
        ),
        (
            RuntimeError("Error performing GET http://169.254.169.254/latest in 1s"),
            PermissionDeniedError,
            "no credentials",
        ),
    ],
)
def test_an_answer_becomes_an_error_with_the_next_step(
    error: Exception, kind: type[DataLayerError], words: str
) -> None:
    made = s3_error(error, HERE, Tier.COLD)
    assert type(made) is kind
    assert words in str(made)
    assert str(HERE) in str(made)
    assert "said" not in str(made)
    assert made.retryable == issubclass(kind, StoreTimeoutError | StoreUnavailableError)


@pytest.mark.parametrize("url", ["s3:///prefix", "file:///folder"])
def test_a_root_without_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="write s3://bucket/prefix"):
        S3Store(Location.parse(url))


@pytest.mark.parametrize(
    "connection",
    [
        Connection(endpoint="localhost:9000"),
        Connection(endpoint="https://user:hidden@localhost:9000"),
        Connection(endpoint="user:hidden@localhost:9000"),
        Connection(access_key_id="a"),
        Connection(secret_access_key="b"),
        Connection(timeout=float("nan")),
        Connection(timeout=0),
        Connection(deadline=-1),
        Connection(deadline=float("inf")),
    ],
)
def test_a_connection_that_cannot_work_is_refused(connection: Connection) -> None:
    with pytest.raises(ConfigError) as caught:
        S3Store(HERE, connection=connection)
    assert "hidden" not in str(caught.value)


def test_an_object_key_counts_with_its_root() -> None:
    """S3 counts the whole key."""
    deep = S3Store(Location.parse("s3://bucket/" + "/".join(["r" * 200] * 3)), connection=NOWHERE)
    path = "/".join(["p" * 200] * 3)
    calls: list[Callable[[], object]] = [
        lambda: deep.put(path, b""),
        lambda: deep.put_exclusive(path, b""),
        lambda: deep.compare_and_put(path, b"", "x"),
        lambda: deep.writer(path),
        lambda: deep.copy("a", path),
    ]
    for call in calls:
        with pytest.raises(InvalidKeyError, match="S3 allows 1024"):
            call()


def test_a_store_pickles() -> None:
    store = S3Store(HERE, tier=Tier.HOT, connection=Connection(region="eu-west-1"))
    again = pickle.loads(pickle.dumps(store))
    assert (again.root, again.tier, again.connection) == (store.root, store.tier, store.connection)


def test_its_uris() -> None:
    store = S3Store(Location.parse("s3://bucket/root"))
    assert store.spark_uri("a/b c") == "s3a://bucket/root/a/b c"
    assert store.filesystem_path("a/b c") == "bucket/root/a/b c"
    assert S3Store(Location.parse("s3://bucket")).filesystem_path("") == "bucket"
    assert store.local_path("a") is None


def test_no_secret_is_shown() -> None:
    connection = Connection(access_key_id="known", secret_access_key="hidden", session_token="also hidden")
    store = S3Store(HERE, connection=connection)
    assert "hidden" not in repr(store) + repr(vars(store)) + repr(connection)


def test_the_module_loads_no_sdk() -> None:
    code = "import sys, datalayer.stores.s3; print([name for name in ('obstore', 'boto3', 'pyarrow', 'fsspec', 'tenacity') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _use(store: S3Store, answers: multiprocessing.SimpleQueue[str]) -> None:
    try:
        store.get("a")
    except DataLayerError as error:
        answers.put(f"{type(error).__name__}: {error}")


def test_a_process_forked_after_use_is_told_so() -> None:
    """Without this its first request would wait for ever: the client's threads are not in it."""
    store = S3Store(HERE, connection=NOWHERE)
    with pytest.raises(StoreUnavailableError):
        store.get("a")
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_use, args=(store, answers))
    child.start()
    assert "'spawn'" in answers.get()
    child.join()
