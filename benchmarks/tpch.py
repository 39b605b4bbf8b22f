"""TPC-H for Spark: tables from ``tpchgen-cli``, kept in the cache, and four of its queries with the specification's validation parameters.

They stand for what Spark is used for: Q6 takes a few rows out of one table, Q1 sums nearly all of it, Q3 joins three tables, Q9 six of them.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from spark_env.cache import made_once

TABLES = {
    "lineitem": 2,
    "orders": 1,
    "partsupp": 1,
    "customer": 1,
    "part": 1,
    "supplier": 1,
    "nation": 1,
}
"""The tables that the queries read, and how many files each of them has: one for each core of the largest, as Spark would write them.

Files of real tables have 128 MB and more. Many of a few MB would measure round trips that nobody has to make.
"""

_ROWS = 1 << 20
"""Rows of a row group, about the 128 MB that Spark writes: the generator's own 7 MB would be many small requests."""
_LAYOUT = 2
"""Counts up when the files change, which stay in the cache otherwise."""


@dataclass(frozen=True)
class Query:
    """A query and the tables it reads."""

    name: str
    tables: tuple[str, ...]
    sql: str


Q1 = Query(
    "Q1",
    ("lineitem",),
    """
    select l_returnflag, l_linestatus,
           sum(l_quantity) quantity,
           sum(l_extendedprice) base_price,
           sum(l_extendedprice * (1 - l_discount)) discounted,
           sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) charged,
           round(avg(l_quantity), 2) average_quantity,
           round(avg(l_extendedprice), 2) average_price,
           round(avg(l_discount), 2) average_discount,
           count(*) lines
    from lineitem
    where l_shipdate <= date '1998-12-01' - interval 90 days
    group by l_returnflag, l_linestatus
    order by l_returnflag, l_linestatus
    """,
)

Q3 = Query(
    "Q3",
    ("customer", "orders", "lineitem"),
    """
    select l_orderkey, sum(l_extendedprice * (1 - l_discount)) revenue, o_orderdate, o_shippriority
    from lineitem
    join orders on o_orderkey = l_orderkey
    join customer on c_custkey = o_custkey
    where c_mktsegment = 'BUILDING' and o_orderdate < date '1995-03-15' and l_shipdate > date '1995-03-15'
    group by l_orderkey, o_orderdate, o_shippriority
    order by revenue desc, o_orderdate, l_orderkey
    limit 10
    """,
)

Q6 = Query(
    "Q6",
    ("lineitem",),
    """
    select sum(l_extendedprice * l_discount) revenue
    from lineitem
    where l_shipdate between date '1994-01-01' and date '1994-12-31'
      and l_discount between 0.05 and 0.07 and l_quantity < 24
    """,
)

Q9 = Query(
    "Q9",
    ("part", "supplier", "lineitem", "partsupp", "orders", "nation"),
    """
    select n_name, year(o_orderdate) ordered,
           sum(l_extendedprice * (1 - l_discount) - ps_supplycost * l_quantity) profit
    from lineitem
    join part on p_partkey = l_partkey
    join supplier on s_suppkey = l_suppkey
    join partsupp on ps_partkey = l_partkey and ps_suppkey = l_suppkey
    join orders on o_orderkey = l_orderkey
    join nation on n_nationkey = s_nationkey
    where p_name like '%green%'
    group by n_name, ordered
    order by n_name, ordered desc
    """,
)

QUERIES = {query.name: query for query in (Q6, Q1, Q3, Q9)}


def tables(scale: float) -> Path:
    """Return a folder with a folder of Parquet files for each table, made once for each scale factor and kept in the cache.

    Raises:
        RuntimeError: The generator failed.
    """

    def make(folder: Path) -> None:
        for table, parts in TABLES.items():
            _generate(folder, table, parts, scale)

    return made_once(f"benchmarks/tpch-{scale:g}-{version('tpchgen-cli')}-{_LAYOUT}", make)


def _generate(folder: Path, table: str, parts: int, scale: float) -> None:
    import pyarrow.parquet

    program = Path(sys.executable).with_name("tpchgen-cli")
    options = ["-q", "-s", f"{scale:g}", "-T", table, "-p", str(parts), "-o", str(folder)]
    try:
        done = subprocess.run(
            [program, "parquet", *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise RuntimeError("tpchgen-cli is missing: it comes with the development environment") from error
    if done.returncode:
        raise RuntimeError(f"tpchgen-cli failed with exit code {done.returncode}: {done.stderr}")
    for file in sorted((folder / table).iterdir()):
        # With a checksum for each page, as spark_env.write leaves it, and decimals in the form that Spark writes too.
        pyarrow.parquet.write_table(
            pyarrow.parquet.read_table(file),
            file,
            row_group_size=_ROWS,
            write_page_checksum=True,
            store_decimal_as_integer=True,
        )
