"""What the demo needs on the machine: Java, and the Go program, built once into the cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from datalayer.errors import ConfigError
from spark_env.cache import made_once

SOURCE = Path(__file__).parent / "jobs" / "by_airport" / "main.go"
_PACKAGES = {"java": "openjdk-17-jre-headless", "go": "golang-go"}


def require(*programs: str) -> None:
    """Make sure that programs are on PATH.

    Raises:
        ConfigError: One is not; the message names the Debian package that has it.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        packages = " ".join(_PACKAGES[program] for program in missing)
        raise ConfigError(
            f"{' and '.join(missing)} {verb} missing, and the demo needs both: apt-get install {packages}"
        )


def by_airport() -> Path:
    """Return the path of the program of the task ``by_airport``, compiled the first time.

    Raises:
        ConfigError: Go is missing, or does not compile it.
    """

    def build(folder: Path) -> None:
        require("go")
        command = ["go", "build", "-o", str(folder / "by_airport"), str(SOURCE)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError(f"go build {SOURCE} failed with exit code {done.returncode}:\n{done.stderr}")

    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    return made_once(f"demo/by_airport-{digest}", build) / "by_airport"
