"""What a run ran on: the machine, and the versions of everything that was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from spark_env.versions import ALLUXIO, HADOOP
from tests.services.s3server import VERSITYGW

_PACKAGES = (
    "datalayer-tasks",
    "obstore",
    "pyarrow",
    "boto3",
    "s3transfer",
    "fsspec",
    "s3fs",
    "pyspark",
    "apache-airflow",
    "google-crc32c",
    "msgspec",
    "tpchgen-cli",
)


def machine() -> dict[str, str]:
    """Return processor, memory and kernel. Neither the host's name nor a path."""
    return {
        "processor": _line("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{int((_line('/proc/meminfo', 'MemTotal') or '0').split()[0]) >> 20} GiB",
        "kernel": platform.release(),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, the libraries and the server."""
    found = {
        "python": platform.python_version(),
        "versitygw (server)": VERSITYGW.removeprefix("v"),
        "alluxio (server)": ALLUXIO,
        "hadoop (S3A)": HADOOP,
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _line(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
