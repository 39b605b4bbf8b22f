"""What only a whole Airflow shows: waiting in the triggerer, connections from its database, links in its pages, clears."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from datalayer import DataLayer, NotPublishedError, TaskKey
from datalayer.config import Config
from tests.airflow.conftest import TEAM, Deployment
from tests.services.airflow_api import wait_until

RUN = "20261123T080000Z"
DATE = "2026-11-23T08:00:00Z"

WAITING = """
from datetime import UTC, datetime
from airflow.sdk import DAG
from airflow_ops import TaskOutputSensor, task, task_output

with DAG("waiting", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    wait = TaskOutputSensor(
        task_id="wait", waits_for=task_output("other", "load"), deferrable=True, poke_interval=0.5, timeout=120
    )

    @task
    def read(it=task_output("other", "load")):
        return it.read_bytes("data.txt").decode().upper()

    wait >> read()
"""


def test_a_sensor_waits_in_the_triggerer_with_a_connection_of_airflows(deployment: Deployment) -> None:
    server, airflow = deployment.s3, deployment.airflow
    extra = {"endpoint_url": server.endpoint, "region_name": server.region}
    connection = {
        "connection_id": "airflows_lake",
        "conn_type": "aws",
        "login": server.root.access_key,
        "password": server.root.secret_key,
        "extra": json.dumps(extra),
    }
    airflow.request("POST", "/api/v2/connections", connection)
    tiers = {"cold": {"url": f"s3://{server.new_bucket()}/outputs", "connection": "airflows_lake"}}
    deployment.settings.write_text(f'[tiers.cold]\nurl = "{tiers["cold"]["url"]}"\nconnection = "airflows_lake"\n')
    known = {"access_key_id": server.root.access_key, "secret_access_key": server.root.secret_key}
    place = {"endpoint": server.endpoint, "region": server.region, **known}
    layer = DataLayer(Config.from_mapping({"tiers": tiers, "connections": {"airflows_lake": place}}))
    airflow.add_dag("waiting.py", WAITING)
    airflow.wait_for_dag("waiting")
    run = airflow.trigger("waiting", logical_date=DATE)
    airflow.wait_for_task(run, "wait", ["deferred"])
    with layer.publish(TaskKey(TEAM, "other", "load", RUN)) as attempt:
        attempt.output().put("data.txt", b"there")
    airflow.succeed(run)
    found = layer.resolve(TaskKey(TEAM, "waiting", "read", RUN))
    assert found["default"].read_bytes("data.txt") == b"THERE"
    log = airflow.log(run, "wait")
    assert f"Waiting: /{TEAM}/other/load/{RUN} has not been published" in log
    assert server.root.secret_key not in log + airflow.log(run, "read")


READERS = """
from datetime import UTC, datetime
from airflow.sdk import DAG
from airflow_ops import input_of, task, task_output

with DAG("rereading", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    @task
    def count(ti=None):
        return str(ti.try_number)

    counted = count()

    @task
    def read(own=input_of(counted), other=task_output("other", "load", latest=True)):
        return own.read_bytes("data.txt").decode() + other.read_bytes("data.txt").decode()

    read()
"""


def test_a_clear_reads_anew_and_the_link_is_shown(deployment: Deployment) -> None:
    airflow = deployment.airflow
    volume = tempfile.mkdtemp(prefix="volume-", dir=deployment.folder)
    layer = deployment.use(f'design = "shared-fs"\n[tiers.shared]\nurl = "{volume}"')

    def other(day: int) -> None:
        with layer.publish(TaskKey(TEAM, "other", "load", f"202611{day}T080000Z")) as attempt:
            attempt.output().put("data.txt", f" {day}".encode())

    def was_read() -> Any:
        found = layer.resolve(TaskKey(TEAM, "rereading", "read", RUN))
        return found.attempt, found["default"].read_bytes("data.txt")

    other(21)
    airflow.add_dag("rereading.py", READERS)
    airflow.wait_for_dag("rereading")
    run = airflow.trigger("rereading", logical_date=DATE)
    airflow.succeed(run)
    assert was_read() == (1, b"1 21")
    other(22)
    airflow.clear(run, "count", downstream=True)
    airflow.succeed(run)
    assert was_read() == (2, b"2 22")
    link = airflow.extra_links(run, "read")["Output"]
    assert link is not None
    assert (
        urlsplit(link).path
        == f"/dags/rereading/runs/{run.run_id.replace(':', '%3A').replace('+', '%2B')}/tasks/read/xcom"
    )
    places = airflow.xcom(run, "read", "datalayer_output")
    assert f"/{TEAM}/rereading/read/{RUN}/attempts/2/default" in str(places)


SLOW = """
import time
from datetime import UTC, datetime
from pathlib import Path
from airflow.sdk import DAG
from airflow_ops import output_writer, task

with DAG("slow", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    @task
    def write(out=output_writer()):
        out.put("half.txt", b"half")
        while not Path({sign!r}).exists():
            time.sleep(0.2)
    write()
"""


def test_a_function_that_is_killed_leaves_nothing_and_cannot_commit(deployment: Deployment) -> None:
    airflow = deployment.airflow
    volume = Path(tempfile.mkdtemp(prefix="volume-", dir=deployment.folder))
    layer = deployment.use(f'design = "shared-fs"\n[tiers.shared]\nurl = "{volume}"')
    airflow.add_dag("slow.py", SLOW.format(sign=str(volume / "go on")))
    airflow.wait_for_dag("slow")
    run = airflow.trigger("slow", logical_date=DATE)
    wait_until(lambda: any(volume.rglob("half.txt")), "nothing was staged", 60)
    airflow.set_state(run, "write", "failed")
    wait_until(lambda: not any(volume.rglob("half.txt")), "what was staged is not removed", 60)
    (volume / "go on").touch()
    assert airflow.wait(run) == "failed"
    with pytest.raises(NotPublishedError):
        layer.resolve(TaskKey(TEAM, "slow", "write", RUN))
