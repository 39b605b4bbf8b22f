"""F1: the worker gets SIGTERM or SIGKILL at any point of an operator's life. No success whose head does not name the attempt; nothing left."""

from __future__ import annotations

import signal

import pytest

from tests.cluster.operating import Place, Tasks

SOURCE = """
import os

def at(point):
    if os.environ.get("POINT") == point:
        os.kill(os.getpid(), int(os.environ["NUMBER"]))

class Job(ExecutionEnvironmentOperator):
    def pre_execute(self, context):
        at("begun")
        super().pre_execute(context)
        at("claimed")

    def get_or_create_pod(self, *args, **kwargs):
        at("built")
        pod = super().get_or_create_pod(*args, **kwargs)
        at("created")
        return pod

    def await_pod_start(self, *args, **kwargs):
        at("starting")
        super().await_pod_start(*args, **kwargs)

    def await_pod_completion(self, *args, **kwargs):
        at("running")
        super().await_pod_completion(*args, **kwargs)
        at("ended")

    def cleanup(self, *args, **kwargs):
        at("committed")
        super().cleanup(*args, **kwargs)
        at("cleaned")

    def post_execute(self, context, result=None):
        super().post_execute(context, result)
        at("told")

with DAG("faults", start_date=START) as dag:
    Job(task_id="job", image=SHELL, cmds=sh("sleep 2; echo 1 > $DATALAYER_OUT/default/one"), **ARGS)
"""
QUICK = {
    signal.SIGKILL: ("claimed", "created", "running", "committed"),
    signal.SIGTERM: ("begun", "created", "running", "ended"),
}
POINTS = ("begun", "claimed", "built", "created", "starting", "running", "ended", "committed", "cleaned", "told")
CASES = [
    pytest.param(
        number, point, id=f"{number.name}-{point}", marks=() if point in QUICK[number] else pytest.mark.nightly
    )
    for number in QUICK
    for point in POINTS
]


@pytest.mark.kills
@pytest.mark.parametrize(("number", "point"), CASES)
def test_f01_a_killed_worker_reports_no_success_that_is_none(
    place: Place, tasks: Tasks, number: signal.Signals, point: str
) -> None:
    first = tasks.start(place, SOURCE, environment={"POINT": point, "NUMBER": str(int(number))})
    state = first.wait()
    assert state in {"killed", "failed", "up_for_retry", "success"}, first.story()
    if state == "success":
        assert place.head("faults", "job") == 1, first.story()
    elif number == signal.SIGTERM:
        # A worker that could still do it has cleared up by itself.
        place.assert_nothing_left()
    second = tasks.run(place, SOURCE, attempt=2)
    assert second.state == "success", second.story()
    assert place.text("faults", "job", "one") == "1\n"
    place.assert_nothing_left()
