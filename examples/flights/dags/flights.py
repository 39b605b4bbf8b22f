"""The flights of 2013 from New York: two sources in Python, a program in Go that knows nothing of us, and a Spark job.

The same file runs on a laptop (``make demo``) and on a cluster, under every storage design: which one is configuration. The images are
Airflow variables, so that a cluster takes them from its own registry.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from airflow_ops import ExecutionEnvironmentOperator, S3Destination, SparkExecutionEnvironmentOperator

JOBS = "{{ var.value.get('flights_jobs_image', 'flights-jobs:1.0') }}"
BY_AIRPORT = "{{ var.value.get('flights_by_airport_image', 'flights-by-airport:1.0') }}"
REPORTS = "reports"

with DAG(
    "flights",
    schedule=None,
    start_date=datetime(2013, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["example"],
    # Of the team's namespace, as docs/kubernetes.md has it.
    default_args={"service_account_name": "datalayer"},
) as dag:
    extract = ExecutionEnvironmentOperator(
        task_id="extract",
        image=JOBS,
        cmds=["python", "/job/extract.py"],
        arguments=["/job/data/flights.csv.zip"],
        job_config={"output": {"default": {}, "csv": {}}},
    )
    weather = ExecutionEnvironmentOperator(
        task_id="weather",
        image=JOBS,
        cmds=["python", "/job/weather.py"],
        arguments=["/job/data/weather.csv"],
    )
    # The form of the talk: a document that says what is read, and where the output is delivered.
    by_airport = ExecutionEnvironmentOperator(
        task_id="by_airport",
        image=BY_AIRPORT,
        cmds=["/job/bin/by_airport"],
        job_config={
            "input": {"operators": [{"task_id": "extract", "outputs": ["csv"]}]},
            "output": {
                "default": {
                    "destinations": [
                        {
                            "type": "s3",
                            "data": {"bucket": REPORTS, "path": "flights/by_airport", "aws_conn_id": REPORTS},
                        }
                    ]
                }
            },
        },
    )
    # The same in Python. Spark reads where the data lies, so no files have to be put into a directory for it.
    delays = SparkExecutionEnvironmentOperator(
        task_id="delays",
        image=JOBS,
        application="local:///job/delays.py",
        inputs={"extract": extract.outputs["default"], "weather": weather.output},
        deliver=[S3Destination(REPORTS, "flights/delays", REPORTS)],
        executors=1,
        conf={
            "spark.driver.memory": "1g",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "2",
            # A job this small is over before thoroughly compiled code pays.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.sql.codegen.wholeStage": "false",
        },
    )
    extract >> by_airport

if __name__ == "__main__":
    dag.test()
