"""Runs by a scheduler with LocalExecutor on PostgreSQL, whose tasks are pods of the cluster: plain and deferrable, under each design."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy

from datalayer import DataLayer, RunId
from datalayer.addresses.runs import run_segment
from datalayer.config import Config
from examples.flights.source import DAG_FILE
from tests.cluster.conftest import SITE
from tests.cluster.flights_images import BY_AIRPORT, JOBS, load_flights_images
from tests.cluster.operating import START, Place, wait_until
from tests.services.airflow import AirflowServer, airflow_server
from tests.services.alluxio import AlluxioServer
from tests.services.faultproxy import FaultProxy
from tests.services.kubernetes.client import Cluster
from tests.services.postgres import postgres_server
from tests.services.s3server import S3Server

DESIGNS = ("s3-direct", "shared-fs", "s3-poc", "hot-cold")
QUICK = ("s3-direct", "hot-cold")
DATE = "2026-02-03T04:05:06Z"
RUN = "20260203T040506Z"
CHAIN = """
with DAG("chain", schedule=None, start_date=START):
    numbers = ExecutionEnvironmentOperator(
        task_id="numbers", image=SHELL, cmds=sh('seq 1 {{ dag_run.conf.get("count", 3) }} > "$DATALAYER_OUT/default/numbers.txt"'), **ARGS
    )
    add = sh('n=0; while read -r i; do n=$((n + i)); done < "$DATALAYER_IN/numbers/default/numbers.txt"; '
             'echo "$n" > "$DATALAYER_OUT/default/total.txt"')
    ExecutionEnvironmentOperator(task_id="total", image=SHELL, cmds=add, inputs={"numbers": numbers.output}, **ARGS)
    ExecutionEnvironmentOperator(
        task_id="deferred", image=SHELL, cmds=add, inputs={"numbers": numbers.output}, deferrable=True, poll_interval=1, **ARGS
    )
"""
MAPPED = """
with DAG("mapped", schedule=None, start_date=START):
    parts = ExecutionEnvironmentOperator.partial(task_id="parts", image=SHELL, **ARGS).expand(
        cmds=[sh('echo %s > "$DATALAYER_OUT/default/part.txt"' % word) for word in ("one", "two")]
    )
    whole = ExecutionEnvironmentOperator(
        task_id="whole",
        image=SHELL,
        cmds=sh('cat "$DATALAYER_IN"/parts/*/default/part.txt > "$DATALAYER_OUT/default/whole.txt"'),
        job_config={"input": {"operators": [{"task_id": "parts"}]}},
        **ARGS,
    )
    parts >> whole
"""

HOPELESS = """
JOB = dict(cmds=sh("true"), deferrable=True, poll_interval=1)
with DAG("hopeless", schedule=None, start_date=START):
    ExecutionEnvironmentOperator(task_id="rights", image=SHELL, **JOB, **{**ARGS, "service_account_name": "default"})
    IMAGE = dict(image="no.such.host/image:1", startup_timeout_seconds=30)
    ExecutionEnvironmentOperator(task_id="image", **IMAGE, **JOB, **ARGS)
