"""The task "weather": the hourly weather at the three airports of New York as Parquet."""

from __future__ import annotations

import sys

import pyarrow.csv

from datalayer import open_task


def main(source: str) -> None:
    """Run the task on the table of the weather."""
    options = pyarrow.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    weather = pyarrow.csv.read_csv(source, convert_options=options)
    with open_task() as task:
        task.output("default").write_table(weather, "weather.parquet")


if __name__ == "__main__":
    main(sys.argv[1])
