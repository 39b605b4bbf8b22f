"""What authors write in a DAG file: references, dependencies, the two forms of what a task reads, and what is wrong with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, XComArg, chain

from airflow_ops import S3Destination, input_of, output_writer, reference_output, task, task_output
from airflow_ops.inputs import DataTask, Declared, check_upstream, plan_inputs
from airflow_ops.policies import dag_policy
from airflow_ops.reading import declared_by, readers_of
from airflow_ops.references import OutputReference
from airflow_ops.triggers import TaskOutputTrigger, fields_of, references_from
from datalayer import ConfigError, InvalidKeyError, RunId, TaskKey

TALK = {
    "input": {"operators": [{"task_id": "task_1"}, {"task_id": "task_2"}]},
    "output": {
        "default": {"destinations": [{"type": "s3", "data": {"bucket": "reports", "path": "p", "aws_conn_id": "c"}}]}
    },
}


def called(function: Any, *arguments: Any) -> Any:
    """Airflow's decorator has types of its own."""
    return function(*arguments)


class Job(DataTask, BaseOperator):
    """An operator of ours that has no job."""

    template_fields = DataTask.data_fields

    def __init__(
        self,
        *,
        job_config: Any = None,
        inputs: Any = None,
        outputs: Any = None,
        deliver: Any = None,
        number: int = 0,
        **told: Any,
    ) -> None:
        super().__init__(**told)
        self.number = number
        self._declare(job_config, inputs, outputs, deliver)


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("flights", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as made:
        yield made


def reads(*task_ids: str, **more: Any) -> dict[str, Any]:
    return {"input": {"operators": [{"task_id": name, **more} for name in task_ids]}}


# The two forms ---------------------------------------------------------------------------------------------------------------------


def test_the_form_of_the_talk(dag: DAG) -> None:
    declared = Job(task_id="task_3", job_config=TALK).declared()
    assert declared.inputs == {name: OutputReference(task_id=name) for name in ("task_1", "task_2")}
    (destination,) = declared.outputs["default"].destinations
    assert (destination.data.bucket, destination.data.path, destination.data.aws_conn_id) == ("reports", "p", "c")


def test_both_forms_say_the_same(dag: DAG) -> None:
    talk = Job(task_id="a", job_config=TALK).declared()
    deliver = [S3Destination("reports", "p", "c")]
    python = Job(task_id="b", inputs={"task_1": "task_1", "task_2": "task_2"}, deliver=deliver).declared()
    assert talk == python


def test_the_form_of_the_talk_grows_by_what_references_have(dag: DAG) -> None:
    told = {
        "alias": "weather",
        "dag_id": "weather_dag",
        "last": 7,
        "outputs": ["hourly"],
        "map_indexes": [0, 2],
        "optional": True,
    }
    declared = plan_inputs(job_config=reads("load", **told))
    assert declared.inputs == {
        "weather": task_output("weather_dag", "load", last=7, output="hourly", map_indexes=[0, 2], optional=True)
    }


@pytest.mark.parametrize("other", [{"inputs": {}}, {"outputs": ["a"]}, {"deliver": []}])
def test_both_forms_at_once_are_an_error(dag: DAG, other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"job_config and {next(iter(other))}= are both given"):
        Job(task_id="job", job_config=TALK, **other)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"job_config": {"inputs": {}}}, "job_config.inputs: unknown key"),
        ({"job_config": reads("a", dagid="b")}, "job_config.input.operators[0].dagid: unknown key"),
        ({"job_config": reads("a", last="7")}, "job_config.input.operators[0].last: expected a whole number, got '7'"),
        (
            {"job_config": reads("a", last=0)},
            "job_config.input.operators[0]: a: last=0; write how many runs, 1 or more",
        ),
        ({"job_config": reads("a", last=1, latest=True)}, "last and latest are both given"),
        ({"job_config": reads("a", "a")}, "job_config.input.operators[1]: another input is called 'a' already"),
        ({"job_config": reads("a", outputs=["../b"])}, "job_config.input.operators[0]: output name '../b' must be"),
        ({"job_config": "{{ var.json.config }}"}, "job_config: expected an object, got '{{ var.json.config }}'"),
        ({"inputs": ["extract"]}, 'inputs: expected names and tasks, like {"flights": extract.output}'),
        ({"inputs": {"a": 1}}, "inputs.a: 1 is no task"),
        ({"inputs": {"": "a"}}, "inputs: alias is empty"),
        ({"outputs": "kept"}, "outputs: expected a list of names, got 'kept'"),
        ({"outputs": []}, "outputs: a task needs at least one output"),
        ({"outputs": ["a b"]}, "outputs: output name 'a b' must be"),
        (
            {"outputs": ["a", "b"], "deliver": [S3Destination("reports", "p")]},
            "deliver: there are several outputs; say which one",
        ),
        ({"deliver": {"other": []}}, "deliver.other: there is no such output; the outputs are default"),
        ({"deliver": ["s3://reports/p"]}, "deliver.default: 's3://reports/p' is no destination"),
    ],
)
def test_what_cannot_be_used_is_an_error_when_the_operator_is_made(
    dag: DAG, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        Job(task_id="job", **arguments)


def test_a_destination_is_looked_at_once_it_is_rendered(dag: DAG) -> None:
    job = Job(task_id="job", deliver=[S3Destination("{{ params.bucket }}", "p")])
    with pytest.raises(
        ConfigError,
        match=r"outputs\.default\.destinations\[0\]\.data\.bucket: '{{ params\.bucket }}' is no bucket name",
    ):
        job.declared()
    job.render_template_fields({"task": job, "params": {"bucket": "reports"}})
    assert job.declared().outputs["default"].destinations[0].data.bucket == "reports"


# Dependencies ----------------------------------------------------------------------------------------------------------------------


def test_an_output_makes_the_dependency(dag: DAG) -> None:
    extract, load = Job(task_id="extract"), Job(task_id="load", outputs=["kept", "dropped"])
    report = Job(
        task_id="report",
        inputs={"flights": extract.output, "rest": load.outputs["dropped"], "weather": task_output("w", "load")},
    )
    assert report.upstream_task_ids == {"extract", "load"}
    assert report.declared().inputs["rest"].outputs == ("dropped",)


@pytest.mark.parametrize("whole", [lambda one: one, lambda one: one.output, XComArg, input_of])
def test_a_task_is_meant_by_whatever_of_it_is_at_hand(dag: DAG, whole: Any) -> None:
    extract = Job(task_id="extract")
    report = Job(task_id="report", inputs={"flights": whole(extract)})
    assert report.upstream_task_ids == {"extract"}
    assert report.declared().inputs == {"flights": OutputReference(task_id="extract")}


def test_an_output_that_a_task_does_not_declare_is_an_error(dag: DAG) -> None:
    with pytest.raises(ConfigError, match="task 'extract' declares no output 'other' \\(declared: default\\)"):
        _ = Job(task_id="extract").outputs["other"]


def test_a_mapped_task_waits_for_what_it_reads_and_is_read(dag: DAG) -> None:
    extract = Job(task_id="extract")
    mapped = Job.partial(task_id="each", inputs={"flights": extract.output}).expand(number=[1, 2])
    after = Job(task_id="after", inputs={"parts": mapped.output})
    assert mapped.upstream_task_ids == {"extract"}
    assert after.upstream_task_ids == {"each"}


def checked(dag: DAG) -> None:
    """What Airflow does with every DAG of a file."""
    dag.resolve_template_files()  # type: ignore[no-untyped-call]  # Airflow's
    dag_policy(dag)


def test_an_input_that_does_not_run_before_is_an_error(dag: DAG) -> None:
    first, second = Job(task_id="task_1"), Job(task_id="task_2")
    third = Job(task_id="task_3", job_config=TALK)
    first >> third
    with pytest.raises(
        ConfigError,
        match="'task_3' of the DAG 'flights' reads 'task_2' of the same run as 'task_2', and does not wait for it",
    ):
        checked(dag)
    chain(second, Job(task_id="between"), third)
    checked(dag)


def test_a_mapped_task_that_does_not_wait_is_an_error(dag: DAG) -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation

    first = Job(task_id="task_1")
    mapped = Job.partial(task_id="each", job_config=reads("task_1")).expand(number=[1, 2])
    with pytest.raises(
        AirflowClusterPolicyViolation, match="ConfigError: task 'each' of the DAG 'flights' reads 'task_1'"
    ):
        checked(dag)
    first >> mapped
    checked(dag)


def test_a_task_that_the_dag_does_not_have_is_an_error(dag: DAG) -> None:
    Job(task_id="report", job_config=reads("extrct"))
    Job(task_id="extract")
    with pytest.raises(
        ConfigError,
        match="has no task 'extrct' \\(it has extract, report\\). For a task of another DAG, name its dag_id",
    ):
        checked(dag)


@pytest.mark.parametrize(
    "other", [{"dag_id": "weather"}, {"last": 1}, {"latest": True}, {"run": "2026-01-01"}, {"team": "marine"}]
)
def test_tasks_of_other_dags_and_runs_need_no_dependency(dag: DAG, other: dict[str, Any]) -> None:
    Job(task_id="report", job_config=reads("report", **other))
    checked(dag)


def test_the_own_dag_by_its_id_is_the_own_run(dag: DAG) -> None:
    Job(task_id="extract")
    report = Job(task_id="report", inputs={"it": task_output("flights", "extract")})
    with pytest.raises(ConfigError, match="does not wait for it"):
        check_upstream(report, report.declared())


# References ------------------------------------------------------------------------------------------------------------------------


def test_runs_are_named_by_dates_run_ids_and_segments() -> None:
    date = datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert task_output("d", "t", run=date).run == "20261123T080000Z"
    assert task_output("d", "t", run=RunId("manual__1")).run == "run_id-manual__1"
    assert task_output("d", "t", run="2026-11-23").run == "2026-11-23"
    assert task_output("d", "t", run=[date, "2026-11-22"]).runs == ("20261123T080000Z", "2026-11-22")
    with pytest.raises(InvalidKeyError, match="has no time zone"):
        task_output("d", "t", run=datetime(2026, 1, 1))  # noqa: DTZ001  # that is it


def test_a_reference_keeps_what_is_not_said_again() -> None:
    kept = task_output("d", "t", output="hourly", last=3)
    assert input_of(kept, optional=True) == task_output("d", "t", output="hourly", last=3, optional=True)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (task_output("d", "t"), "d/t"),
        (task_output("d", "t", team="x", output=["a", "b"], last=2), "x/d/t@last 2 (a, b)"),
        (task_output("d", "t", latest=True), "d/t@latest"),
        (task_output("d", "t", run=["2026-01-01", "2026-01-02"]), "d/t@2026-01-01,2026-01-02"),
    ],
)
def test_a_reference_is_shown_in_few_words(reference: OutputReference, text: str) -> None:
    assert str(reference) == text


