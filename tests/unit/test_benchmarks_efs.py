"""The emulated EFS: a folder like any other, and as slow as its profile says."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

import benchmarks.efs
from benchmarks.efs import EFS, Efs, running_efs
from benchmarks.origin import Origin
from tests.services.s3server import S3Server

pytestmark = pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="no FUSE on this machine")


def test_a_folder_waits_as_its_profile_says_and_is_gone_at_the_end() -> None:
    with running_efs(Efs(read=0.02, write=0.05, total=20e6)) as folder:
        file = folder / "one"
        began = time.monotonic()
        # A lookup, the file's making, and what the close waits for.
        file.write_bytes(b"1")
        assert 0.12 <= time.monotonic() - began < 1
        began = time.monotonic()
        with file.open("wb") as writing:
            writing.write(bytes(10_000_000))
            os.fsync(writing.fileno())
        assert time.monotonic() - began >= 0.5
        assert file.stat().st_size == 10_000_000
        # A copy goes through the client: it is no faster.
        began = time.monotonic()
        shutil.copyfile(file, folder / "two")
        assert time.monotonic() - began >= 0.5
        assert (folder / "two").read_bytes() == bytes(10_000_000)
    assert not folder.exists()


def test_no_mount_is_left_behind() -> None:
    with running_efs(Efs(read=0, write=0, total=0)) as folder:
        (folder / "one").write_bytes(b"1")
    assert not folder.exists()
    assert not any(str(folder) in line for line in Path("/proc/mounts").read_text().splitlines())


def test_a_machine_without_fuse_is_told_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmarks.efs, "_FUSE", tmp_path / "fuse")
    with pytest.raises(RuntimeError, match="the emulated EFS needs .*fuse"), running_efs():
        pass


def test_a_workload_gets_a_folder_beside_its_bucket(versitygw: S3Server) -> None:
    origin = Origin(versitygw, versitygw.new_bucket("bench"))
    with pytest.raises(LookupError, match="set efs = True"):
        _ = origin.door.required_efs
    with origin.with_efs() as beside, beside.fronted() as (_, door):
        assert door.bucket == origin.door.bucket
        assert list(Path(door.required_efs).iterdir()) == []
    assert str(EFS) == "0.3 ms for a read operation, 2.7 ms for a write, 500 MiB/s in all"
