"""The task "extract": the flights of 2013 as Parquet, and the columns a plain program wants as CSV."""

from __future__ import annotations

import sys
import zipfile

import pyarrow.csv

from datalayer import open_task

FILES = 4
FOR_PROGRAMS = ["year", "month", "day", "origin", "dest", "carrier", "dep_delay", "arr_delay", "air_time", "distance"]


def main(source: str) -> None:
    """Run the task on the archive of the flights."""
    options = pyarrow.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    with zipfile.ZipFile(source) as archive, archive.open("flights.csv") as file:
        flights = pyarrow.csv.read_csv(file, convert_options=options)
    rows = -(-flights.num_rows // FILES)
    with open_task() as task:
        for part in range(FILES):
            task.output("default").write_table(flights.slice(part * rows, rows), f"flights-{part}.parquet")
        with task.output("csv").open("flights.csv", "wb") as target:
            pyarrow.csv.write_csv(flights.select(FOR_PROGRAMS), target)


if __name__ == "__main__":
    main(sys.argv[1])
