"""The operators on a real cluster: their words, the four designs, a quota, deliveries."""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster.operating import Place, Tasks, wait_until
from tests.services.alluxio import AlluxioServer
from tests.services.kubernetes.images import IMAGES

DESIGNS = ("s3-poc", "s3-direct", "shared-fs", "hot-cold")
CHAIN = """
with DAG("chain", start_date=START) as dag:
    numbers = ExecutionEnvironmentOperator(
        task_id="numbers",
        image=SHELL.split(":")[0],
        tag=SHELL.split(":")[1],
        cmds=sh("seq 1000 > $DATALAYER_OUT/default/numbers.csv; id -u > $DATALAYER_OUT/default/user"),
        security_context={"runAsUser": 4711},
        **ARGS,
    )
    ExecutionEnvironmentOperator(
        task_id="total",
        image=SHELL,
        cmds=sh("wc -l < $DATALAYER_IN/numbers/default/numbers.csv > $DATALAYER_OUT/default/total"),
        inputs={"numbers": numbers.output},
        **ARGS,
    )
"""


def use(place: Place, design: str, request: pytest.FixtureRequest) -> None:
    """Use a design; with a real Alluxio where it is to have one."""
    alluxio: AlluxioServer | None = request.getfixturevalue("cluster_alluxio") if design == "hot-cold" else None
    place.use(design, alluxio)


@pytest.mark.parametrize("design", DESIGNS)
def test_one_task_reads_what_another_wrote_under_each_design(
    place: Place, tasks: Tasks, design: str, request: pytest.FixtureRequest
) -> None:
    use(place, design, request)
    for task_id in ("numbers", "total"):
        done = tasks.run(place, CHAIN, task_id, dag_id="chain")
        assert done.state == "success", done.story()
    assert place.text("chain", "numbers", "user") == "4711\n"
    assert place.text("chain", "total", "total") == "1000\n"
    story = done.story()
    assert f"under the design {design}" in story
    assert "Input numbers: /aviation/chain/numbers/20261123T080000Z, attempt 1: 2 files" in story
    assert "Committed output default: 1 file, 5 B" in story
    assert "The head of /aviation/chain/total/20261123T080000Z names attempt 1" in story
    place.assert_nothing_left()


TALK = """
with DAG("talk", start_date=START) as dag:
    ExecutionEnvironmentOperator(
        task_id="task_1",
        image=SHELL,
        cmds=sh("echo 1 > $DATALAYER_OUT/default/one"),
        job_config={{"output": {{"default": {{"destinations": [
            {{"type": "s3", "data": {{"bucket": {bucket!r}, "path": "daily", "aws_conn_id": {connection!r}}}}}
        ]}}}}}},
        **ARGS,
    ) >> ExecutionEnvironmentOperator(
        task_id="task_2",
        image=SHELL,
        cmds=sh("cat $DATALAYER_IN/task_1/default/one > $DATALAYER_OUT/default/two"),
        job_config={{"input": {{"operators": [{{"task_id": "task_1"}}]}}}},
        **ARGS,
    )
"""


def test_the_words_of_the_talk_and_a_delivery_by_the_server(place: Place, tasks: Tasks) -> None:
    bucket = place.s3.new_bucket("reports")
    source = TALK.format(bucket=bucket, connection="lake")
    for task_id in ("task_1", "task_2"):
        done = tasks.run(place, source, task_id, dag_id="talk")
        assert done.state == "success", done.story()
        if task_id == "task_1":
            assert (
                f"Delivered output default to s3://{bucket}/daily: 1 file, 2 B (copied by the server)" in done.story()
            )
    assert place.text("talk", "task_2", "two") == "1\n"
    assert delivered(place, bucket, "daily/one") == b"1\n"
    place.assert_nothing_left()


def test_a_delivery_that_the_server_cannot_copy_goes_through_a_pod_of_the_team(place: Place, tasks: Tasks) -> None:
    bucket = place.s3.new_bucket("reports")
    # The keys of the destination are not those of the store.
    other = place.s3.add_user("reporter")
    place.s3.allow(other, bucket)
    extra = {"endpoint_url": place.s3.endpoint, "region_name": place.s3.region}
    connection = {"conn_type": "aws", "login": other.access_key, "password": other.secret_key, "extra": extra}
    done = tasks.run(
        place,
        TALK.format(bucket=bucket, connection="the-reporter"),
        "task_1",
        dag_id="talk",
        environment={"AIRFLOW_CONN_THE-REPORTER": json.dumps(connection)},
    )
    assert done.state == "success", done.story()
    assert "so a pod of the team delivers it" in done.story()
    assert f"Delivered output default to s3://{bucket}/daily: 1 file, 2 B (0 copied by the server)" in done.story()
    assert delivered(place, bucket, "daily/one") == b"1\n"
    assert other.secret_key not in done.story()
    place.assert_nothing_left()


def delivered(place: Place, bucket: str, key: str) -> bytes:
    with place.s3.client() as client:
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_a_full_quota_is_waited_out_and_the_log_says_so(place: Place, tasks: Tasks) -> None:
    place.team.quota(pods="1")
    place.team.run("greedy", IMAGES["shell"].tag, ["sleep", "600"])
    started = tasks.start(place, CHAIN, "numbers", dag_id="chain")
    wait_until(lambda: "has no room for pod" in started.story(), "the task says that it waits")
    place.team.kubectl("delete", "pod", "greedy", "--grace-period=1")
    assert started.wait() == "success", started.story()
    assert "exceeded quota" in started.story()


def test_a_full_quota_is_not_waited_out_for_ever(place: Place, tasks: Tasks) -> None:
    place.team.quota(pods="0")
    done = tasks.run(place, CHAIN, "numbers", dag_id="chain", environment={"AIRFLOW__DATALAYER__QUOTA_WAIT": "3"})
    assert done.state in {"failed", "up_for_retry"}
    assert "exceeded quota" in done.error
    place.assert_nothing_left()


def test_an_input_that_cannot_be_prepared_fails_the_task_at_once(place: Place, tasks: Tasks) -> None:
    assert tasks.run(place, CHAIN, "numbers", dag_id="chain").state == "success"
    with place.s3.client() as client:
        # Somebody removes what the manifest lists.
        prefix = f"tasks/{place.key('chain', 'numbers').path.strip('/')}/attempts/1/default/numbers.csv"
        client.delete_object(Bucket=place.bucket, Key=prefix)
    began = time.monotonic()
    done = tasks.run(place, CHAIN, "total", dag_id="chain")
    assert done.state == "failed", done.story()
    assert "could not be prepared, so its job was not started: NotFoundError" in done.error
    assert time.monotonic() - began < 60
    place.assert_nothing_left()
