"""`@task`, sensors, hooks and publishing tasks in real runs: `dag.test()` on one machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datalayer import DataLayer, NotPublishedError, RunId, TaskKey
from datalayer.addresses.location import Location
from datalayer.config import Config, Connection
from datalayer.stores.base import Tier
from datalayer.stores.s3 import S3Store
from tests.airflow.dag_test import DagTest, Ran, dag_test_process
from tests.services.s3server import S3Server

TEAM = "aviation"
RUN = "20261123T080000Z"
DATE = "2026-11-23T08:00:00+00:00"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DagTest, Path]]:
    settings = tmp_path_factory.mktemp("settings") / "datalayer.toml"
    settings.write_text("")
    named = {"AIRFLOW__DATALAYER__TEAM": TEAM, "AIRFLOW__DATALAYER__CONFIG_FILE": str(settings)}
    with dag_test_process(named) as airflow:
        yield airflow, settings


@pytest.fixture
def airflow(process: tuple[DagTest, Path], tmp_path: Path) -> DagTest:
    """The process, on a volume of this test's own."""
    process[1].write_text(f'design = "shared-fs"\n[tiers.shared]\nurl = "{tmp_path / "volume"}"\n')
    (tmp_path / "volume").mkdir()
    return process[0]


@pytest.fixture
def layer(airflow: DagTest, process: tuple[DagTest, Path]) -> DataLayer:
    return DataLayer(Config.load(environ={"DATALAYER_CONFIG": str(process[1])}))


def key(dag_id: str, task_id: str, run: Any = RUN, map_index: int | None = None) -> TaskKey:
    return TaskKey(TEAM, dag_id, task_id, run, map_index)


def succeeded(ran: Ran) -> Ran:
    assert ran.state == "success", ran.log
    return ran


CHAIN = """
with DAG("chain", schedule=None, start_date=START):
    @task
    def extract():
        import pandas
        return pandas.DataFrame({"a": [1, 2, 3]})

    extracted = extract()

    @task(outlets=[Asset("few")])
    def few(flights=input_of(extracted)):
        return flights.dataset().to_table().slice(0, 2)

    @task
    def count(table):
        return {"rows": table.dataset().count_rows()}

    count(few())
"""


def test_a_function_reads_what_others_return(airflow: DagTest, layer: DataLayer) -> None:
    ran = succeeded(airflow.run(CHAIN, "chain"))
    found = layer.resolve(key("chain", "count"))
    assert found["default"].read_bytes("data.json") == b'{"rows": 2}'
    few = layer.resolve(key("chain", "few"))
    assert few["default"].output.rows == 2
    assert [(one.key, one.attempt) for one in few.manifest.inputs] == [(str(key("chain", "extract")), 1)]
    assert ran.xcoms["few/return_value"] == f"task://aviation/chain/few/{RUN}@1/default"
    assert ran.events == {
        "few": {
            "key": str(few.key),
            "attempt": 1,
            "digest": few.digest,
            "outputs": {"default": f"task://aviation/chain/few/{RUN}@1/default"},
        }
    }


def test_the_link_leads_to_the_output(airflow: DagTest, layer: DataLayer) -> None:
    ran = succeeded(airflow.run(CHAIN, "chain"))
    assert ran.xcoms["few/_link_datalayer_output"].endswith("/tasks/few/xcom")
    place = layer.resolve(key("chain", "few"))["default"].location
    assert ran.xcoms["few/datalayer_output"]["places"] == {"default": str(place)}


def test_a_run_without_a_logical_date_has_its_run_id_in_the_address(airflow: DagTest, layer: DataLayer) -> None:
    ran = succeeded(airflow.run(CHAIN, "chain", None))
    assert layer.resolve(key("chain", "count", RunId(ran.run_id)))["default"].read_bytes("data.json") == b'{"rows": 2}'
    assert layer.runs(TEAM, "chain", "count") == []


