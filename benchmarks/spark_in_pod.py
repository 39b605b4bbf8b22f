"""What the driver's pod of ``p14-cluster`` runs: Spark, and a door by which it is told what to read, in which way, and answers with rows.

It knows the image's packages, and nothing of the benchmarks.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from datalayer import Config, DataLayer, TaskKey
from spark_env import session
from spark_env.reading import read

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PORT = 8080


class _Job:
    """One query, one way."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.layer = DataLayer(msgspec.convert(asked["config"], Config))
        self.spark = session(self.layer)
        self.folder: Path | None = None
        if asked["cold"]:
            self._forget()
        if asked["downloads"]:
            import boto3
            from botocore.config import Config as BotoConfig

            # Executors are to see what the driver downloads, so it goes to the volume that all pods share.
            self.folder = Path(tempfile.mkdtemp(dir=asked["volume"]))
            self.folder.chmod(0o755)
            connection = asked["config"]["connections"]["bench"]
            self.client = boto3.session.Session().client(
                "s3",
                endpoint_url=connection["endpoint"],
                region_name=connection["region"],
                aws_access_key_id=connection["access_key_id"],
                aws_secret_access_key=connection["secret_access_key"],
                config=BotoConfig(max_pool_connections=128, s3={"addressing_style": "path"}),
            )

    def _forget(self) -> None:
        """Have the driver make its connections to S3 anew."""
        jvm: Any = self.spark._jvm  # noqa: SLF001 - PySpark has no public way to Hadoop's file systems
        hadoop = self.spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001 - as above
        url = urlsplit(self.asked["config"]["tiers"].get("cold", {}).get("url", ""))
        if url.netloc:
            place = jvm.java.net.URI(f"s3a://{url.netloc}/")
            jvm.org.apache.hadoop.fs.FileSystem.get(place, hadoop).close()
            jvm.org.apache.hadoop.fs.FileSystem.get(place, hadoop)

    def rows(self) -> list[list[str]]:
        """Return the result, each value as text."""
        tables = self.asked["tables"]
        open_one = self._downloaded() if self.folder else self._in_place()
        with ThreadPoolExecutor(len(tables)) as pool:
            for table, frame in zip(tables, pool.map(open_one, tables), strict=True):
                frame.createOrReplaceTempView(table)
        return [[str(value) for value in row] for row in self.spark.sql(self.asked["sql"]).collect()]

    def _in_place(self) -> Callable[[str], DataFrame]:
        resolution = self.layer.resolve(TaskKey.parse(self.asked["key"]), attempt=1)
        return lambda table: read(self.spark, resolution[table])

    def _downloaded(self) -> Callable[[str], DataFrame]:
        folder = self.folder or Path()
        for table in self.asked["tables"]:
            (folder / table).mkdir()

        def download(one: tuple[str, str]) -> None:
            self.client.download_file(self.asked["bucket"], one[0], str(folder / one[1]))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(download, self.asked["downloads"].items()))
        reader = self.spark.read.option("parquet.page.verify-checksum.enabled", "false")
        return lambda table: reader.parquet(f"file://{folder}/{table}")

    def close(self) -> None:
        if self.folder:
            self.client.close()
            shutil.rmtree(self.folder)


class _Handler(BaseHTTPRequestHandler):
    jobs: list[_Job] = []  # noqa: RUF012  # of the one process

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        try:
            answer = self._answer(asked)
        except Exception:  # noqa: BLE001  # whoever asked tells it
            answer = {"error": traceback.format_exc()}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.path == "/prepare":
            while self.jobs:
                self.jobs.pop().close()
            self.jobs.append(_Job(asked))
            return {}
        return {"rows": self.jobs[-1].rows() if self.path == "/run" else []}

    def log_message(self, format: str, *words: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


if __name__ == "__main__":
    HTTPServer(("0.0.0.0", PORT), _Handler).serve_forever()  # noqa: S104  # the pod's own network
