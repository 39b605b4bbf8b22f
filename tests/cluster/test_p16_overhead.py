"""P16 on the cluster: what a small task costs over Airflow's own KubernetesPodOperator, in one run, turn by turn.

Printed, not judged, but for the requests: seconds belong to the machine. `make test` takes one turn, `make test-nightly` ten.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.operating import Place, Tasks
from tests.services.faultproxy import FaultProxy

MIB = 1 << 20
MOST_REQUESTS = 8
DAG = """
import json, os
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import rest

def counted(request):
    def inner(self, method, url, *args, **kwargs):
        with open({calls!r}, "a") as file:
            print(method, url.split("?")[0], file=file)
        return request(self, method, url, *args, **kwargs)
    return inner

if not hasattr(rest.RESTClientObject.request, "counts"):
    rest.RESTClientObject.request = counted(rest.RESTClientObject.request)
    rest.RESTClientObject.request.counts = True

FIRST = "read up idle < /proc/uptime; echo first line at $up; "
with DAG("small", start_date=START) as dag:
    numbers = ExecutionEnvironmentOperator(
        task_id="numbers", image=SHELL, cmds=sh("head -c 1048576 /dev/urandom > $DATALAYER_OUT/default/f"), **ARGS)
    for turn in range({turns}):
        ExecutionEnvironmentOperator(
            task_id=f"ours_{{turn}}", image=SHELL, inputs={{"numbers": numbers.output}},
            cmds=sh(FIRST + "cat $DATALAYER_IN/numbers/default/f > $DATALAYER_OUT/default/f"), **ARGS)
        KubernetesPodOperator(
            task_id=f"stock_{{turn}}", image=SHELL, cmds=sh(FIRST + "head -c 1048576 /dev/urandom > /tmp/f"), **ARGS)
"""


@pytest.fixture
def proxy(place: Place) -> Iterator[FaultProxy]:
    """Counts what the worker and the pod ask of S3."""
    with FaultProxy(place.s3.endpoint) as proxy:
        text = place.settings.read_text()
        place.settings.write_text(text.replace(json.dumps(place.s3.endpoint), json.dumps(proxy.endpoint)))
        yield proxy


@pytest.mark.parametrize("turns", [pytest.param(1, id="test"), pytest.param(10, marks=pytest.mark.nightly)])
def test_p16_a_small_task_beside_the_stock_operator(
    place: Place, tasks: Tasks, proxy: FaultProxy, tmp_path: Path, turns: int, say: Callable[[str], None]
) -> None:
    calls = tmp_path / "calls"
    source = DAG.format(calls=str(calls), turns=turns)
    first = tasks.run(place, source, "numbers", dag_id="small")
    assert first.state == "success", first.story()
    rows: dict[str, list[tuple[float, float, int, int]]] = {"stock": [], "ours": []}
    for turn in range(turns):
        for name, seen in rows.items():
            calls.write_text("")
            proxy.reset()
            uptime, begun = time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()
            done = tasks.run(place, source, f"{name}_{turn}", dag_id="small")
            seconds = time.monotonic() - begun
            assert done.state == "success", done.story()
            started = next(line for line in done.story().splitlines() if "first line at" in line)
            to_first = float(started.split("first line at ")[1].split()[0].strip("\"',")) - uptime
            seen.append((seconds, to_first, len(calls.read_text().splitlines()), len(proxy.requests)))
            told = [f"{request.kind} {request.path}" for request in proxy.requests]
            say(f"{name}: {seconds:.2f} s, first line after {to_first:.2f} s, {seen[-1][2]} API calls, S3 {told}")
    for name, seen in rows.items():
        middle = [statistics.median(column) for column in zip(*seen, strict=True)]
        say(
            f"{name:5}  {middle[0]:6.2f} s in all  {middle[1]:6.2f} s to the job's first line  "
            f"{middle[2]:4.0f} API calls  {middle[3]:3.0f} S3 requests"
        )
    assert max(requests for *_, requests in rows["ours"]) <= MOST_REQUESTS
    with contextlib.suppress(FileNotFoundError):
        calls.unlink()
