"""A layer under each storage design, and what a job on it needs in its environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from datalayer import Config, DataLayer, TaskKey
from datalayer.handoff.context import InputSpec, OutputSpec, TaskContext
from datalayer.handoff.runner import RunResult, run
from tests.behaviour.conftest import s3_config, volume_layer
from tests.behaviour.environment import environment_of
from tests.services.s3server import S3Server

RUN = "20130101T000000Z"
ROOT = Path(__file__).parents[2]


@dataclass
class Bench:
    """A layer, and runs of jobs on it."""

    layer: DataLayer
    work: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def key(self, task: str, run: str = RUN, map_index: int | None = None) -> TaskKey:
        return TaskKey("team", "dag", task, run, map_index)

    def publish(self, key: TaskKey, files: Mapping[str, bytes], output: str = "default") -> None:
        with self.layer.publish(key) as attempt:
            for name, data in files.items():
                attempt.output(output).put(name, data)

    def context(
        self, task: str = "job", inputs: dict[str, InputSpec] | None = None, outputs: Any = ("default",), **rest: Any
    ) -> TaskContext:
        declared = outputs if isinstance(outputs, dict) else {name: OutputSpec() for name in outputs}
        return TaskContext(key=str(self.key(task)), inputs=inputs or {}, outputs=declared, **rest)

    def run(self, context: TaskContext, *command: str, **rest: Any) -> RunResult:
        environment = {**self.environment, "PYTHONPATH": str(ROOT)}
        return run(context, command, layer=self.layer, work_dir=self.work, environment=environment, **rest)

    def shell(self, script: str, context: TaskContext | None = None, **rest: Any) -> RunResult:
        return self.run(context or self.context(), "sh", "-euc", script, **rest)

    def files(self, task: str = "job", output: str = "default") -> dict[str, bytes]:
        found = self.layer.resolve(self.key(task))[output]
        return {name: found.read_bytes(name) for name in found.files}

    def staged(self, task: str = "job") -> list[str]:
        """What lies in attempt folders besides claims."""
        found = self.layer.data.list(f"{self.key(task).path}/attempts")
        return [info.path for info in found if not info.path.endswith("/claim.json")]


def s3_bench(server: S3Server, work: Path, design: str) -> Bench:
    made = s3_config(server, server.new_bucket())
    hot = {"hot": {"url": str(work.parent / "hot"), "budget": "100MB"}} if design == "hot-cold" else {}
    document = hot | {
        "design": design,
        "tiers": {"cold": {"url": made.tiers["cold"].url, "connection": "test"}},
        "connections": {
            name: {key: getattr(connection, key) for key in connection.__struct_fields__}
            for name, connection in made.connections.items()
        },
    }
    layer = DataLayer(Config.from_mapping(document))
    secrets = {name: value for name, value in environment_of(layer).items() if "ACCESS_KEY" in name}
    # Under a design that copies, a job touches no store: it gets no keys here, so that one that tries fails.
    return Bench(layer, work, secrets if layer.design.in_place else {})


@pytest.fixture
def volume(tmp_path: Path) -> Bench:
    return Bench(volume_layer(tmp_path / "volume"), tmp_path / "work")


@pytest.fixture
def s3_direct(versitygw: S3Server, tmp_path: Path) -> Bench:
    return s3_bench(versitygw, tmp_path / "work", "s3-direct")


@pytest.fixture
def hot_cold(versitygw: S3Server, tmp_path: Path) -> Bench:
    """S3, and a cache folder of this machine."""
    return s3_bench(versitygw, tmp_path / "work", "hot-cold")


@pytest.fixture(params=["shared-fs", "s3-poc", "s3-direct", "hot-cold"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Each storage design in turn."""
    if request.param == "shared-fs":
        yield request.getfixturevalue("volume")
    else:
        yield s3_bench(request.getfixturevalue("versitygw"), tmp_path / "work", request.param)