def test_under_a_design_that_copies_a_function_reads_copies(
    airflow: DagTest, process: tuple[DagTest, Path], versitygw: S3Server
) -> None:
    settings = process[1]
    settings.write_text(
        f'design = "s3-poc"\n[tiers.cold]\nurl = "s3://{versitygw.new_bucket()}/outputs"\nconnection = "lake"\n'
    )
    root = versitygw.root
    extra = {"endpoint_url": versitygw.endpoint, "region_name": versitygw.region}
    connection = json.dumps({"conn_type": "aws", "login": root.access_key, "password": root.secret_key, "extra": extra})
    source = (
        CHAIN
        + """
    @task
    def where(flights=input_of(extracted)):
        return flights.uri
    where()
"""
    )
    ran = succeeded(airflow.run(source, "chain", environment={"AIRFLOW_CONN_LAKE": connection}))
    assert root.secret_key not in ran.log
    environ = {"DATALAYER_CONFIG": str(settings)}
    known = {"access_key_id": root.access_key, "secret_access_key": root.secret_key}
    there = {"endpoint": versitygw.endpoint, "region": versitygw.region, **known}
    layer = DataLayer(Config.load({"connections": {"lake": there}}, environ=environ))
    assert layer.resolve(key("chain", "count"))["default"].read_bytes("data.json") == b'{"rows": 2}'
    copied = layer.resolve(key("chain", "where"))["default"].read_bytes("data.txt").decode()
    assert copied.startswith("file://")
    assert not Path(copied.removeprefix("file://")).exists()


SEVERAL = """
with DAG("several", schedule=None, start_date=START):
    @task(outputs=["kept", "dropped"])
    def split():
        return {"kept": b"12", "dropped": "three"}

    parts = split()

    @task
    def both(all=input_of(parts, output=["kept", "dropped"]), one=input_of(parts, output="kept"), out=output_writer()):
        assert sorted(all) == ["dropped", "kept"]
        out.put("joined", all["kept"].read_bytes("data.bin") + all["dropped"].read_bytes("data.txt"))
        with out.open("more/lines.txt", "w") as file:
            file.write(one.uri)
    both()
"""


def test_outputs_have_names_and_writers(airflow: DagTest, layer: DataLayer) -> None:
    succeeded(airflow.run(SEVERAL, "several"))
    found = layer.resolve(key("several", "both"))["default"]
    assert found.read_bytes("joined") == b"12three"
    assert found.read_bytes("more/lines.txt").decode() == f"task://aviation/several/split/{RUN}@1/kept"


def test_a_function_that_returns_other_outputs_than_declared_publishes_nothing(
    airflow: DagTest, layer: DataLayer
) -> None:
    ran = airflow.run(SEVERAL.replace('"dropped": "three"', '"other": "three"'), "several")
    assert ran.states() == {"split": "failed", "both": "upstream_failed"}
    assert "its function returns a dict with these keys, not dict with ['kept', 'other']" in ran.log
    with pytest.raises(NotPublishedError):
        layer.resolve(key("several", "split"))


def test_a_function_that_raises_leaves_nothing_behind(airflow: DagTest, layer: DataLayer) -> None:
    source = """
with DAG("raises", schedule=None, start_date=START):
    @task
    def broken(out=output_writer()):
        out.put("half.txt", b"half")
        raise ValueError("no")
    broken()
"""
    ran = airflow.run(source, "raises")
    assert ran.states() == {"broken": "failed"}
    with pytest.raises(NotPublishedError):
        layer.resolve(key("raises", "broken"))
    assert not [info.path for info in layer.data.list("") if info.path.endswith("half.txt")]


def test_a_function_that_returns_nothing_publishes_nothing(airflow: DagTest, layer: DataLayer) -> None:
    source = """
with DAG("sink", schedule=None, start_date=START, default_args={"retries": 2, "retry_delay": 0}):
    @task
    def sink(): ...
    @task
    def reader(it=input_of(sink())):
        return "never"
    reader()
"""
    ran = airflow.run(source, "sink")
    assert ran.states() == {"sink": "success", "reader": "failed"}
    assert ran.tasks["reader"]["tries"] == 1
    assert "input 'it': /aviation/sink/sink/20261123T080000Z has not been published" in ran.log


