"""Spark on a task's data: session, configuration, and the jars that belong to it. Imports no Airflow.

::

    task = open_task()
    spark = session(task)
    flights = read(spark, task.input("extract"))
    write(flights.where("dep_delay > 60"), task.output("default"))
"""

from spark_env.reading import read
from spark_env.session import session, task_conf
from spark_env.writing import write

__all__ = ["read", "session", "task_conf", "write"]
