"""Programs that come with Debian's packages and not with this project's environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

FUSE = {"fusermount3": "fuse3"}


def installed(programs: Mapping[str, str]) -> list[str]:
    """Install what is missing of some programs, where this is Debian and we are root.

    Args:
        programs: Each program with the package that has it.

    Returns:
        The packages that this call installed.

    Raises:
        RuntimeError: something is missing and cannot be installed; names the packages.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return []
    packages = sorted({programs[program] for program in missing})
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    advice = f"{', '.join(missing)} missing: apt-get install --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise RuntimeError(advice)
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if any(shutil.which(program) is None for program in missing):
        raise RuntimeError(f"{advice} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return packages


def has_fuse() -> bool:
    """Whether the kernel lets us use FUSE. Then the tests do."""
    return os.access("/dev/fuse", os.R_OK | os.W_OK)