MAPPED = """
with DAG("mapped", schedule=None, start_date=START):
    @task
    def numbers():
        return [1, 2]

    @task
    def first():
        return "x"

    before = first()

    @task
    def square(n, text=input_of(before)):
        return {"square": n * n, "text": text.read_bytes("data.txt").decode()}

    squares = square.partial().expand(n=[1, 2, 3])

    @task
    def total(parts=input_of(squares)):
        import json
        return sum(json.loads(part.read_bytes("data.json"))["square"] for part in parts)
    total()
"""


def test_all_indexes_of_a_mapped_task_are_read(airflow: DagTest, layer: DataLayer) -> None:
    succeeded(airflow.run(MAPPED, "mapped"))
    assert layer.resolve(key("mapped", "total"))["default"].read_bytes("data.json") == b"14"
    second = layer.resolve(key("mapped", "square", map_index=1))
    assert second["default"].read_bytes("data.json") == b'{"square": 4, "text": "x"}'


def test_within_a_mapped_group_a_task_reads_its_own_index(airflow: DagTest, layer: DataLayer) -> None:
    source = """
from airflow.sdk import task_group
with DAG("grouped", schedule=None, start_date=START):
    @task
    def load(n):
        return n

    @task
    def double(it=None):
        return 2 * int(it.read_bytes("data.json"))

    @task_group
    def each(n):
        double(load(n))

    each.expand(n=[5, 7])
"""
    succeeded(airflow.run(source, "grouped"))
    found = [layer.resolve(key("grouped", "each.double", map_index=at)) for at in (0, 1)]
    assert [one["default"].read_bytes("data.json") for one in found] == [b"10", b"14"]


OTHER = """
with DAG("other", schedule=None, start_date=START):
    @task
    def load(ds=None, logical_date=None):
        return str(logical_date.day)
    load()
"""

READER = """
from airflow_ops.references import OutputReference
with DAG("reader", schedule=None, start_date=START, default_args={{"retries": {retries}, "retry_delay": 0}}):
    @task
    def read(it={reference}, ti=None):
        from pathlib import Path
        {then}
        several = it if isinstance(it, list) else [it]
        return [one and one.read_bytes("data.txt").decode() for one in several]
    read()
"""


def read(airflow: DagTest, reference: str, date: str | None = DATE, *, retries: int = 0, then: str = "pass") -> Ran:
    return airflow.run(READER.format(reference=reference, retries=retries, then=then), "reader", date)


def days(airflow: DagTest, *which: int) -> None:
    for day in which:
        succeeded(airflow.run(OTHER, "other", f"2026-11-{day:02}T08:00:00+00:00"))


def what_was_read(layer: DataLayer) -> Any:
    return json.loads(layer.resolve(key("reader", "read"))["default"].read_bytes("data.json"))


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ('task_output("other", "load")', ["23"]),
        ('task_output("other", "load", run="2026-11-21T08:00")', ["21"]),
        ('task_output("other", "load", run="{{ macros.ds_add(ds, -1) }}T08:00")', ["22"]),
        ('task_output("other", "load", run=["2026-11-21T08:00", "2026-11-24T08:00"])', ["21", "24"]),
        ('task_output("other", "load", last=2)', ["23", "22"]),
        ('task_output("other", "load", last=9)', ["23", "22", "21"]),
        ('task_output("other", "load", latest=True)', ["24"]),
        ('input_of(OutputReference(task_id="load", key="/aviation/other/load/20261122T080000Z"))', ["22"]),
        ('input_of(OutputReference(task_id="load", key="/aviation/other/load/latest"))', ["24"]),
        ('task_output("other", "gone", optional=True)', [None]),
        ('task_output("other", "gone", last=3, optional=True)', []),
    ],
)
def test_tasks_of_other_dags_are_read(airflow: DagTest, layer: DataLayer, reference: str, expected: list[Any]) -> None:
    days(airflow, 21, 22, 23, 24)
    succeeded(read(airflow, reference))
    assert what_was_read(layer) == expected


