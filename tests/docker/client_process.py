"""A client of what compose.yaml started: it runs in the network of the engine, where the published ports are.

publish KEY SIZE   makes an output of one file, as docker/datalayer.toml says but on S3 alone; prints where it lies
get OBJECT         reads an object through Alluxio, as any S3 client would
read KEY           reads the output as docker/datalayer.toml says

Each prints the SHA-256 of the bytes, and what else it saw, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Callable
from typing import Any

from datalayer import DataLayer, TaskKey


def publish(key: str, size: str) -> dict[str, Any]:
    data = random.Random(0).randbytes(int(size))
    layer = DataLayer.from_env({"design": "s3-direct"})
    with layer.publish(TaskKey.parse(key)) as attempt:
        attempt.output().put("part-0", data)
    folder = layer.resolve(TaskKey.parse(key))["default"].spark_uri.removeprefix("s3a://outputs/")
    return {"sha256": hashlib.sha256(data).hexdigest(), "object": f"{folder}/part-0"}


def get(name: str) -> dict[str, Any]:
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        "outputs",
        endpoint="http://127.0.0.1:39999/api/v1/s3",
        region="us-east-1",
        access_key_id="anybody",
        secret_access_key="nothing",
        client_options={"allow_http": True},
    )
    return {"sha256": hashlib.sha256(obstore.get(store, name).bytes()).hexdigest()}


def read(key: str) -> dict[str, Any]:
    layer = DataLayer.from_env()
    output = layer.resolve(TaskKey.parse(key))["default"]
    digest = hashlib.sha256(output.read_bytes("part-0")).hexdigest()
    hot = layer.receipt.by_tier()["hot"]
    path = output.local_path("part-0")
    engines = output.spark_uri
    return {"sha256": digest, "hit": hot.bytes_hit, "misses": hot.misses, "path": path and str(path), "uri": engines}


if __name__ == "__main__":
    verbs: dict[str, Callable[..., dict[str, Any]]] = {"publish": publish, "get": get, "read": read}
    sys.stdout.write(json.dumps(verbs[sys.argv[1]](*sys.argv[2:])))
