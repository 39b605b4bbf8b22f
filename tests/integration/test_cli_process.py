"""The installed command as a process of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from datalayer import DataLayer, TaskKey

DATALAYER = str(Path(sys.executable).with_name("datalayer"))
SHORT = "aviation/flights/extract@2013-01-01"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "store").mkdir()
    own = {name: value for name, value in os.environ.items() if not name.startswith("DATALAYER_")}
    return own | {"DATALAYER_DESIGN": "shared-fs", "DATALAYER_TIERS__SHARED__URL": str(tmp_path / "store")}


def datalayer(environ: dict[str, str], *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([DATALAYER, *arguments], env=environ, capture_output=True, check=False, **options)  # type: ignore[call-overload, no-any-return]  # options of run() are passed through


def test_help_loads_no_sdk_and_teaches_by_example(environ: dict[str, str]) -> None:
    script = """
import sys
sys.argv = ["datalayer", *sys.argv[1:]]
from datalayer.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code
heavy = {"obstore", "boto3", "botocore", "pyarrow", "fsspec", "pandas", "google_crc32c"} & set(sys.modules)
assert not heavy, heavy
"""
    commands = [
        "ls",
        "show",
        "resolve",
        "cat",
        "get",
        "put",
        "run",
        "pod",
        "deliver",
        "verify",
        "doctor",
        "sweep",
        "schema",
    ]
    ended = subprocess.run([sys.executable, "-c", script, "--help"], env=environ, capture_output=True, check=True)
    assert all(f" {command} " in ended.stdout.decode() for command in commands)
    for command in commands:
        ended = subprocess.run(
            [sys.executable, "-c", script, command, "--help"], env=environ, capture_output=True, check=True
        )
        assert f"datalayer {command}" in ended.stdout.decode().split("Usage:")[1].split("\n", 1)[1], command


def test_a_folder_goes_through_pipes(environ: dict[str, str], tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "x.bin").write_bytes(data)
    made = datalayer(environ, "put", SHORT, "x.bin", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, b"")
    assert datalayer(environ, "cat", SHORT).stdout == data


def test_a_reader_that_has_seen_enough_gets_no_complaint(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"x" * 20_000_000)
    datalayer(environ, "put", SHORT, "x.bin", cwd=tmp_path)
    with subprocess.Popen(
        [DATALAYER, "cat", SHORT], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as cat:
        assert cat.stdout is not None
        assert cat.stderr is not None
        assert cat.stdout.read(10) == b"x" * 10
        cat.stdout.close()
        assert cat.stderr.read() == b""


@pytest.mark.parametrize("arguments", [("verify", SHORT), ("verify", SHORT, "--json"), ("doctor",), ("sweep",)])
def test_progress_is_for_people(environ: dict[str, str], tmp_path: Path, arguments: tuple[str, ...]) -> None:
    layer = DataLayer.from_env({"design": "shared-fs", "tiers": {"shared": {"url": str(tmp_path / "store")}}})
    with layer.publish(TaskKey("aviation", "flights", "extract", "20130101T000000Z")) as attempt:
        attempt.output().put("x", b"1")
    assert datalayer(environ, *arguments).stderr == b""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [DATALAYER, *arguments], env=environ | {"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # The other end is closed.
            pass
        os.close(ours)
        assert process.stdout is not None
        process.stdout.read()
    assert process.returncode == 0
    assert bool(shown) == ("--json" not in arguments)
    if arguments == ("verify", SHORT):
        assert b"verifying" in shown


def test_wrong_usage_is_2(environ: dict[str, str]) -> None:
    assert datalayer(environ, "frobnicate").returncode == 2
    assert datalayer(environ, "cat").returncode == 2
