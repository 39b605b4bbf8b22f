"""The task "delays": what the weather does to departures, by Spark, on both upstream outputs where they lie."""

from __future__ import annotations

from pyspark.sql import functions as f

from datalayer import open_task
from spark_env import read, session, write


def main() -> None:
    """Run the task."""
    with open_task() as task:
        spark = session(task)
        flights = read(spark, task.input("extract")).select("origin", "time_hour", "month", "dep_delay")
        weather = read(spark, task.input("weather")).select("origin", "time_hour", "precip", "visib", "wind_speed")
        sky = (
            f.when(f.col("visib").isNull(), "unknown")
            .when(f.col("precip") > 0, f.when(f.col("visib") < 3, "rain, poor sight").otherwise("rain"))
            .when(f.col("visib") < 3, "poor sight")
            .when(f.col("wind_speed") > 20, "wind")
            .otherwise("fair")
        )
        # Whole minutes are summed, so that the order of the rows cannot change a result.
        minutes = f.sum(f.col("dep_delay").cast("long"))
        flown = f.count("dep_delay")
        delays = (
            flights.join(weather, ["origin", "time_hour"], "left")
            .groupBy("origin", "month", sky.alias("weather"))
            .agg(
                f.count(f.lit(1)).alias("flights"),
                (f.count(f.lit(1)) - flown).alias("cancelled"),
                f.round(minutes / flown, 3).alias("mean_dep_delay"),
                f.sum(f.when(f.col("dep_delay") >= 60, 1).otherwise(0)).alias("late_by_an_hour"),
            )
        )
        write(delays.coalesce(1), task.output("default"))
        spark.stop()


if __name__ == "__main__":
    main()
