"""F15: the XCom sidecar is broken. The result travels by the manifest."""

from __future__ import annotations

import pytest

from tests.cluster.operating import Place, Tasks

SOURCE = """
class Job(ExecutionEnvironmentOperator):
    def build_pod_request_obj(self, *args, **kwargs):
        pod = super().build_pod_request_obj(*args, **kwargs)
        sidecar = pod.spec.containers[-1]
        assert sidecar.name == "airflow-xcom-sidecar"
        sidecar.image, sidecar.image_pull_policy = SHELL, "IfNotPresent"
        {fault}
        return pod

with DAG("faults", start_date=START) as dag:
    Job(
        task_id="job",
        image=SHELL,
        cmds=sh("echo 7 > /airflow/xcom/return.json; echo 1 > $DATALAYER_OUT/default/one"),
        do_xcom_push=True,
        **ARGS,
    )
"""


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("pass", "Running command"),
        ('sidecar.command = ["sh", "-c", "exit 1"]', "XCom"),
        # It hands the value over, and never ends.
        ('sidecar.command = ["sleep", "3600"]', "Running command"),
    ],
    ids=["whole", "dead", "endless"],
)
def test_f15_outputs_are_committed_whatever_the_xcom_sidecar_does(
    place: Place, tasks: Tasks, fault: str, told: str
) -> None:
    done = tasks.run(place, SOURCE.format(fault=fault))
    assert done.state == "success", done.story()
    assert told in done.story()
    assert place.text("faults", "job", "one") == "1\n"
    place.assert_nothing_left()
