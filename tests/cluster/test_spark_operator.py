"""Spark on a real cluster: the driver in the task's own pod, executors beside it. F8: an executor dies. F9: two drivers for one task."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pyspark
import pytest

from tests.cluster.operating import GONE_SECONDS, MANAGED, Place, Tasks, wait_until
from tests.services.alluxio import AlluxioServer

DESIGNS = ("s3-poc", "s3-direct", "shared-fs", "hot-cold")
QUICK = ("shared-fs", "hot-cold")
APPLICATIONS = {
    "count.py": """
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
numbers = spark.read.text(spark.conf.get("spark.datalayer.input.numbers.default"))
seconds = float(sys.argv[1])
def slow(rows):
    import time
    for row in rows:
        time.sleep(seconds)
        yield row
counted = numbers.repartition(8).rdd.mapPartitions(slow).toDF(numbers.schema)
counted.write.parquet(spark.conf.get("spark.datalayer.output.default"))
spark.stop()
""",
    "sum.sql": """
CREATE TEMPORARY VIEW numbers USING text OPTIONS (path '${spark.datalayer.input.numbers.default}');
INSERT OVERWRITE DIRECTORY '${spark.datalayer.output.default}' USING parquet SELECT sum(CAST(value AS BIGINT)) AS total FROM numbers;
""",
}
JAVA = """
package jobs;
import org.apache.spark.sql.SparkSession;
public class Weekly {
    public static void main(String[] arguments) {
        SparkSession spark = SparkSession.builder().getOrCreate();
        spark.read().text(spark.conf().get("spark.datalayer.input.numbers.default"))
            .repartition(4).filter("CAST(value AS BIGINT) > " + arguments[0])
            .write().parquet(spark.conf().get("spark.datalayer.output.default"));
        spark.stop();
    }
}
"""
SOURCE = """
JOBS = dict(
    volumes=[k8s.V1Volume(name="jobs", config_map=k8s.V1ConfigMapVolumeSource(name="jobs"))],
    volume_mounts=[k8s.V1VolumeMount(name="jobs", mount_path="/jobs")],
)
SMALL = dict(
    executor_memory="512m",
    executor_cpu="50m",
    startup_timeout_seconds=600,
    conf={"spark.driver.memory": "512m"},
    env_vars={"TRY": "{{ ti.try_number }}"},
)
with DAG("spark", start_date=START) as dag:
    numbers = ExecutionEnvironmentOperator(
        task_id="numbers", image=SHELL, cmds=sh("seq 1000 > $DATALAYER_OUT/default/numbers.txt"), **ARGS
    )
    for name, application, seconds, more in (
        ("count", "count.py", "0", {}),
        ("slow", "count.py", "0.1", {}),
        ("twice", "count.py", "0.02", {"durable": False}),
        ("sum", "sum.sql", None, {}),
    ):
        SparkExecutionEnvironmentOperator(
            task_id=name,
            image=SPARK,
            application=f"local:///jobs/{application}",
            application_args=[seconds] if seconds else None,
            inputs={"numbers": numbers.output},
            executors=1 if name in {"sum", "twice"} else 2,
            **SMALL,
            **JOBS,
            **ARGS,
            **more,
        )
    SparkExecutionEnvironmentOperator(
        task_id="weekly", image=SPARK, application="local:///jobs/weekly.jar", main_class="jobs.Weekly", application_args=["990"],
        inputs={"numbers": numbers.output}, executors=(1, 2), **SMALL, **JOBS, **ARGS,
    )
