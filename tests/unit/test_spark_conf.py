from pathlib import Path

import pytest

from datalayer.config import Config, Connection, ReferencePrefix, TierConfig
from datalayer.errors import ConfigError, NotSupportedError, VerificationError
from spark_env import conf
from spark_env.reading import format_of, literal
from spark_env.writing import check_success

KEYS = Connection(endpoint="http://127.0.0.1:7070", region="eu-west-1", access_key_id="id", secret_access_key="hidden")


def test_jars_go_on_the_class_path_of_driver_and_executors() -> None:
    settings = conf.launch_conf(["/cache/jars/*", "/cache/one.jar"], local=False)
    assert settings == {
        "spark.driver.extraClassPath": "/cache/jars/*:/cache/one.jar",
        "spark.executor.extraClassPath": "/cache/jars/*:/cache/one.jar",
    }


def test_an_image_with_all_jars_keeps_its_class_path() -> None:
    assert conf.launch_conf([], local=False) == {}


def test_a_local_spark_listens_on_loopback_only_and_shows_no_page() -> None:
    settings = conf.launch_conf(["/cache/jars/*"], local=True)
    assert settings["spark.driver.bindAddress"] == settings["spark.driver.host"] == "127.0.0.1"
    assert settings["spark.ui.enabled"] == "false"


def test_each_store_gets_the_committer_made_for_it() -> None:
    hadoop, session = conf.hadoop_conf(), conf.session_conf()
    assert hadoop["fs.s3a.committer.name"] == "magic"
    assert hadoop["mapreduce.outputcommitter.factory.scheme.s3a"].endswith(".S3ACommitterFactory")
    assert hadoop["mapreduce.outputcommitter.factory.scheme.file"].endswith(".ManifestCommitterFactory")
    assert session["spark.sql.sources.commitProtocolClass"].endswith(".PathOutputCommitProtocol")
    assert session["spark.sql.parquet.output.committer.class"].endswith(".BindingParquetOutputCommitter")


def test_a_bucket_is_reached_by_its_own_settings() -> None:
    settings = conf.bucket_conf("my.bucket", KEYS, {})
    prefix = "fs.s3a.bucket.my.bucket."
    assert all(name.startswith(prefix) for name in settings)
    place = {name.removeprefix(prefix): value for name, value in settings.items()}
    assert place["endpoint"] == "http://127.0.0.1:7070"
    assert place["endpoint.region"] == "eu-west-1"
    assert place["path.style.access"] == "true"
    assert place["connection.ssl.enabled"] == "false"
    assert (place["access.key"], place["secret.key"]) == ("id", "hidden")
    assert place["aws.credentials.provider"].endswith(".SimpleAWSCredentialsProvider")


@pytest.mark.parametrize(("timeout", "deadline", "retries"), [(30, 120, "1"), (5, 120, "11"), (30, 30, "1")])
def test_all_tries_fit_the_deadline(timeout: float, deadline: float, retries: str) -> None:
    settings = conf.bucket_conf("b", Connection(timeout=timeout, deadline=deadline), {})
    assert settings["fs.s3a.bucket.b.connection.timeout"] == f"{timeout * 1000}ms"
    assert settings["fs.s3a.bucket.b.retry.limit"] == retries


def test_https_is_kept() -> None:
    settings = conf.bucket_conf("b", Connection(endpoint="https://s3.example"), {})
    assert settings["fs.s3a.bucket.b.connection.ssl.enabled"] == "true"


def test_a_session_token_needs_its_own_provider() -> None:
    connection = Connection(access_key_id="id", secret_access_key="hidden", session_token="token")
    settings = conf.bucket_conf("b", connection, {})
    assert settings["fs.s3a.bucket.b.session.token"] == "token"
    assert settings["fs.s3a.bucket.b.aws.credentials.provider"].endswith(".TemporaryAWSCredentialsProvider")


@pytest.mark.parametrize("named", ["HOME", "AWS_SHARED_CREDENTIALS_FILE"])
def test_without_keys_the_environment_and_the_machine_are_asked_and_no_key_is_set(tmp_path: Path, named: str) -> None:
    profiles = tmp_path / ".aws" / "credentials"
    environ = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hidden", "HOME": str(tmp_path)}
    if named != "HOME":
        environ |= {"HOME": "/nowhere", named: str(profiles)}
    provider = "fs.s3a.bucket.b.aws.credentials.provider"
    # Spark ends where it is told of a file of profiles that is not there.
    assert "Profile" not in conf.bucket_conf("b", Connection(), environ)[provider]
    profiles.parent.mkdir()
    profiles.touch()
    settings = conf.bucket_conf("b", Connection(), environ)
    names = [name.rpartition(".")[2] for name in settings[provider].split(",")]
    assert names == [
        "EnvironmentVariableCredentialsProvider",
        "WebIdentityTokenFileCredentialsProvider",
        "ProfileAWSCredentialsProvider",
        "IAMInstanceCredentialsProvider",
    ]
    assert "hidden" not in settings.values()
    assert "fs.s3a.bucket.b.endpoint" not in settings


