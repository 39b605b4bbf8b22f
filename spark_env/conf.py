"""The pieces of a Spark configuration that task data needs: pure functions from a configuration to settings.

Three kinds are kept apart, because they can be set at different times:

* what a JVM needs before it starts (:func:`launch_conf`): the jars;
* what a session can be told at any time (:func:`session_conf`): which committers run;
* what Hadoop can be told at any time (:func:`hadoop_conf`, :func:`bucket_conf`): how files are read and written, and how each bucket is
  reached. :func:`bucket_conf` is the only one that may hold secrets, so it is the only one that never becomes a command line or a Spark
  setting, both of which others can read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from datalayer.addresses.location import Location
from datalayer.config import Connection
from datalayer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from datalayer.config import Config

INPUT_PREFIX = "spark.datalayer.input."
"""``spark.datalayer.input.<alias>.<output>``: the URI a job of any language reads that output from."""

OUTPUT_PREFIX = "spark.datalayer.output."
"""``spark.datalayer.output.<output>``: the URI it writes to."""

PROTOCOL_CLASS = "org.apache.spark.internal.io.cloud.PathOutputCommitProtocol"
PARQUET_COMMITTER_CLASS = "org.apache.spark.internal.io.cloud.BindingParquetOutputCommitter"

_S3A_FACTORY = "org.apache.hadoop.fs.s3a.commit.S3ACommitterFactory"
_MANIFEST_FACTORY = "org.apache.hadoop.mapreduce.lib.output.committer.manifest.ManifestCommitterFactory"
_SUCCESS_COMMITTERS = {
    "s3a": "magic",
    "file": "org.apache.hadoop.mapreduce.lib.output.committer.manifest.ManifestCommitter",
}

_SIMPLE_KEYS = "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider"
_SESSION_KEYS = "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider"
# Where a connection names no key: the environment, a pod's web identity, the files of the AWS command line, the machine's own.
_AMBIENT_KEYS = (
    "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider",
    "software.amazon.awssdk.auth.credentials.WebIdentityTokenFileCredentialsProvider",
    "org.apache.hadoop.fs.s3a.auth.ProfileAWSCredentialsProvider",
    "org.apache.hadoop.fs.s3a.auth.IAMInstanceCredentialsProvider",
)
_PROFILES = _AMBIENT_KEYS[2]


def launch_conf(class_path: Sequence[str], *, local: bool) -> dict[str, str]:
    """Return what has to be set before the JVM starts.

    Args:
        class_path: What goes before Spark's own jars: listing them in ``spark.jars`` would copy them at every start.
        local: Whether driver and executors are this one process, which then listens on loopback only and shows no web page.
    """
    settings = {}
    if class_path:
        joined = ":".join(class_path)
        settings = {"spark.driver.extraClassPath": joined, "spark.executor.extraClassPath": joined}
    if local:
        settings |= {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.ui.enabled": "false",
        }
    return settings


def session_conf() -> dict[str, str]:
    """Return the SQL settings under which a write ends in a committer made for the store it goes to."""
    return {
        "spark.sql.sources.commitProtocolClass": PROTOCOL_CLASS,
        "spark.sql.parquet.output.committer.class": PARQUET_COMMITTER_CLASS,
        # The magic committer refuses dynamic overwrite, and an attempt's folder is its own anyway.
        "spark.sql.sources.partitionOverwriteMode": "static",
        # Spark's own default, INT96, is deprecated, and other engines read it as another type than the manifest says.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    }


def hadoop_conf() -> dict[str, str]:
    """Return the Hadoop settings for reading and writing task data, whichever bucket or volume it is on."""
    return {
        "mapreduce.outputcommitter.factory.scheme.s3a": _S3A_FACTORY,
        "mapreduce.outputcommitter.factory.scheme.file": _MANIFEST_FACTORY,
        # The _SUCCESS file names the committer that ran; without it nothing could be checked.
        "mapreduce.fileoutputcommitter.marksuccessfuljobs": "true",
        "fs.s3a.committer.name": "magic",
        "fs.s3a.committer.magic.enabled": "true",
        # A task commits in the process that wrote it, so what it wrote need not be noted on S3 in between: a quarter fewer requests.
        "fs.s3a.committer.magic.track.commits.in.memory.enabled": "true",
        # An attempt's folder belongs to one job and file names hold its id: nothing can lie there to be overwritten by mistake.
        "fs.s3a.performance.flags": "create,mkdir",
        # Sequential until the reader jumps: right for CSV and JSON. Parquet and ORC ask for random access themselves.
        "fs.s3a.experimental.input.fadvise": "adaptive",
        "parquet.hadoop.vectored.io.enabled": "true",
        # Nobody else verifies what Spark reads by itself, least of all a cache. A page that has no checksum is read as it is.
        "parquet.page.verify-checksum.enabled": "true",
        "parquet.page.write-checksum.enabled": "true",
        "fs.s3a.vectored.read.min.seek.size": "128K",
        "fs.s3a.vectored.read.max.merged.size": "4M",
    }


def bucket_conf(bucket: str, connection: Connection, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the Hadoop settings for one bucket: endpoint, region, style, time limits and keys. The result may hold secrets.

    Args:
        bucket: The bucket's name.
        connection: How to reach it.
        environ: The environment; its AWS variables fill in what the connection leaves open.

    Raises:
        ConfigError: The connection has half a key, or an endpoint that is no URL.
    """
    endpoint = connection.endpoint or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    region = connection.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    settings = {
        "connection.timeout": f"{_milliseconds(connection.timeout)}ms",
        "connection.establish.timeout": f"{_milliseconds(min(connection.timeout, 10.0))}ms",
        "connection.acquisition.timeout": f"{_milliseconds(connection.deadline)}ms",
        # The SDK tries twice within each of S3A's own tries; all of them together fit the deadline, also where nothing answers.
        "attempts.maximum": "2",
        "retry.limit": str(max(1, int(connection.deadline / (2 * connection.timeout)) - 1)),
    }
    if endpoint:
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise ConfigError(f"the endpoint {endpoint!r} of bucket {bucket!r} is no URL: write http(s)://host[:port]")
        settings |= {
            "endpoint": endpoint,
            "connection.ssl.enabled": "true" if parts.scheme == "https" else "false",
            # As all our clients do it: only AWS has a host name for each bucket, and it takes this too.
            "path.style.access": "true",
            # Where there is an endpoint S3A wants a region too; servers other than AWS take any.
            "endpoint.region": region or "us-east-1",
        }
    elif region:
        settings["endpoint.region"] = region
    settings |= _keys(bucket, connection, environ)
    return {f"fs.s3a.bucket.{bucket}.{name}": value for name, value in settings.items()}


