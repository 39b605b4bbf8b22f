"""F14: the log stream dies or hangs. What a pod came to is read from the pod and the manifest."""

from __future__ import annotations

import pytest

from tests.cluster.operating import Place, Tasks

SOURCE = """
import time
import airflow_ops.operators.pod_job as module

class Stream(module.PodManager):
    def fetch_requested_container_logs(self, *args, **kwargs):
        {fault}

module.PodManager = Stream
with DAG("faults", start_date=START) as dag:
    ExecutionEnvironmentOperator(task_id="job", image=SHELL, cmds=sh("sleep 2; echo 1 > $DATALAYER_OUT/default/one"), **ARGS)
"""


@pytest.mark.parametrize("fault", ["time.sleep(3600)", "raise OSError('the stream has died')"])
def test_f14_a_log_stream_that_hangs_or_dies_changes_nothing(place: Place, tasks: Tasks, fault: str) -> None:
    done = tasks.start(place, SOURCE.format(fault=fault))
    assert done.wait() == "success", done.story()
    assert place.text("faults", "job", "one") == "1\n"
    assert "log" in done.story()
    place.assert_nothing_left()
