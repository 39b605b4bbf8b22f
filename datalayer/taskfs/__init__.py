"""``task://``: committed task outputs as a read-only fsspec file system, for pandas, Polars, DuckDB, pyarrow, UPath and ``fsspec.open``."""

from datalayer.taskfs.filesystem import TaskFileSystem

__all__ = ["TaskFileSystem"]
