"""Spark on a task's data: session, configuration, and the jars that belong to it. Imports no Airflow."""