def test_without_a_logical_date_a_task_of_another_dag_has_to_say_its_run(airflow: DagTest) -> None:
    ran = read(airflow, 'task_output("other", "load")', None, retries=1)
    assert ran.tasks["read"] == {"state": "failed", "tries": 1}
    assert "inputs.it: other/load means the run of the same logical date, and this run (run_id-manual" in ran.log


def test_a_missing_task_of_another_dag_is_tried_again(airflow: DagTest) -> None:
    ran = read(airflow, 'task_output("other", "load")', retries=1)
    assert ran.tasks["read"] == {"state": "failed", "tries": 2}
    assert "input 'it': /aviation/other/load/20261123T080000Z has not been published" in ran.log


def test_a_retry_reads_what_the_first_try_found_and_a_clear_looks_anew(
    airflow: DagTest, layer: DataLayer, tmp_path: Path
) -> None:
    days(airflow, 21)
    newer_later = """
        if ti.try_number == 1:
            from airflow_ops.layers import open_layer
            from datalayer import TaskKey
            with open_layer().publish(TaskKey("aviation", "other", "load", "20261122T080000Z")) as attempt:
                attempt.output().put("data.txt", b"22")
            raise ValueError("again")
"""
    ran = succeeded(read(airflow, 'task_output("other", "load", latest=True)', retries=1, then=newer_later.strip()))
    assert ran.tasks["read"]["tries"] == 2
    assert what_was_read(layer) == ["21"]
    assert "These are the inputs that an earlier try has found" in ran.log
    succeeded(read(airflow, 'task_output("other", "load", latest=True)'))
    assert what_was_read(layer) == ["22"]


def test_a_retry_whose_inputs_are_gone_says_so_and_ends(airflow: DagTest) -> None:
    days(airflow, 23)
    gone = f"""
        from airflow_ops.layers import open_layer
        home = open_layer().home
        home.delete(info.path for info in list(home.list("aviation/other/load/{RUN}")))
        raise ValueError("again")
"""
    ran = read(airflow, 'task_output("other", "load")', retries=3, then=gone.strip())
    assert ran.tasks["read"] == {"state": "failed", "tries": 2}
    assert "An earlier try of this task read it; clear the task to have its inputs looked up anew" in ran.log