def test_another_operator_cannot_read_an_output(dag: DAG) -> None:
    from airflow.providers.standard.operators.bash import BashOperator

    extract = Job(task_id="extract")
    shell: Any = BashOperator(task_id="shell", bash_command="true", env={"IT": extract.output})
    with pytest.raises(ConfigError, match="task 'shell' is a BashOperator, which cannot read the output of extract"):
        shell.render_template_fields({"task": shell})


def test_a_trigger_carries_references_as_plain_values() -> None:
    references = [
        task_output("d", "t", run=["2026-01-01"], map_indexes=[1, 2], output="a", optional=True),
        task_output("d", "u", latest=True),
    ]
    trigger = TaskOutputTrigger(
        key="/a/b/c/20260101T000000Z", references=[fields_of(one) for one in references], interval=1.0
    )
    path, told = trigger.serialize()
    assert path == "airflow_ops.triggers.TaskOutputTrigger"
    again = TaskOutputTrigger(**json.loads(json.dumps(told)))
    assert references_from(again.references) == references


# @task -----------------------------------------------------------------------------------------------------------------------------


def test_defaults_and_arguments_of_a_function_are_inputs(dag: DAG) -> None:
    extract = Job(task_id="extract")

    @task
    def first() -> None: ...

    @task
    def both(one: Any, two: Any = input_of(extract), *, three: int = 3) -> None: ...

    called(both, called(first))
    made: Any = dag.get_task("both")
    assert made.upstream_task_ids == {"extract", "first"}
    expected = {"one": OutputReference(task_id="first"), "two": OutputReference(task_id="extract")}
    assert declared_by(made) == Declared(expected, made.declared().outputs)


def test_a_writer_that_is_no_declared_output_is_an_error(dag: DAG) -> None:
    @task(outputs=["kept"])
    def split(out: Any = output_writer("other")) -> None: ...

    with pytest.raises(ConfigError, match=r"output_writer\('other'\) is none of its outputs"):
        called(split)


def test_values_spread_over_xcoms_are_no_outputs() -> None:
    with pytest.raises(ConfigError, match="name the outputs"):
        task(multiple_outputs=True)


def test_a_function_that_was_not_called_is_no_task() -> None:
    @task
    def extract() -> None: ...

    with pytest.raises(ConfigError, match="call it"):
        input_of(extract)


def test_readers_are_the_tasks_of_the_run_that_read(dag: DAG) -> None:
    extract = Job(task_id="extract")
    Job(task_id="one", inputs={"a": extract.output})
    Job(task_id="other_run", inputs={"a": task_output("flights", "extract", last=2)})
    reference_output("s3://raw/x", task_id="not")
    key = TaskKey("aviation", "flights", "extract", "20261123T080000Z")
    context: Any = {"dag": dag}
    assert readers_of(key, context) == [TaskKey("aviation", "flights", "one", "20261123T080000Z")]
