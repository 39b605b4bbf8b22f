"""A workflow that moved here from downloads and uploads, one step at a time. What moved is marked 1, 2 and 3; the rest is as it was.

It used to be: an operator of Airflow leaves a file in a bucket; a pod downloads it, works, and uploads its result.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.amazon.aws.operators.s3 import S3CreateObjectOperator
from airflow.sdk import DAG

from airflow_ops import ExecutionEnvironmentOperator, S3Destination, publish_output

with DAG("moving", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, tags=["example"]) as dag:
    dump = S3CreateObjectOperator(
        task_id="dump",
        s3_bucket="raw",
        s3_key="calls/{{ run_id }}/calls.csv",
        data="call,seconds\n1,12\n2,7\n3,45\n",
        replace=True,
        aws_conn_id="lake",
    )
    # 1. What the stock operator left gets a task address: committed, verified, and never half there.
    calls = publish_output("s3://raw/calls/{{ run_id }}/", task_id="calls", aws_conn_id="lake")
    dump >> calls

    long_calls = ExecutionEnvironmentOperator(
        task_id="long_calls",
        image="debian:12-slim",
        cmds=["sh", "-c"],
        # The `aws s3 cp` before and after it is gone.
        arguments=['awk -F, "\\$2 > 10" "$DATALAYER_IN/calls/default/calls.csv" > "$DATALAYER_OUT/default/long.csv"'],
        # 2. Instead of a download: the files are there when the job starts.
        inputs={"calls": calls.output},
        # 3. Instead of an upload: whoever reads the bucket today still finds the file there.
        deliver=[S3Destination("reports", "calls/", "lake")],
    )
