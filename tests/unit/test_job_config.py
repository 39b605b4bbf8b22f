"""The talk's `job_config`, verbatim."""

from __future__ import annotations

from typing import Any

import pytest

from datalayer import ConfigError, TaskKey
from datalayer.handoff.context import InputSpec, OutputSpec, decode_context
from datalayer.handoff.destinations import Destination, S3Place
from datalayer.handoff.job_config import context_from_job_config

KEY = TaskKey("team", "dag", "job", "20130101T000000Z")
DESTINATION = {"type": "s3", "data": {"bucket": "bucket", "path": "path", "aws_conn_id": "lake"}}
TALK = {
    "input": {"operators": [{"task_id": "task_1"}, {"task_id": "task_2"}]},
    "output": {"default": {"destinations": [DESTINATION]}},
}


def test_the_form_of_the_talk() -> None:
    context = context_from_job_config(TALK, KEY, owner="ti")
    assert context.key == str(KEY)
    assert context.inputs == {"task_1": InputSpec(), "task_2": InputSpec()}
    assert context.outputs == {"default": OutputSpec([Destination("s3", S3Place("bucket", "path", "lake"))])}
    assert context.owner == "ti"
    assert decode_context(context.encode()) == context


def test_what_may_be_left_out() -> None:
    context = context_from_job_config({}, KEY)
    assert (context.inputs, context.outputs) == ({}, {"default": OutputSpec()})


def test_an_alias_stands_for_another_task() -> None:
    operators = [
        {"task_id": "task_1"},
        {"task_id": "task_1", "alias": "again"},
        {"task_id": "x", "key": "/t/d/x/latest"},
    ]
    context = context_from_job_config({"input": {"operators": operators}}, KEY)
    assert context.inputs["again"].key == "/team/dag/task_1/20130101T000000Z"
    assert context.inputs["x"].key == "/t/d/x/latest"


def broken(**data: Any) -> dict[str, Any]:
    return {"output": {"default": {"destinations": [{"type": "s3", "data": {**DESTINATION["data"], **data}}]}}}  # type: ignore[dict-item]  # the wrong type is what is tested


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (broken(bucket=""), "job_config.output.default.destinations[0].data.bucket: '' is no bucket name"),
        (broken(bucket=7), "job_config.output.default.destinations[0].data.bucket: expected text, got 7"),
        (broken(path="a/../../b"), "job_config.output.default.destinations[0].data.path"),
        (broken(path="a//b"), "job_config.output.default.destinations[0].data.path"),
        (broken(path="a\nb"), "job_config.output.default.destinations[0].data.path"),
        (broken(path="a\\..\\b"), "job_config.output.default.destinations[0].data.path"),
        (broken(aws_conn_id=""), "job_config.output.default.destinations[0].data.aws_conn_id"),
        (broken(region="x"), "job_config.output.default.destinations[0].data.region: unknown key"),
        ({"output": {"default": {"destinations": [{"type": "s3"}]}}}, "destinations[0].data: is missing"),
        (
            {"output": {"default": {"destinations": [{**DESTINATION, "type": "ftp"}]}}},
            "destinations[0].type: expected 's3'",
        ),
        ({"output": {"a/b": {}}}, "output name 'a/b'"),
        ({"outputs": {}}, "job_config.outputs: unknown key; the keys are input, output"),
        ({"input": {"operators": [{"task": "x"}]}}, "job_config.input.operators[0].task: unknown key"),
        ({"input": {"operators": [{}]}}, "job_config.input.operators[0].task_id: is missing"),
        ({"input": {"operators": [{"task_id": ""}]}}, "job_config.input.operators[0].task_id: task_id is empty"),
        ({"input": {"operators": ["task_1"]}}, "job_config.input.operators[0]: expected an object, got 'task_1'"),
        (
            {"input": {"operators": [{"task_id": "a"}, {"task_id": "b", "alias": "a"}]}},
            "job_config.input.operators[1]: another input is called 'a' already",
        ),
    ],
)
def test_errors_name_the_field(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        context_from_job_config(config, KEY)
    assert said in str(caught.value)
