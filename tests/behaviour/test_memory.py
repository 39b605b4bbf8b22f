"""A large output is published and delivered in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from datalayer import Config, DataLayer
from tests.behaviour.conftest import s3_config
from tests.behaviour.environment import environment_of
from tests.services.s3server import S3Server

SIZE = 2 << 30
LIMIT = 256 << 20


@pytest.mark.parametrize("design", ["s3-direct", "shared-fs"])
def test_two_gibibytes_are_published_and_delivered_under_256_mebibytes(
    versitygw: S3Server, tmp_path: Path, design: str
) -> None:
    # From S3 a delivery is a copy on the server's side; from a volume it is streamed.
    config = s3_config(versitygw, versitygw.new_bucket(), timeout=60, deadline=120)
    if design == "shared-fs":
        (tmp_path / "volume").mkdir()
        tiers = {"shared": {"url": str(tmp_path / "volume")}}
        connection = config.connections["test"]
        fields = {name: getattr(connection, name) for name in connection.__struct_fields__}
        config = Config.from_mapping({"design": design, "tiers": tiers, "connections": {"test": fields}})
    bucket = versitygw.new_bucket("delivered")
    command = [sys.executable, "-m", "tests.behaviour.large_output", str(SIZE), bucket]
    environ = environment_of(DataLayer(config))
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < LIMIT
    assert versitygw.folder is not None
    delivered = versitygw.folder / bucket / "large" / "large.bin"
    assert delivered.stat().st_size == SIZE
    for lying in versitygw.folder.rglob("large.bin"):
        lying.unlink()
    for lying in tmp_path.rglob("large.bin"):
        lying.unlink()
