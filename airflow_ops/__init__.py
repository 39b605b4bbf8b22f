"""Airflow on top: operators, hooks, sensors, connections, policies and tenancy. Empty at this stage."""
