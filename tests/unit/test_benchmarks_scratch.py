"""Folders of the benchmarks: those of a killed run are removed by the next, and those of others stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.scratch import new_folder, prefix, remove_stale

_KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks.scratch import new_folder
(new_folder(Path(sys.argv[1])) / "large").write_bytes(b"data")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_only_the_folders_of_processes_that_ended_are_removed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    (stale,) = tmp_path.iterdir()
    own = new_folder(tmp_path)
    _, _, namespace, number, _ = stale.name.split("-", 4)
    elsewhere = tmp_path / stale.name.replace(namespace, "1")
    elsewhere.mkdir()
    unknown = tmp_path / "datalayer-bench-abcdefgh"
    unknown.mkdir()
    assert remove_stale(tmp_path) == [stale]
    assert sorted(tmp_path.iterdir()) == sorted([own, elsewhere, unknown])
    assert own.name.startswith(prefix())
    assert number not in prefix().split("-")