"""


@pytest.fixture
def jobs(place: Place, spark_image: str) -> None:
    """The applications, as the image of a team would hold them."""
    place.team.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "jobs"}, "data": APPLICATIONS})


def executors(place: Place) -> list[dict[str, Any]]:
    found = json.loads(place.team.kubectl("get", "pods", "-l", f"spark-role=executor,{MANAGED}", "-o", "json"))
    return list(found["items"])


def rows(place: Place, task_id: str) -> list[Any]:
    """The values of a committed output, in order."""
    found = place.layer.resolve(place.key("spark", task_id))["default"]
    tables = [
        pyarrow.parquet.read_table(pyarrow.BufferReader(found.read_bytes(name)))
        for name in found.files
        if name.endswith(".parquet")
    ]
    return sorted(value for table in tables for value in table.column(0).to_pylist())


def done(tasks: Tasks, place: Place, task_id: str, **rest: Any) -> None:
    ran = tasks.run(place, SOURCE, task_id, dag_id="spark", **rest)
    assert ran.state == "success", ran.story()


# What the others do differently in pods, test_operators.py shows of each; a Spark of theirs takes a minute and a half.
@pytest.mark.parametrize(
    "design", [pytest.param(design, marks=() if design in QUICK else pytest.mark.nightly) for design in DESIGNS]
)
def test_an_application_in_python_reads_and_writes_in_place_under_each_design(
    place: Place, tasks: Tasks, jobs: None, design: str, request: pytest.FixtureRequest
) -> None:
    alluxio: AlluxioServer | None = request.getfixturevalue("cluster_alluxio") if design == "hot-cold" else None
    place.use(design, alluxio)
    done(tasks, place, "numbers")
    done(tasks, place, "count")
    assert rows(place, "count") == sorted(str(number) for number in range(1, 1001))
    place.assert_nothing_left()
    assert executors(place) == []


def test_a_file_of_sql_is_an_application(place: Place, tasks: Tasks, jobs: None) -> None:
    done(tasks, place, "numbers")
    done(tasks, place, "sum")
    assert rows(place, "sum") == [500_500]
    place.assert_nothing_left()


def test_a_jar_is_an_application_whose_executors_come_as_there_is_work(
    place: Place, tasks: Tasks, spark_image: str, tmp_path: Path
) -> None:
    source = tmp_path / "jobs" / "Weekly.java"
    source.parent.mkdir()
    source.write_text(JAVA)
    spark_jars = Path(pyspark.__file__).parent / "jars"
    subprocess.run(["javac", "--release", "17", "-cp", f"{spark_jars}/*", source], check=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as jar:
        jar.write(source.with_suffix(".class"), "jobs/Weekly.class")
    data = {"weekly.jar": base64.b64encode(packed.getvalue()).decode()}
    place.team.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "jobs"}, "binaryData": data})
    done(tasks, place, "numbers")
    done(tasks, place, "weekly")
    assert rows(place, "weekly") == ["1000", *(str(number) for number in range(991, 1000))]
    place.assert_nothing_left()
    assert executors(place) == []


@pytest.mark.kills
def test_f08_an_executor_that_dies_costs_no_row_and_doubles_none(place: Place, tasks: Tasks, jobs: None) -> None:
    done(tasks, place, "numbers")
    started = tasks.start(place, SOURCE, "slow", dag_id="spark")
    alive = wait_until(
        lambda: [one for one in executors(place) if one["status"]["phase"] == "Running"], "an executor runs", 300
    )
    wait_until(lambda: "Starting task" in started.story(), "tasks of the job run", 300)
    pod = alive[0]["metadata"]
    assert pod["ownerReferences"][0]["kind"] == "Pod"
    assert pod["labels"]["team"] == "aviation"
    place.team.kubectl("delete", "pod", pod["name"], "--grace-period=0", "--force")
    assert started.wait() == "success", started.story()
    assert rows(place, "slow") == sorted(str(number) for number in range(1, 1001))
    place.assert_nothing_left()


@pytest.mark.kills
def test_f09_of_two_drivers_for_one_task_one_commits_and_no_pod_stays(place: Place, tasks: Tasks, jobs: None) -> None:
    done(tasks, place, "numbers")
    first = tasks.start(place, SOURCE, "twice", dag_id="spark")
    wait_until(place.running, "the first driver runs")
    second = tasks.start(place, SOURCE, "twice", dag_id="spark", attempt=2)
    states = [first.wait(), second.wait()]
    assert states[1] == "success", second.story()
    assert states[0] != "success", first.story()
    assert place.head("spark", "twice") == 2
    assert rows(place, "twice") == sorted(str(number) for number in range(1, 1001))
    wait_until(lambda: not executors(place), "executors are gone", GONE_SECONDS)
    place.assert_nothing_left()
