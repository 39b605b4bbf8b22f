"""The benchmarks' queries say what they are meant to: held against the same sums, taken by Arrow."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow
import pyarrow.compute as pc
import pyarrow.dataset as ds

from benchmarks.tpch import Q1, Q6, QUERIES, TABLES, tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SCALE = 0.01


def test_the_queries_give_what_arrow_finds(spark: SparkSession) -> None:
    folder = tables(_SCALE)
    for table in TABLES:
        spark.read.parquet(f"file://{folder}/{table}").createOrReplaceTempView(table)
    columns = ("l_shipdate", "l_discount", "l_quantity", "l_extendedprice", "l_returnflag", "l_linestatus")
    lines = ds.dataset(folder / "lineitem").to_table(columns=list(columns))
    # Arrow cannot take rows of the view types that the generator names.
    lines = lines.cast(
        pyarrow.schema(
            [
                pyarrow.field(field.name, pyarrow.string() if field.type == pyarrow.string_view() else field.type)
                for field in lines.schema
            ]
        )
    )
    within = pc.and_(
        pc.and_(
            pc.greater_equal(lines["l_shipdate"], datetime.date(1994, 1, 1)),
            pc.less(lines["l_shipdate"], datetime.date(1995, 1, 1)),
        ),
        pc.and_(
            pc.and_(
                pc.greater_equal(lines["l_discount"], Decimal("0.05")),
                pc.less_equal(lines["l_discount"], Decimal("0.07")),
            ),
            pc.less(lines["l_quantity"], Decimal(24)),
        ),
    )
    chosen = lines.filter(within)
    revenue = pc.sum(pc.multiply(chosen["l_extendedprice"], chosen["l_discount"])).as_py()
    assert chosen.num_rows
    assert [tuple(row) for row in spark.sql(Q6.sql).collect()] == [(revenue,)]

    shipped = lines.filter(pc.less_equal(lines["l_shipdate"], datetime.date(1998, 9, 2)))
    groups = shipped.group_by(["l_returnflag", "l_linestatus"]).aggregate([("l_quantity", "sum"), ([], "count_all")])
    expected = sorted(tuple(row.values()) for row in groups.to_pylist())
    assert [(*row[:3], row["lines"]) for row in spark.sql(Q1.sql).collect()] == expected
    # The others find something.
    assert all(spark.sql(query.sql).count() for query in QUERIES.values())
