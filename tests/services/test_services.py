"""`make services` and `make services-down`, in a cache folder of the test's own."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from datalayer import DataLayer, TaskKey
from datalayer.config import Config
from spark_env.cache import cache_dir
from tests.services.alluxio_jars import alluxio_jars
from tests.services.s3server import versitygw_binary

ROOT = Path(__file__).resolve().parents[2]
KEY = TaskKey("team", "dag", "task", run="20130101T000000Z")


class Cache:
    """A cache folder in which everything is that takes long to fetch."""

    def __init__(self, folder: Path) -> None:
        self.services = folder / "services"
        self._environment = {**os.environ, "DATALAYER_CACHE": str(folder)}
        for made in (alluxio_jars(), versitygw_binary().parent):
            link = folder / made.relative_to(cache_dir())
            link.parent.mkdir()
            link.symlink_to(made)

    def run(self, what: str) -> str:
        command = [sys.executable, str(ROOT / "scripts" / "services.py"), what]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def state(self) -> list[dict[str, Any]]:
        state: list[dict[str, Any]] = json.loads((self.services / "state.json").read_text())
        return state


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    cache = Cache(tmp_path)
    yield cache
    cache.run("down")


def test_services_run_once_are_usable_and_end(cache: Cache) -> None:
    told = cache.run("up")
    names = [service["name"] for service in cache.state]
    assert names[:5] == ["owner", "S3 (versitygw)", "Alluxio master", "Alluxio worker", "Alluxio proxy"]
    for service in cache.state:
        assert psutil.pid_exists(service["pid"])
        assert Path(service["log"]).exists()
        assert all(str(service[part]) in told for part in ("name", "address", "pid", "log"))

    config = cache.services / "datalayer.toml"
    assert config.read_text() in told
    assert config.stat().st_mode & 0o777 == 0o600
    layer = DataLayer(Config.load(environ={"DATALAYER_CONFIG": str(config)}))
    with layer.publish(KEY) as attempt:
        attempt.output().put("file", b"data")
    assert layer.resolve(KEY)["default"].read_bytes("file") == b"data"

    before = cache.state
    assert "run already" in cache.run("up")
    assert cache.state == before

    watches = [os.pidfd_open(service["pid"]) for service in before]
    assert "have ended" in cache.run("down")
    for watch in watches:
        assert select.select([watch], [], [], 60)[0] == [watch]
        os.close(watch)
    assert not config.exists()
    assert "No services run" in cache.run("down")


def test_a_process_that_has_the_number_of_an_owner_is_left_alone(cache: Cache) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:  # ends with the block
        cache.services.mkdir()
        owner = {"name": "owner", "address": "", "pid": stranger.pid, "started": "long ago", "log": ""}
        (cache.services / "state.json").write_text(json.dumps([owner]))
        assert "No services run" in cache.run("down")
        assert stranger.poll() is None


def test_services_listen_where_nobody_outside_reaches_them(cache: Cache) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "services.py"), "up", "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "0.0.0.0 is neither 127.0.0.1 nor 198.18.0.1" in done.stderr
