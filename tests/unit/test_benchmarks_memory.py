"""A process in a memory cgroup: it is limited, and afterwards nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.memory_cgroup import MemoryCgroup, why_not

_PROGRAM = """
import sys
from benchmarks.memory_cgroup import MemoryCgroup
group = MemoryCgroup(sys.argv[2], 64 << 20)
group.make()
group.enter()
held = bytearray(int(sys.argv[1]))
for at in range(0, len(held), 4096):
    held[at] = 1
print(next(int(line.split()[1]) << 10 for line in open('/proc/self/status') if line.startswith('VmHWM')))
group.leave()
group.remove()
"""


def _run(size: int, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PROGRAM, str(size), name]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_process_may_hold_as_much_as_its_cgroup_allows() -> None:
    if reason := why_not():
        pytest.skip(reason)
    done = _run(16 << 20, f"datalayer-test-{os.getpid()}-fits")
    assert done.returncode == 0, done.stderr
    assert 16 << 20 <= int(done.stdout) <= 64 << 20
    name = f"datalayer-test-{os.getpid()}-does-not"
    killed = _run(256 << 20, name)
    MemoryCgroup(name, 0).remove()
    assert killed.returncode < 0