def test_all_indexes_of_a_mapped_task_of_another_dag_are_read(airflow: DagTest, layer: DataLayer) -> None:
    source = """
with DAG("parts", schedule=None, start_date=START):
    @task
    def part(n):
        return str(n)
    part.expand(n=[3, 4])
"""
    succeeded(airflow.run(source, "parts"))
    succeeded(read(airflow, 'task_output("parts", "part")'))
    assert what_was_read(layer) == ["3", "4"]
    succeeded(read(airflow, 'task_output("parts", "part", map_indexes=1)'))
    assert what_was_read(layer) == ["4"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_sensor_waits_for_the_commit(airflow: DagTest, layer: DataLayer, deferrable: bool) -> None:
    source = f"""
import threading
class Later(threading.Thread):
    def run(self):
        import time
        from airflow_ops.layers import open_layer
        from datalayer import TaskKey
        time.sleep(2)
        with open_layer().publish(TaskKey("aviation", "other", "load", "{RUN}")) as attempt:
            attempt.output().put("data.txt", b"there")

with DAG("waiting", schedule=None, start_date=START):
    @task
    def begin():
        Later().start()

    @task
    def read(it=task_output("other", "load")):
        return it.read_bytes("data.txt").decode()

    wait = TaskOutputSensor(
        task_id="wait", waits_for=task_output("other", "load"), deferrable={deferrable}, poke_interval=0.5, timeout=60
    )
    begin() >> wait >> read()
"""
    ran = succeeded(airflow.run(source, "waiting"))
    assert layer.resolve(key("waiting", "read"))["default"].read_bytes("data.txt") == b"there"
    assert f"Waiting: /aviation/other/load/{RUN} has not been published" in ran.log
    assert ("Pausing task as DEFERRED" in ran.log) is deferrable


def test_the_sensor_waits_for_so_many_runs(airflow: DagTest) -> None:
    source = """
with DAG("waiting", schedule=None, start_date=START):
    TaskOutputSensor(task_id="wait", waits_for=task_output("other", "load", last=2), poke_interval=0.1, timeout=0.2)
"""
    days(airflow, 22)
    ran = airflow.run(source, "waiting")
    assert ran.states() == {"wait": "failed"}
    assert "Waiting: other/load@last 2: 1 of 2 runs have committed" in ran.log
    days(airflow, 23)
    succeeded(airflow.run(source, "waiting"))


def test_a_sensor_whose_team_has_no_such_design_fails_at_once(airflow: DagTest, process: tuple[DagTest, Path]) -> None:
    source = """
with DAG("waiting", schedule=None, start_date=START, default_args={"retries": 2, "retry_delay": 0}):
    TaskOutputSensor(task_id="wait", waits_for=task_output("other", "load"), deferrable=True, timeout=60)
"""
    process[1].write_text('design = "gone"')
    ran = airflow.run(source, "waiting")
    assert ran.tasks["wait"] == {"state": "failed", "tries": 1}
    assert "ConfigError" in ran.log


def test_stock_operators_take_part(airflow: DagTest, process: tuple[DagTest, Path], tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    with process[1].open("a") as settings:
        settings.write(f'[[references]]\nprefix = "{raw}"\n')
    source = f"""
from airflow.providers.standard.operators.bash import BashOperator
with DAG("stock", schedule=None, start_date=START):
    dump = BashOperator(task_id="dump", bash_command="mkdir -p {raw}/{{{{{{{{ ds }}}}}}}} && echo 7 > {raw}/{{{{{{{{ ds }}}}}}}}/a.txt")
    where = BashOperator(task_id="where", bash_command="echo {raw}/{{{{{{{{ ds }}}}}}}}/a.txt")
    there = reference_output("{raw}/{{{{{{{{ ds }}}}}}}}", task_id="there")
    copied = publish_output(where.output, task_id="copied")
    dump >> [where, there]

    @task
    def add(one=input_of(there), two=input_of(copied)):
        return int(one.read_bytes("a.txt")) + int(two.read_bytes("a.txt"))
    sum = add()
    BashOperator(task_id="after", bash_command="echo {{{{{{{{ ti.xcom_pull('add') }}}}}}}}") << sum
""".replace("{{{{", "{{").replace("}}}}", "}}")
    succeeded(airflow.run(source, "stock"))
    layer = DataLayer(Config.load(environ={"DATALAYER_CONFIG": str(process[1])}))
    assert layer.resolve(key("stock", "add"))["default"].read_bytes("data.json") == b"14"
    kinds = [layer.resolve(key("stock", name))["default"].output.kind for name in ("there", "copied")]
    assert kinds == ["reference", "files"]


def test_files_of_a_bucket_are_published_with_a_connection_of_their_own(
    airflow: DagTest, layer: DataLayer, versitygw: S3Server
) -> None:
    bucket, root = versitygw.new_bucket(), versitygw.root
    extra = {"endpoint_url": versitygw.endpoint, "region_name": versitygw.region}
    login = {"login": root.access_key, "password": root.secret_key}
    connection = json.dumps({"conn_type": "aws", **login, "extra": extra})
    place = Connection(
        endpoint=versitygw.endpoint,
        region=versitygw.region,
        access_key_id=root.access_key,
        secret_access_key=root.secret_key,
    )
    store = S3Store(Location("s3", bucket), tier=Tier.COLD, connection=place)
    store.put("day/a.txt", b"a")
    store.put("day/more/b.txt", b"b")
    source = f"""
with DAG("published", schedule=None, start_date=START):
    publish_output("s3://{bucket}/day", task_id="folder", aws_conn_id="raw")
    publish_output("s3://{bucket}/", task_id="bucket", aws_conn_id="raw")
    publish_output("s3://{bucket}/day/more/b.txt", task_id="object", output="one", aws_conn_id="raw")
    publish_output("s3://{bucket}/nothing/", task_id="nothing", aws_conn_id="raw")
"""
    ran = airflow.run(source, "published", environment={"AIRFLOW_CONN_RAW": connection})
    assert ran.states() == {"folder": "success", "bucket": "success", "object": "success", "nothing": "failed"}, ran.log
    found = {name: layer.resolve(key("published", name)) for name in ("folder", "bucket", "object")}
    assert dict(found["folder"]["default"].read_many()) == {"a.txt": b"a", "more/b.txt": b"b"}
    assert dict(found["bucket"]["default"].read_many()) == {"day/a.txt": b"a", "day/more/b.txt": b"b"}
    assert dict(found["object"]["one"].read_many()) == {"b.txt": b"b"}


def test_a_coroutine_and_a_dag_that_renders_objects(airflow: DagTest, layer: DataLayer) -> None:
    days(airflow, 21)
    source = """
with DAG("objects", schedule=None, start_date=START, render_template_as_native_obj=True):
    @task
    async def read(it=task_output("other", "load", run="{{ logical_date.subtract(days=2) }}")):
        return it.read_bytes("data.txt").decode()
    read()
"""
    succeeded(airflow.run(source, "objects"))
    assert layer.resolve(key("objects", "read"))["default"].read_bytes("data.txt") == b"21"


def test_the_hook_reads_and_publishes(airflow: DagTest, layer: DataLayer) -> None:
    source = """
from airflow.sdk import task as stock
with DAG("hooked", schedule=None, start_date=START):
    @task
    def load():
        return "seven"

    @stock
    def own():
        hook = DataLayerHook()
        text = hook.read("hooked", "load").read_bytes("data.txt")
        with hook.publish() as attempt:
            attempt.output().put("upper.txt", text.upper())

    @stock
    def path():
        from airflow.sdk import ObjectStoragePath
        found = ObjectStoragePath("task://aviation/hooked/own/20261123T080000Z") / "default" / "upper.txt"
        with found.open("r") as file:
            assert file.read() == "SEVEN"
        return found.read_text()

    @stock.datalayer
    def last(it=input_of("own")):
        return it.read_bytes("upper.txt").decode() + "!"

    load() >> own() >> path() >> last()
"""
    ran = succeeded(airflow.run(source, "hooked"))
    assert ran.xcoms["path/return_value"] == "SEVEN"
    assert layer.resolve(key("hooked", "last"))["default"].read_bytes("data.txt") == b"SEVEN!"


def test_an_input_that_is_not_upstream_is_an_import_error(airflow: DagTest) -> None:
    source = """
with DAG("early", schedule=None, start_date=START):
    @task
    def first(): ...
    @task
    def second(it=input_of("first")): ...
    first()
    second()
"""
    (error,) = airflow.parse(source)["import_errors"]
    assert "task 'second' of the DAG 'early' reads 'first' of the same run as 'it', and does not wait for it" in error
    assert airflow.parse(source.replace("first()\n    second()", "first() >> second()"))["import_errors"] == []


def test_so_it_is_of_a_mapped_task(airflow: DagTest) -> None:
    source = """
from airflow_ops import ExecutionEnvironmentOperator as Job
with DAG("early", schedule=None, start_date=START):
    first = Job(task_id="first", image="any")
    second = Job.partial(
        task_id="second", image="any", job_config={"input": {"operators": [{"task_id": "first"}]}}
    ).expand(cmds=[["a"], ["b"]])
"""
    (error,) = airflow.parse(source)["import_errors"]
    assert "ConfigError: task 'second' of the DAG 'early' reads 'first' of the same run" in error
    assert airflow.parse(source + "    first >> second")["import_errors"] == []


def test_a_serialised_dag_shows_what_a_task_reads(airflow: DagTest) -> None:
    parsed = airflow.parse(CHAIN)
    assert parsed["import_errors"] == []
    assert parsed["tasks"]["few"]["op_kwargs"] == {"flights": "extract"}
    assert parsed["tasks"]["extract"]["downstream_task_ids"] == ["few"]