def buckets(config: Config) -> dict[str, Connection]:
    """Return the buckets that a configuration names, in tiers and references, each with its connection.

    Raises:
        ConfigError: One bucket is named with two connections: Hadoop knows one per bucket.
    """
    found: dict[str, tuple[str, str | None]] = {}
    for where, url, connection in _roots(config):
        location = Location.parse(url)
        if location.scheme not in {"s3", "s3a"}:
            continue
        known = found.setdefault(location.authority, (where, connection))
        if known[1] != connection:
            raise ConfigError(
                f"{where}: bucket {location.authority!r} is also in {known[0]}, with another connection. Spark can use only one "
                "for a bucket: name the same connection in both"
            )
    return {bucket: config.connections[name] if name else Connection() for bucket, (_, name) in found.items()}


def job_conf(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that tell a job of any language where its data is.

    Args:
        inputs: URI by what is read, ``<alias>.<output>``.
        outputs: URI by output name.
    """
    reads = {f"{INPUT_PREFIX}{name}": uri for name, uri in inputs.items()}
    return reads | {f"{OUTPUT_PREFIX}{name}": uri for name, uri in outputs.items()}


def expected_committer(uri: str) -> str | None:
    """Return what a ``_SUCCESS`` file below a URI must name as its committer; None for a scheme that has none of its own."""
    return _SUCCESS_COMMITTERS.get(uri.partition(":")[0])


def _roots(config: Config) -> Iterator[tuple[str, str, str | None]]:
    for name, tier in config.tiers.items():
        yield f"tiers.{name}", tier.url, tier.connection
    for reference in config.references:
        yield f"references ({reference.prefix})", reference.prefix, reference.connection


def _keys(bucket: str, connection: Connection, environ: Mapping[str, str]) -> dict[str, str]:
    if not connection.access_key_id and not connection.secret_access_key:
        profiles = Path(
            environ.get("AWS_SHARED_CREDENTIALS_FILE") or f"{environ.get('HOME', '~')}/.aws/credentials"
        ).expanduser()
        # Asked for where there is no such file, as in most pods, that one ends Spark.
        providers = [one for one in _AMBIENT_KEYS if one != _PROFILES or profiles.is_file()]
        return {"aws.credentials.provider": ",".join(providers)}
    if not connection.access_key_id or not connection.secret_access_key:
        missing = "secret_access_key" if connection.access_key_id else "access_key_id"
        raise ConfigError(
            f"the connection for bucket {bucket!r} has no {missing}: set both halves of the key, or neither"
        )
    keys = {"access.key": connection.access_key_id, "secret.key": connection.secret_access_key}
    if connection.session_token:
        return {"aws.credentials.provider": _SESSION_KEYS, **keys, "session.token": connection.session_token}
    return {"aws.credentials.provider": _SIMPLE_KEYS, **keys}


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
