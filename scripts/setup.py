"""Make `.venv` from the hashed lock, and `uv` before it where the cache has none.

Runs on a bare Python 3.11 with pip: only the standard library is imported. Safe to run twice at once on one machine.
A second run with nothing changed does nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
VENV = ROOT / ".venv"
# The lock is resolved for one platform, so that it holds one version of each package.
RESOLVE_FOR = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28")


def cache_dir() -> Path:
    """The folder outside the checkout for what is built or fetched once per version."""
    return Path(os.environ.get("DATALAYER_CACHE") or Path.home() / ".cache" / "datalayer").absolute()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, which the kernel drops when this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run(*command: str | Path) -> None:
    """Run a command from the top of the checkout.

    Raises:
        SystemExit: it ended with another exit code than 0; its own words are on stderr.
    """
    print("+", *command, flush=True)
    code = subprocess.run([str(word) for word in command], cwd=ROOT, check=False).returncode
    if code:
        raise SystemExit(f"setup: this command failed with exit code {code}: {' '.join(map(str, command))}")


def digest(*paths: Path) -> str:
    """One SHA-256, in hex, over the contents of some files."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(path.read_bytes())
    return whole.hexdigest()


def ensure_uv() -> Path:
    """Path of the pinned `uv`, which pip puts into the cache the first time."""
    pinned = REQUIREMENTS / "uv.txt"
    home = cache_dir() / "uv" / digest(pinned)[:16]
    uv = home / "bin" / "uv"
    with locked(home.with_suffix(".lock")):
        if uv.exists():
            return uv
        if subprocess.run([sys.executable, "-m", "pip", "--version"], check=False, capture_output=True).returncode:
            raise SystemExit(f"setup: {sys.executable} has no pip: apt-get install python3-pip, or PYTHON=…")
        fresh = Path(tempfile.mkdtemp(prefix=home.name + ".", dir=home.parent))
        try:
            install = ("install", "--quiet", "--require-hashes", "--only-binary=:all:", "--no-deps")
            run(sys.executable, "-m", "pip", *install, "--target", fresh, "-r", pinned)
            fresh.rename(home)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return uv


def lock(uv: Path) -> None:
    """Resolve the lock files anew. They name hashes, and no index."""
    common = (
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-header",
        "--quiet",
        "--system-certs",
        "--upgrade",
        *RESOLVE_FOR,
    )
    for source, target in (("uv.in", "uv.txt"), ("build.in", "build.txt")):
        run(uv, "pip", "compile", f"requirements/{source}", *common, "-o", f"requirements/{target}")
    run(uv, "pip", "compile", "pyproject.toml", "--extra", "dev", *common, "-o", "requirements/dev.txt")
    # Images hold the versions that the tests ran with.
    same = ("--constraints", "requirements/dev.txt")
    for name, extras in (("job", ["s3"]), ("spark", ["s3", "spark"]), ("airflow", ["s3", "airflow"])):
        chosen = [word for extra in extras for word in ("--extra", extra)]
        run(uv, "pip", "compile", "pyproject.toml", *chosen, *same, *common, "-o", f"requirements/{name}.txt")


def install(uv: Path) -> None:
    """Make `.venv` hold exactly the lock and an editable install of this checkout."""
    inputs = (REQUIREMENTS / "dev.txt", REQUIREMENTS / "build.txt", ROOT / "pyproject.toml", Path(__file__))
    stamp, wanted = VENV / "installed.sha256", digest(*inputs)
    with locked(cache_dir() / "venv" / f"{hashlib.sha256(os.fsencode(VENV)).hexdigest()[:16]}.lock"):
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print(f"setup: packages into {VENV.name}; a few minutes the first time, and quiet meanwhile", flush=True)
        if not (VENV / "bin" / "python").exists():
            run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV)
        # The machine's own certificates, as pip uses them: a company's proxy has its own.
        into = ("--quiet", "--system-certs", "--python", VENV / "bin" / "python")
        # Some dependencies are source distributions (PySpark): what builds them is pinned as well.
        build = ("--build-constraints", REQUIREMENTS / "build.txt")
        run(uv, "pip", "sync", *into, "--require-hashes", *build, REQUIREMENTS / "dev.txt")
        run(uv, "pip", "install", *into, "--no-deps", "--no-build-isolation", "--editable", ".")
        stamp.write_text(wanted)


def main() -> None:
    """Entry point of `make setup` and `make lock`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", action="store_true", help="resolve requirements/*.txt anew, install nothing")
    resolve = parser.parse_args().lock
    if sys.version_info[:2] != (3, 11):
        found = ".".join(map(str, sys.version_info[:2]))
        raise SystemExit(f"setup: Python 3.11 is needed, {sys.executable} is {found}: apt-get install python3.11")
    uv = ensure_uv()
    if resolve:
        lock(uv)
    else:
        install(uv)


if __name__ == "__main__":
    main()