"""


@pytest.fixture(scope="module")
def place(
    cluster: Cluster,
    cluster_s3: S3Server,
    job_image: str,
    shell_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    """A team for all tests here, since one Airflow serves them."""
    keys = {
        "AWS_ACCESS_KEY_ID": cluster_s3.root.access_key,
        "AWS_SECRET_ACCESS_KEY": cluster_s3.root.secret_key,
    }
    with cluster.team(secret=keys) as team:
        found = Place(team, cluster_s3, tmp_path_factory.mktemp("scheduler") / "datalayer.toml")
        found.use("s3-direct")
        yield found


@pytest.fixture(scope="module")
def airflow(place: Place) -> Iterator[AirflowServer]:
    """The scheduler, and all that belongs to it."""
    reports = {
        "conn_type": "aws",
        "login": place.s3.root.access_key,
        "password": place.s3.root.secret_key,
        "extra": {"endpoint_url": place.s3.endpoint, "region_name": place.s3.region},
    }
    more = {
        "AIRFLOW_VAR_FLIGHTS_JOBS_IMAGE": JOBS,
        "AIRFLOW_VAR_FLIGHTS_BY_AIRPORT_IMAGE": BY_AIRPORT,
        "AIRFLOW_CONN_REPORTS": json.dumps(reports),
        "AIRFLOW_VAR_DATALAYER_NAMESPACES": place.team.namespace,
    }
    with postgres_server() as postgres, airflow_server(postgres, place.environment | more) as server:
        for name, source in (("chain", CHAIN), ("mapped", MAPPED)):
            server.add_dag(f"{name}.py", START + source)
            server.wait_for_dag(name)
        yield server


def used(place: Place, design: str, request: pytest.FixtureRequest) -> None:
    """Make a design that of the tasks which begin from now on; what one of them needs beside S3 ends with the test."""
    if design != "hot-cold":
        place.use(design)
        return
    place.use("s3-direct")
    alluxio: AlluxioServer = request.getfixturevalue("cluster_alluxio")
    mounting = alluxio.mount(place.bucket, "tasks")
    folder = mounting.__enter__()
    request.addfinalizer(lambda: mounting.__exit__(None, None, None))
    text = place.settings.read_text().replace('"s3-direct"', f'"{design}"')
    place.settings.write_text(f'{text}\n[hot]\nurl = "{folder.url}"\nproxy = "{folder.proxy}"\n')
    place.layer = DataLayer(Config.load(environ={"DATALAYER_CONFIG": str(place.settings)}))


@pytest.mark.parametrize(
    "design", [pytest.param(design, marks=() if design in QUICK else pytest.mark.nightly) for design in DESIGNS]
)
def test_plain_and_deferred_tasks_under_each_design(
    airflow: AirflowServer, place: Place, design: str, request: pytest.FixtureRequest
) -> None:
    used(place, design, request)
    run = airflow.trigger("chain", logical_date=None, conf={"count": 4})
    airflow.succeed(run, seconds=600)
    segment = run_segment(RunId(run.run_id))
    assert place.text("chain", "total", "total.txt", segment) == "10\n"
    assert place.text("chain", "deferred", "total.txt", segment) == "10\n"
    for task_id in ("total", "deferred"):
        log = airflow.log(run, task_id)
        assert f"under the design {design}" in log
        assert "Committed output default: 1 file, 3 B" in log
    place.assert_nothing_left()


def test_a_clear_runs_new_pods_and_supersedes(airflow: AirflowServer, place: Place) -> None:
    place.use("s3-direct")
    run = airflow.trigger("chain", logical_date=DATE)
    airflow.succeed(run, seconds=600)
    assert place.head("chain", "numbers", RUN) == 1
    airflow.clear(run, "numbers", downstream=True)
    airflow.succeed(run, seconds=600)
    assert [place.head("chain", task_id, RUN) for task_id in ("numbers", "total", "deferred")] == [2, 2, 2]
    place.assert_nothing_left()


def test_a_mapped_task_is_a_pod_for_each_index(airflow: AirflowServer, place: Place) -> None:
    place.use("s3-direct")
    run = airflow.trigger("mapped")
    airflow.succeed(run, seconds=600)
    assert place.text("mapped", "whole", "whole.txt", run_segment(RunId(run.run_id))) == "one\ntwo\n"
    place.assert_nothing_left()


def watched(airflow: AirflowServer) -> int:
    """How many triggers a triggerer has taken."""
    engine = sqlalchemy.create_engine(airflow.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    with contextlib.closing(engine.raw_connection()) as connection, contextlib.closing(connection.cursor()) as cursor:
        cursor.execute("SELECT count(*) FROM trigger WHERE triggerer_id IS NOT NULL")
        (found,) = cursor.fetchone() or (0,)
    engine.dispose()
    return int(found)


def test_f20_a_task_marked_as_failed_leaves_no_pod_deferred_or_not(airflow: AirflowServer, place: Place) -> None:
    place.use("s3-direct")
    airflow.add_dag(
        "long.py",
        START + 'with DAG("long", schedule=None, start_date=START):\n'
        '    ExecutionEnvironmentOperator(task_id="job", image=SHELL, cmds=sh("sleep 3600"), **ARGS)\n'
        '    ExecutionEnvironmentOperator(task_id="deferred", image=SHELL, cmds=sh("sleep 3600"), deferrable=True, **ARGS)\n',
    )
    airflow.wait_for_dag("long")
    run = airflow.trigger("long")
    airflow.wait_for_task(run, "job", {"running"})
    airflow.wait_for_task(run, "deferred", {"deferred"})
    wait_until(lambda: watched(airflow) == 1, "the triggerer takes the trigger")
    # It begins to watch within its next second. Who ends the task before that leaves its pod to the sweep.
    time.sleep(5)
    for task_id in ("job", "deferred"):
        airflow.set_state(run, task_id, "failed")
    assert airflow.wait(run) == "failed"
    place.assert_nothing_left()


def test_a_deferred_task_whose_pod_cannot_begin_fails_soon_and_says_why(airflow: AirflowServer, place: Place) -> None:
    place.use("s3-direct")
    airflow.add_dag("hopeless.py", START + HOPELESS)
    airflow.wait_for_dag("hopeless")
    run = airflow.trigger("hopeless")
    assert airflow.wait(run, seconds=300) == "failed"
    assert "does not let this pod's ServiceAccount read pod" in airflow.log(run, "rights")
    assert "image" in airflow.log(run, "image")
    place.assert_nothing_left()


@pytest.mark.parametrize(
    "design", [DESIGNS[0], *(pytest.param(design, marks=pytest.mark.nightly) for design in DESIGNS[1:])]
)
def test_the_flights_as_their_dag_file_is(
    airflow: AirflowServer, place: Place, design: str, request: pytest.FixtureRequest, say: Callable[[str], None]
) -> None:
    if place.team.cluster.volumes:
        load_flights_images(SITE)
    used(place, design, request)
    with place.s3.client() as client:
        if "reports" not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket="reports")
    airflow.add_dag("flights.py", DAG_FILE.read_text())
    airflow.wait_for_dag("flights")
    # What Alluxio itself asks of S3 does not come by here.
    with FaultProxy(place.s3.endpoint) as proxy:
        text = place.settings.read_text()
        place.settings.write_text(text.replace(json.dumps(place.s3.endpoint), json.dumps(proxy.endpoint)))
        begun = time.monotonic()
        run = airflow.trigger("flights", logical_date=f"2013-01-0{1 + DESIGNS.index(design)}T00:00:00Z")
        airflow.succeed(run, seconds=900)
        say(
            f"flights under {design}: {time.monotonic() - begun:.1f} s, {len(proxy.requests)} S3 requests by tasks, "
            f"{proxy.bytes_down / 1e6:.1f} MB down, {proxy.bytes_up / 1e6:.1f} MB up"
        )
        place.settings.write_text(text)
    segment = f"2013010{1 + DESIGNS.index(design)}T000000Z"
    delays = place.layer.resolve(place.key("flights", "delays", segment))["default"].dataset().to_table()
    assert sum(delays["flights"].to_pylist()) == 336_776
    by_airport = place.text("flights", "by_airport", "by_airport.csv", segment).splitlines()
    flown = [int(line.split(",")[2]) for line in by_airport[1:]]
    assert sum(flown) == 336_776
    place.assert_nothing_left()


def test_the_sweep_dag_clears_a_namespace(airflow: AirflowServer, place: Place) -> None:
    place.use("s3-direct")
    airflow.add_dag("sweep.py", DAG_FILE.parents[2].joinpath("dags", "sweep.py").read_text())
    airflow.wait_for_dag("datalayer_sweep")
    run = airflow.trigger("datalayer_sweep")
    airflow.succeed(run)
    # Nothing here is old enough: what else it removes is shown by the tests of F16.
    assert airflow.xcom(run, "pods") == {place.team.namespace: []}
