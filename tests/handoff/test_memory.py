"""Copied inputs and uploaded outputs take bounded memory, however large they are and however many."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from datalayer.handoff.context import InputSpec, context_config
from tests.behaviour.environment import environment_of
from tests.handoff.conftest import ROOT, s3_bench
from tests.services.s3server import S3Server

FILES = 5
SIZE = 96 << 20
LIMIT = 256 << 20
CHUNK = bytes(range(256)) * (4 << 12)


def test_large_files_are_copied_and_uploaded_under_256_mebibytes(versitygw: S3Server, tmp_path: Path) -> None:
    bench = s3_bench(versitygw, tmp_path / "work", "s3-poc")
    with bench.layer.publish(bench.key("extract")) as attempt:
        for number in range(FILES):
            with attempt.output().open(f"part-{number}") as file:
                for _ in range(SIZE // len(CHUNK)):
                    file.write(CHUNK)
    context = bench.context(inputs={"extract": InputSpec()}, config=context_config(bench.layer.config))
    (tmp_path / "context.json").write_bytes(context.encode())
    command = ["-m", "tests.handoff.wrapper_process", tmp_path / "context.json", tmp_path / "report.json"]
    job = ["sh", "-c", "mv $DATALAYER_IN/extract/default/* $DATALAYER_OUT/default/"]
    environ = environment_of(bench.layer)
    assert (
        subprocess.run([sys.executable, *map(str, command), *job], cwd=ROOT, env=environ, check=False).returncode == 0
    )
    assert int((tmp_path / "peak").read_text()) < LIMIT
    upstream, made = bench.layer.resolve(bench.key("extract")), bench.layer.resolve(bench.key("job"))
    assert made["default"].files == upstream["default"].files
    assert versitygw.folder is not None
    for large in versitygw.folder.rglob("part-*"):
        large.unlink()