def test_the_aws_environment_fills_in_endpoint_and_region() -> None:
    environ = {
        "AWS_ENDPOINT_URL": "http://other:1",
        "AWS_ENDPOINT_URL_S3": "http://s3:1",
        "AWS_DEFAULT_REGION": "eu-north-1",
    }
    settings = conf.bucket_conf("b", Connection(), environ)
    assert settings["fs.s3a.bucket.b.endpoint"] == "http://s3:1"
    assert settings["fs.s3a.bucket.b.endpoint.region"] == "eu-north-1"
    assert conf.bucket_conf("b", KEYS, environ)["fs.s3a.bucket.b.endpoint"] == KEYS.endpoint


@pytest.mark.parametrize(
    ("connection", "named"),
    [
        (Connection(access_key_id="id"), "secret_access_key"),
        (Connection(secret_access_key="hidden"), "access_key_id"),
        (Connection(endpoint="localhost:7070"), "localhost:7070"),
    ],
)
def test_a_connection_that_cannot_work_is_named(connection: Connection, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        conf.bucket_conf("lake", connection, {})
    assert "lake" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_buckets_come_from_tiers_and_references() -> None:
    config = Config(
        tiers={"cold": TierConfig(url="s3://lake/root", connection="lake"), "shared": TierConfig(url="/mnt/x")},
        connections={"lake": KEYS},
        references=[
            ReferencePrefix(prefix="s3://raw/events/"),
            ReferencePrefix(prefix="s3://lake/old", connection="lake"),
        ],
    )
    assert conf.buckets(config) == {"lake": KEYS, "raw": Connection()}


def test_one_bucket_with_two_connections_is_an_error() -> None:
    config = Config(
        tiers={"cold": TierConfig(url="s3://lake/root", connection="lake")},
        connections={"lake": KEYS},
        references=[ReferencePrefix(prefix="s3://lake/raw/")],
    )
    with pytest.raises(ConfigError, match=r"'lake' is also in tiers\.cold"):
        conf.buckets(config)


def test_a_job_of_any_language_is_told_its_uris() -> None:
    settings = conf.job_conf({"extract.default": "s3a://b/x"}, {"default": "file:///y"})
    assert settings == {
        "spark.datalayer.input.extract.default": "s3a://b/x",
        "spark.datalayer.output.default": "file:///y",
    }


MAGIC = '{"committer": "magic", "success": true}'
MANIFEST = (
    '{"committer": "org.apache.hadoop.mapreduce.lib.output.committer.manifest.ManifestCommitter", "success": true}'
)


@pytest.mark.parametrize(("text", "uri"), [(MAGIC, "s3a://b/x"), (MANIFEST, "file:///x"), (None, "gs://b/x")])
def test_the_right_committer_is_taken(text: str | None, uri: str) -> None:
    check_success(text, uri)


@pytest.mark.parametrize(
    ("text", "uri", "said"),
    [
        (MANIFEST, "s3a://b/x", "not 'magic'"),
        (MAGIC, "file:///x", "was 'magic'"),
        ("", "file:///x", "classic committer"),
        (None, "s3a://b/x", "no _SUCCESS"),
        (MAGIC.replace("true", "false"), "s3a://b/x", "success: False"),
        ("{", "s3a://b/x", "cannot be read"),
        ("[]", "s3a://b/x", "cannot be read"),
    ],
)
def test_any_other_committer_is_refused(text: str | None, uri: str, said: str) -> None:
    with pytest.raises(VerificationError, match=said) as caught:
        check_success(text, uri)
    assert uri in str(caught.value)
    assert "spark_env.session" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.parquet", "year=2013/part-1.snappy.parquet"], "parquet"),
        (["a.csv", "b.csv.gz", "c.TSV"], "csv"),
        (["a.jsonl.zst", "b.json"], "json"),
        (["v1.0/a.orc"], "orc"),
    ],
)
def test_the_format_is_told_by_the_endings(names: list[str], expected: str) -> None:
    assert format_of("/k", names) == expected


@pytest.mark.parametrize("names", [["a"], ["a.parquet", "b.csv"], ["a.gz"], ["a.xyz"]])
def test_endings_that_tell_no_format_are_an_error(names: list[str]) -> None:
    with pytest.raises(NotSupportedError, match=r"/k.*format="):
        format_of("/k", names)


def test_pattern_characters_of_a_path_mean_themselves() -> None:
    assert literal(r"file:///a[1]/{b}/c*?\d") == r"file:///a\[1\]/\{b\}/c\*\?\\d"
