"""``write``: a DataFrame into an output in place, by the committer that fits the store it lies on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from datalayer.commit.manifest import Field
from datalayer.commit.output import SUCCESS
from datalayer.errors import PublishError, VerificationError
from datalayer.handoff.journal import JournaledOutput
from spark_env.conf import expected_committer
from spark_env.copies import explained
from spark_env.failures import is_missing_file, reason, spark_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from datalayer.commit.output import OutputWriter


def write(
    frame: DataFrame,
    output: OutputWriter,
    *,
    format: str = "parquet",  # noqa: A002 - Spark's own word
    partition_by: Sequence[str] = (),
    mode: Literal["overwrite", "append"] = "overwrite",
    **options: str | bool | float,
) -> None:
    """Write a DataFrame into an output of an attempt. It becomes visible with the attempt's commit, not before.

    Rows and columns are noted for the manifest.

    Args:
        frame: What to write. Spark runs it once.
        output: ``task.output("default")`` or ``attempt.output("default")``.
        format: Spark's name of the format.
        partition_by: Columns that become folders, ``year=2013``.
        mode: ``overwrite`` replaces what an earlier start of this attempt left there; ``append`` adds to what was written before.
        **options: For Spark's writer: ``compression="zstd"``, ``header=True`` and so on.

    Raises:
        PublishError: Spark's job failed; the cause says why. Nothing of it is visible.
        VerificationError: Another committer ran than the one made for the store, so parts may be missing or doubled.
        NotSupportedError: Spark has no way to the output's tier.
        TransientStoreError: A copy of what the DataFrame is made from could not be read. The next attempt reads it from the cold tier.
    """
    from pyspark.sql import Observation
    from pyspark.sql.functions import count, lit

    uri = output.spark_uri
    counted = Observation()
    writer = frame.observe(counted, count(lit(1)).alias("rows")).write.format(format).mode(mode)
    if partition_by:
        writer = writer.partitionBy(*partition_by)
    try:
        writer.options(**options).save(uri)
        success = read_success(frame.sparkSession, uri)
    except spark_errors() as error:
        told = explained(error)
        if told is not None:
            raise told from error
        raise PublishError(
            f"output {output.name!r}: Spark could not write {uri}: {reason(error)}. Nothing of it is visible"
        ) from error
    check_success(success, uri)
    rows = counted.get.get("rows")
    output.schema = fields(frame.schema)
    if mode == "overwrite":
        output.rows = rows
    elif output.rows is not None and rows is not None:
        output.rows += rows
    if isinstance(output, JournaledOutput):
        output.describe()


def check_success(text: str | None, uri: str) -> None:
    """Make sure that a ``_SUCCESS`` file names the committer made for the store that a URI is on.

    Args:
        text: The file's content; None where there is no such file.
        uri: The folder that was written to.

    Raises:
        VerificationError: It names another, or none.
    """
    expected = expected_committer(uri)
    if expected is None:
        return
    advice = "Make the session with spark_env.session(task), and set neither committers nor spark.sql.sources.commitProtocolClass"
    if text is None:
        raise VerificationError(f"Spark left no {SUCCESS} in {uri}, so nothing says which committer ran. {advice}")
    if not text.strip():
        raise VerificationError(f"Spark's classic committer wrote {uri}, which renames files one by one. {advice}")
    try:
        document = json.loads(text)
        committer, success = document["committer"], document["success"]
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"the {SUCCESS} in {uri} cannot be read: {error!r}. {advice}") from error
    if committer != expected or success is not True:
        raise VerificationError(
            f"the committer of {uri} was {committer!r} (success: {success}), not {expected!r}. {advice}"
        )


def read_success(session: SparkSession, uri: str) -> str | None:
    """Return the content of the ``_SUCCESS`` file in a folder, or None if there is none."""
    # Through the engine that wrote it: only that is sure to have a way there.
    jvm: Any = session._jvm  # noqa: SLF001 - PySpark has no public way to a Hadoop file system
    path = jvm.org.apache.hadoop.fs.Path(f"{uri}/{SUCCESS}")
    hadoop = session.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001 - as above
    try:
        stream = path.getFileSystem(hadoop).open(path)
    except spark_errors() as error:
        if is_missing_file(error):
            return None
        raise
    try:
        return str(jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
    finally:
        stream.close()


def fields(schema: StructType) -> list[Field]:
    """Return a Spark schema's columns for the manifest, with their types as Arrow spells them, or as Spark does where Arrow has none."""
    from pyspark.errors import PySparkException
    from pyspark.sql.pandas.types import to_arrow_type

    found = []
    for field in schema.fields:
        try:
            name = str(to_arrow_type(field.dataType))
        except PySparkException:
            name = field.dataType.simpleString()
        found.append(Field(field.name, name))
    return found
