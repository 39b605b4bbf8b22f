"""``frame_of``: a DataFrame of files whose names and sizes are known, for which Spark asks the store nothing.

By itself Spark asks of each file whether it exists, lists it, and asks what it is, most of it one after the other: four requests for each file of S3
before the first byte of data. The manifest knows all of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

_SOURCES = "org.apache.spark.sql.execution.datasources"
# As Hadoop has it for S3. Spark splits files by a setting of its own; but where a store could say on which machine a block lies, as Alluxio can,
# Spark is not told so here, and does not prefer that machine.
_BLOCK = 32 << 20


def frame_of(
    session: SparkSession, files: Sequence[tuple[str, int]], modified: float, options: Mapping[str, str | bool | float]
) -> DataFrame:
    """Return some Parquet files as a DataFrame. Of one of them Spark reads the columns now.

    Args:
        session: The session.
        files: URI and length of each.
        modified: When they were written, in seconds since 1970: what ``_metadata.file_modification_time`` says.
        options: For Spark's reader.
    """
    from pyspark.sql import DataFrame

    jvm: Any = session._jvm  # noqa: SLF001 - as all of Spark's own classes here, it has no public name in Python
    spark = session._jsparkSession  # noqa: SLF001 - as above
    sources = jvm.org.apache.spark.sql.execution.datasources
    to_scala = jvm.org.apache.spark.api.python.PythonUtils
    nothing = jvm.scala.Option.empty()
    # Spark's own, with which a listing is shared within a session; where that is switched off, it lists.
    known = sources.FileStatusCache.getOrCreate(spark)
    paths = []
    for uri, length in files:
        path = jvm.org.apache.hadoop.fs.Path(uri)
        status = jvm.org.apache.hadoop.fs.FileStatus(length, False, 1, _BLOCK, int(modified * 1000), path)
        statuses = session.sparkContext._gateway.new_array(jvm.org.apache.hadoop.fs.FileStatus, 1)  # type: ignore[union-attr]  # noqa: SLF001 - as above
        statuses[0] = status
        known.putLeafFiles(path, statuses)
        paths.append(path)
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}
    settings = to_scala.toScalaMap(texts)
    index = sources.InMemoryFileIndex(spark, to_scala.toSeq(paths), settings, nothing, known, nothing, nothing)
    parquet = sources.parquet.ParquetFileFormat()
    columns = parquet.inferSchema(spark, settings, index.allFiles()).get().asNullable()
    relation = sources.HadoopFsRelation(index, index.partitionSchema(), columns, nothing, parquet, settings, spark)
    return DataFrame(spark.baseRelationToDataFrame(relation), session)
