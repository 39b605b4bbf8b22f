"""``XComTask``: Airflow's own backend of results in an object store, the rival of ``p16``. The one module of the benchmarks that knows Airflow."""

from __future__ import annotations

import base64
import json
import os
import tempfile
import uuid
from typing import Any

from benchmarks import scratch
from benchmarks.contender import Contender, Sink
from benchmarks.origin import POOL, Door, some_bytes
from benchmarks.small_task import SIZE

_PLACE = "xcom"


class XComTask(Contender):
    """A task of 1 MB in and 1 MB out by XComs. JSON carries no bytes, so they travel as base64.

    Airflow keeps only the path in its database, to which nothing is written here: no request of the API server's is counted.
    """

    name = "Airflow XComObjectStorageBackend"
    settings = f"deserialize_value and serialize_value of 1 MB as base64, threshold 1 KB, s3fs below, pool {POOL}; no lineage, checksum or fencing"
    group = "task"

    def open(self, door: Door) -> None:
        self.home = tempfile.TemporaryDirectory(prefix=scratch.prefix())
        extra = {
            "endpoint_url": door.endpoint,
            "region_name": door.region,
            "config_kwargs": {"max_pool_connections": POOL},
        }
        connection = {"conn_type": "aws", "login": door.access_key, "password": door.secret_key, "extra": extra}
        # A process of its own, which has imported no Airflow yet.
        os.environ |= {
            "AIRFLOW_HOME": self.home.name,
            "AIRFLOW_CONN_BENCH": json.dumps(connection),
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"s3://bench@{door.bucket}/{_PLACE}",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "1000",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend

        self.backend: Any = XComObjectStorageBackend
        self.upstream = self.push(some_bytes(SIZE))

    def push(self, data: bytes) -> Any:
        """Return what Airflow would write to its database."""
        text = base64.b64encode(data).decode()
        return self.backend.serialize_value(
            text, key="return_value", dag_id="small", task_id="task", run_id=uuid.uuid4().hex
        )

    def pull(self, row: Any) -> bytes:
        """Return the bytes that such a row stands for."""
        return base64.b64decode(self.backend.deserialize_value(_Row(row)))

    def run(self, sink: Sink) -> None:
        self.result = self.push(self.pull(self.upstream))

    def check(self, sink: Sink) -> None:
        sink.take(self.pull(self.result))

    def close(self) -> None:
        if hasattr(self, "home"):
            self.home.cleanup()


class _Row:
    """A row of Airflow's table of results, as far as the backend looks at it."""

    def __init__(self, value: Any) -> None:
        self.value = value
